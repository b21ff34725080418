//! Schemas by which records are written: looked up in a registry, once each.
//!
//! Decoding never waits. What it needs and does not have it asks for by an error; whoever
//! decodes looks that up, outside of any transaction, and decodes again.

#[cfg(feature = "avro")]
pub(crate) mod avro;
mod answers;
mod client;
pub(crate) mod compatibility;
#[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
pub(crate) mod encoders;
#[cfg(feature = "protobuf")]
mod editions;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(feature = "json-schema")]
pub(crate) mod json;
#[cfg(feature = "json-schema")]
mod json_weight;
#[cfg(feature = "protobuf")]
pub(crate) mod protobuf;
#[cfg(all(test, feature = "protobuf"))]
mod protobuf_types;
mod references;
#[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
mod registration;
#[cfg(feature = "schemas-tls")]
mod tls;
#[cfg(feature = "avro")]
mod weight;
mod wire;

#[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
pub use registration::SubjectName;
pub(crate) use wire::{Framed, Framing, split};

use crate::config::schema_registry::SchemaRegistryConfig;
use crate::error::BoxError;
use crate::error::lookup::{Lookup, Part, SchemaId};
use arc_swap::ArcSwap;
use client::{Client, LookupError};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A schema as a version of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubjectVersion {
    pub(crate) subject: Arc<str>,
    pub(crate) version: u32,
}

/// The language of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SchemaFormat {
    /// Apache Avro.
    Avro,
    /// Protocol Buffers.
    Protobuf,
    /// JSON Schema.
    Json,
    /// What the registry says it is.
    Other(String),
}

impl fmt::Display for SchemaFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avro => "Avro",
            Self::Protobuf => "Protobuf",
            Self::Json => "JSON Schema",
            Self::Other(name) => name,
        })
    }
}

/// A schema of the registry.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) id: SchemaId,
    pub(crate) format: SchemaFormat,
    /// The full names of what it describes: one type, or of an Avro union all of its branches.
    pub(crate) record_types: Vec<Option<String>>,
    /// What decodes by it, or why nothing can.
    pub(crate) parsed: Result<Parsed, String>,
}

impl Schema {
    /// What decodes by it.
    pub(crate) fn parsed(&self) -> Result<&Parsed, String> {
        self.parsed.as_ref().map_err(Clone::clone)
    }

    /// The full name of what was written.
    pub(crate) fn record_type(&self, framed: Framed<'_>) -> Option<String> {
        let _ = framed;
        match self.parsed.as_ref().ok()? {
            #[cfg(feature = "protobuf")]
            Parsed::Protobuf(messages) => {
                let mut walk = messages.walk();
                framed.datum_of_message(|index| walk.step(index)).ok()?;
                Some(walk.name().to_owned())
            }
            #[cfg(feature = "avro")]
            Parsed::Avro(_) if self.record_types.len() > 1 => {
                let branch = wire::zigzag(framed.datum().ok()?)?;
                self.record_types.get(branch)?.clone()
            }
            _ => self.record_types.first()?.clone(),
        }
    }

    /// That the handler takes another format.
    pub(crate) fn is_not(&self, format: &str) -> String {
        format!("it is a schema of {}, and the handler takes {format}", self.format)
    }
}

/// A schema in the shape that decodes fastest.
#[derive(Debug)]
pub(crate) enum Parsed {
    #[cfg(feature = "avro")]
    Avro(Box<avro::Schema>),
    #[cfg(feature = "protobuf")]
    Protobuf(protobuf::Messages),
    #[cfg(feature = "json-schema")]
    Json(json::Schema),
    /// Of a format that this build does not decode.
    Not,
}

/// Why a schema is not at hand.
#[derive(Debug)]
pub(crate) enum Absent {
    /// It was not looked up yet.
    NotLookedUp,
    /// The registry does not know it.
    Unknown(Arc<str>),
}

/// The registry's schemas, as far as they were asked for.
///
/// Reading is one atomic load. Each is asked for once, by whoever comes first, and kept.
pub(crate) struct Schemas {
    client: Client,
    pub(crate) framing: Framing,
    known: ArcSwap<ById<Arc<Schema>>>,
    versions: ArcSwap<ById<Vec<InTopic>>>,
    unknown: Mutex<HashMap<Lookup, Unknown>>,
    under_way: Mutex<HashMap<Lookup, Arc<tokio::sync::Mutex<()>>>>,
    outage: Mutex<Option<Outage>>,
}

type ById<V> = HashMap<SchemaId, V, foldhash::fast::RandomState>;

/// What a schema is to the records of a topic.
#[derive(Clone)]
struct InTopic {
    part: Part,
    topic: Arc<str>,
    /// Of which record type, where the subject is asked for by it.
    record_type: Option<Arc<str>>,
    found: SubjectVersion,
}

struct Unknown {
    why: Arc<str>,
    until: Instant,
}

/// The registry does not answer, or asks to be left alone.
struct Outage {
    until: Instant,
    why: String,
}

/// The most schemas that are kept. A topic whose bytes are garbage names billions.
const MOST_KNOWN: usize = 10_000;
const MOST_UNKNOWN: usize = 1_000;
/// How long the registry's "no" is believed, at least.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// After this a "no" is asked for again before it counts: a registry's follower may not have
/// yet what the producer has registered.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// With so many ids unknown these are no late followers but garbage.
const FEW: usize = 8;
/// After an outage the registry is left alone for so long, where it does not say for how long.
const LEFT_ALONE_FOR: Duration = Duration::from_millis(250);
const LEFT_ALONE_AT_MOST: Duration = Duration::from_secs(60);

impl Schemas {
    /// Nothing is asked for yet.
    pub(crate) fn new(config: &SchemaRegistryConfig) -> Result<Option<Self>, crate::Error> {
        let has_wide_ids = match config.id_bytes {
            None | Some(4) => false,
            Some(8) => true,
            Some(_) => return Err(crate::Error::config("schema_registry.id_bytes", "is neither 4 nor 8")),
        };
        let has_plain_indexes = config.deprecated_message_indexes.unwrap_or_default();
        Ok(Client::new(config)?.map(|client| Self {
            client,
            framing: Framing { has_wide_ids, has_plain_indexes },
            known: ArcSwap::default(),
            versions: ArcSwap::default(),
            unknown: Mutex::default(),
            under_way: Mutex::default(),
            outage: Mutex::default(),
        }))
    }

    /// Hands a schema that is at hand to `use_it`.
    pub(crate) fn with<T>(&self, id: SchemaId, use_it: impl FnOnce(&Schema) -> T) -> Result<T, Absent> {
        if let Some(schema) = self.known.load().get(&id) {
            return Ok(use_it(schema));
        }
        Err(self.absent(&Lookup::Schema(id)))
    }

    /// Which version of a subject of the topic this schema is.
    ///
    /// # Errors
    /// What is absent, and what to look up.
    pub(crate) fn version(
        &self,
        id: SchemaId,
        part: Part,
        topic: &str,
        record_type: Option<&str>,
    ) -> Result<u32, (Absent, Lookup)> {
        let versions = self.versions.load();
        let is_it = |known: &&InTopic| {
            let is_of_type = match (&known.record_type, record_type) {
                (Some(known), Some(record_type)) => **known == *record_type,
                _ => true,
            };
            known.part == part && *known.topic == *topic && is_of_type
        };
        if let Some(known) = versions.get(&id).and_then(|known| known.iter().find(is_it)) {
            return Ok(known.found.version);
        }
        let lookup =
            Lookup::Version { id, part, topic: topic.into(), record_type: record_type.map(Into::into) };
        Err((self.absent(&lookup), lookup))
    }

    /// The subject of the topic that has this schema, as far as it was asked for.
    pub(crate) fn subject(&self, id: SchemaId, part: Part, topic: &str) -> Option<SubjectVersion> {
        let versions = self.versions.load();
        let here = versions.get(&id)?.iter().find(|known| known.part == part && *known.topic == *topic);
        here.map(|known| known.found.clone())
    }

    fn absent(&self, lookup: &Lookup) -> Absent {
        let unknown = lock(&self.unknown);
        match unknown.get(lookup).filter(|unknown| unknown.until > Instant::now()) {
            Some(unknown) => Absent::Unknown(unknown.why.clone()),
            None => Absent::NotLookedUp,
        }
    }

    /// Looks something up, unless somebody did meanwhile. Then it is known, or known to be
    /// unknown.
    ///
    /// # Errors
    /// Where the registry cannot be asked.
    pub(crate) async fn look_up(&self, lookup: &Lookup) -> Result<(), BoxError> {
        let turn = lock(&self.under_way).entry(lookup.clone()).or_default().clone();
        let _mine = turn.lock().await;
        let found = if self.is_settled(lookup) { Ok(()) } else { self.ask(lookup).await };
        lock(&self.under_way).remove(lookup);
        found
    }

    async fn ask(&self, lookup: &Lookup) -> Result<(), BoxError> {
        self.is_left_alone()?;
        let mut answer = self.find(lookup).await;
        let now = Instant::now();
        let are_few = lock(&self.unknown).values().filter(|unknown| unknown.until > now).count() < FEW;
        if are_few && matches!(answer, Err(LookupError::Unknown(_))) {
            tokio::time::sleep(ASKED_AGAIN_AFTER).await;
            answer = self.find(lookup).await;
        }
        match answer {
            Ok(()) => {}
            Err(LookupError::Unknown(why)) => self.keep_unknown(lookup.clone(), why),
            Err(LookupError::Outage { source, retry_after }) => {
                let time = retry_after.unwrap_or(LEFT_ALONE_FOR).min(LEFT_ALONE_AT_MOST);
                let why = describe(&*source);
                *lock(&self.outage) = Some(Outage { until: Instant::now() + time, why });
                return Err(source);
            }
        }
        *lock(&self.outage) = None;
        Ok(())
    }

    /// Asks once, and keeps what is found.
    async fn find(&self, lookup: &Lookup) -> Result<(), LookupError> {
        match lookup {
            Lookup::Schema(id) => self.keep(self.client.schema(*id).await?),
            Lookup::Version { id, part, topic, record_type } => {
                let found = self.client.version(*id, *part, topic, record_type.as_deref()).await?;
                self.keep_version(*id, *part, topic.clone(), record_type.clone(), found);
            }
        }
        Ok(())
    }

    fn is_settled(&self, lookup: &Lookup) -> bool {
        let absent = match lookup {
            Lookup::Schema(id) => self.with(*id, |_| ()).err(),
            Lookup::Version { id, part, topic, record_type } => {
                self.version(*id, *part, topic, record_type.as_deref()).err().map(|(absent, _)| absent)
            }
        };
        !matches!(absent, Some(Absent::NotLookedUp))
    }

    fn is_left_alone(&self) -> Result<(), BoxError> {
        match &*lock(&self.outage) {
            Some(outage) if outage.until > Instant::now() => Err(outage.why.clone().into()),
            _ => Ok(()),
        }
    }

    fn keep(&self, schema: Schema) {
        let schema = Arc::new(schema);
        self.known.rcu(|known| {
            let mut known = if known.len() < MOST_KNOWN { (**known).clone() } else { HashMap::default() };
            known.insert(schema.id, schema.clone());
            known
        });
    }

    fn keep_version(
        &self,
        id: SchemaId,
        part: Part,
        topic: Arc<str>,
        record_type: Option<Arc<str>>,
        found: SubjectVersion,
    ) {
        let here = InTopic { part, topic, record_type, found };
        self.versions.rcu(|known| {
            let mut known = if known.len() < MOST_KNOWN { (**known).clone() } else { HashMap::default() };
            known.entry(id).or_default().push(here.clone());
            known
        });
    }

    fn keep_unknown(&self, lookup: Lookup, why: String) {
        let now = Instant::now();
        let mut unknown = lock(&self.unknown);
        unknown.retain(|_, unknown| unknown.until > now);
        if unknown.len() >= MOST_UNKNOWN {
            unknown.clear();
        }
        // They come in bursts, and shall not be asked for in bursts again.
        let until = now + UNKNOWN_FOR + UNKNOWN_FOR.mul_f32(fastrand::f32() / 5.0);
        unknown.insert(lookup, Unknown { why: why.into(), until });
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schemas({} known)", self.known.load().len())
    }
}

/// The full name of what an Avro schema or, as its title, a JSON Schema describes.
fn record_type_of(schema: &str) -> Option<String> {
    named(&serde_json::from_str(schema).ok()?)
}

/// The same; of an Avro union that of each branch.
fn record_types_of(schema: &str) -> Vec<Option<String>> {
    match serde_json::from_str(schema) {
        Ok(Value::Array(branches)) => branches.iter().map(named).collect(),
        Ok(one) => vec![named(&one)],
        Err(_) => Vec::new(),
    }
}

fn named(schema: &Value) -> Option<String> {
    // In a union that is a reference, or a type that needs no name.
    if let Value::String(name) = schema {
        const UNNAMED: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
        return (!UNNAMED.contains(&&**name)).then(|| name.clone());
    }
    let text = |field: &str| schema.get(field).and_then(Value::as_str);
    let name = text("name").or_else(|| text("title"))?;
    Some(match text("namespace") {
        Some(namespace) if !name.contains('.') && !namespace.is_empty() => format!("{namespace}.{name}"),
        _ => name.to_owned(),
    })
}

/// An error with its causes, in one line.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    crate::error::text::in_one_line(error).to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_a_full_name() {
        let name = |text| record_type_of(text).unwrap_or_default();
        assert_eq!(name(r#"{"type": "record", "name": "B", "namespace": "c", "fields": []}"#), "c.B");
        assert_eq!(name(r#"{"type": "record", "name": "a.B", "namespace": "c", "fields": []}"#), "a.B");
        assert_eq!(name(r#"{"title": "Order", "type": "object"}"#), "Order");
        assert_eq!(record_type_of("\"string\""), None);
        assert_eq!(record_types_of(r#"["A", "c.B", "null"]"#), [Some("A".into()), Some("c.B".into()), None]);
    }

    fn schemas() -> Schemas {
        Schemas::new(&SchemaRegistryConfig::at("http://127.0.0.1:1")).unwrap().unwrap()
    }

    fn schema(number: u32) -> Schema {
        let (id, format) = (SchemaId::Number(number), SchemaFormat::Avro);
        Schema { id, format, record_types: Vec::new(), parsed: Ok(Parsed::Not) }
    }

    #[test]
    fn what_is_known_has_an_end() {
        let schemas = schemas();
        let most = u32::try_from(MOST_KNOWN).unwrap();
        let all = (1..most).map(|number| (SchemaId::Number(number), Arc::new(schema(number))));
        schemas.known.store(Arc::new(all.collect()));
        for number in [most, most + 1] {
            schemas.keep(schema(number));
            assert!(schemas.known.load().len() <= MOST_KNOWN);
            assert!(schemas.with(SchemaId::Number(number), |_| ()).is_ok(), "the newest is at hand");
        }
        let version = SubjectVersion { subject: "t-value".into(), version: 1 };
        let here =
            InTopic { part: Part::Value, topic: "t".into(), record_type: None, found: version.clone() };
        let all = (1..most).map(|number| (SchemaId::Number(number), vec![here.clone()]));
        schemas.versions.store(Arc::new(all.collect()));
        for number in [most, most + 1] {
            schemas.keep_version(SchemaId::Number(number), Part::Value, "t".into(), None, version.clone());
            assert!(schemas.versions.load().len() <= MOST_KNOWN);
            let found = schemas.version(SchemaId::Number(number), Part::Value, "t", None);
            assert!(matches!(found, Ok(1)));
        }
    }

    #[test]
    fn what_is_unknown_has_an_end_and_is_not_asked_for_again_all_at_once() {
        let schemas = schemas();
        let lookup = |number| Lookup::Schema(SchemaId::Number(number));
        let most = u32::try_from(MOST_UNKNOWN).unwrap();
        let before = Instant::now();
        for number in 1..=most {
            schemas.keep_unknown(lookup(number), "no".into());
        }
        let longest = UNKNOWN_FOR.mul_f32(1.2) + before.elapsed();
        let times: Vec<_> = lock(&schemas.unknown).values().map(|unknown| unknown.until - before).collect();
        assert_eq!(times.len(), MOST_UNKNOWN);
        let (first, last) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
        assert!(first >= UNKNOWN_FOR && last <= longest, "{first:?} to {last:?}");
        assert!(last - first > UNKNOWN_FOR / 10, "{first:?} to {last:?}");
        schemas.keep_unknown(lookup(most + 1), "no".into());
        assert!(lock(&schemas.unknown).len() <= MOST_UNKNOWN);
        assert!(matches!(schemas.absent(&lookup(most + 1)), Absent::Unknown(_)), "the newest is believed");
    }

    #[test]
    fn a_no_is_believed_for_its_time_and_not_kept_for_longer() {
        let schemas = schemas();
        let lookup = |number| Lookup::Schema(SchemaId::Number(number));
        schemas.keep_unknown(lookup(1), "no".into());
        assert!(matches!(schemas.absent(&lookup(1)), Absent::Unknown(_)));
        lock(&schemas.unknown).get_mut(&lookup(1)).unwrap().until = Instant::now();
        assert!(matches!(schemas.absent(&lookup(1)), Absent::NotLookedUp));
        schemas.keep_unknown(lookup(2), "no".into());
        assert_eq!(lock(&schemas.unknown).len(), 1);
    }
}
