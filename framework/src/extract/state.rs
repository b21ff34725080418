//! Values that the application shares with its handlers.

#[cfg(feature = "schemas")]
use super::Encoded;
use super::{FromRecord, Rejection};
use crate::Record;
#[cfg(feature = "schemas")]
use crate::error::lookup::{Lookup, Part, SchemaId};
use crate::publish::Publishing;
#[cfg(feature = "schemas")]
use crate::schemas::compatibility::{self, Reads};
#[cfg(feature = "schemas")]
use crate::schemas::{Absent, Framed, Schema, Schemas, split};
use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
#[cfg(feature = "schemas")]
use std::sync::{Mutex, PoisonError};

/// A value of [`App::state`](crate::App::state), shared by all handlers.
#[derive(Debug)]
pub struct State<T: ?Sized>(pub Arc<T>);

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What extractors may use besides the record: the application's states.
#[derive(Clone, Default)]
pub struct Context {
    states: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    publishing: Option<Arc<Publishing>>,
    #[cfg(feature = "schemas")]
    schemas: Option<Arc<Schemas>>,
    /// What the extractors that were checked read by schemas.
    #[cfg(feature = "schemas")]
    reads: Arc<Mutex<Vec<(Part, Reads)>>>,
}

impl Context {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, state: T) {
        self.states.insert(TypeId::of::<T>(), Arc::new(state));
    }

    pub(crate) fn set_publishing(&mut self, publishing: Arc<Publishing>) {
        self.publishing = Some(publishing);
    }

    pub(crate) fn publishing(&self) -> Option<Arc<Publishing>> {
        self.publishing.clone()
    }

    #[cfg(feature = "schemas")]
    pub(crate) fn set_schemas(&mut self, schemas: Option<Schemas>) {
        self.schemas = schemas.map(Arc::new);
    }

    /// What [`Rejection`] says is missing, looked up.
    #[cfg(feature = "schemas")]
    pub(crate) async fn look_up(&self, lookup: &Lookup) -> Result<(), crate::BoxError> {
        match &self.schemas {
            Some(schemas) => schemas.look_up(lookup).await,
            None => Err(NO_REGISTRY.into()),
        }
    }

    /// The same for a run, unless it is given away meanwhile. `before` is what was looked up just
    /// before: nothing is looked up twice in a row.
    #[cfg(feature = "schemas")]
    pub(crate) async fn look_up_next(
        &self,
        lookup: &Lookup,
        run: crate::Run<'_>,
        before: &mut Option<Lookup>,
    ) -> Result<(), crate::BoxError> {
        if before.as_ref() == Some(lookup) {
            return Err("a schema was looked up, and is still missing".into());
        }
        *before = Some(lookup.clone());
        tokio::select! {
            looked_up = self.look_up(lookup) => looked_up,
            () = run.is_to_drain() => Err("the partition is given away".into()),
        }
    }

    /// Hands what follows the schema's id to `decode`, with the schema.
    #[cfg(feature = "schemas")]
    pub(crate) fn decode_by_schema<'b, T>(
        &self,
        encoded: Encoded<'b>,
        decode: impl FnOnce(&Schema, Framed<'b>) -> Result<T, String>,
    ) -> Result<T, Rejection> {
        let (schemas, id, framed) = self.framed(encoded)?;
        match schemas.with(id, |schema| decode(schema, framed)) {
            Ok(decoded) => decoded.map_err(|what| self.problem(encoded, id, &what)),
            Err(Absent::Unknown(why)) => Err(self.problem(encoded, id, &why)),
            Err(Absent::NotLookedUp) => Err(Rejection::needs(Lookup::Schema(id))),
        }
    }

    /// Which version of its topic's subject the schema is that it names.
    #[cfg(feature = "schemas")]
    pub(crate) fn version_by_schema(&self, encoded: Encoded<'_>) -> Result<u32, Rejection> {
        let (schemas, id, framed) = self.framed(encoded)?;
        let (part, topic) = (encoded.part(), encoded.record().topic());
        // The subject may be that of the message, which its bytes name.
        let record_type = match schemas.with(id, |schema| schema.record_type(framed)) {
            Ok(record_type) => record_type,
            Err(Absent::Unknown(why)) => return Err(self.problem(encoded, id, &why)),
            Err(Absent::NotLookedUp) => return Err(Rejection::needs(Lookup::Schema(id))),
        };
        schemas.version(id, part, topic, record_type.as_deref()).map_err(|(absent, lookup)| match absent {
            Absent::Unknown(why) => self.problem(encoded, id, &why),
            Absent::NotLookedUp => Rejection::needs(lookup),
        })
    }

    /// The full name of what its schema describes, if it has one.
    ///
    /// # Errors
    /// If a schema must be looked up first.
    #[cfg(feature = "schemas")]
    pub(crate) fn record_type(&self, encoded: Encoded<'_>) -> Result<Option<String>, Lookup> {
        let Ok((schemas, id, framed)) = self.framed(encoded) else { return Ok(None) };
        match schemas.with(id, |schema| schema.record_type(framed)) {
            Ok(record_type) => Ok(record_type),
            Err(Absent::Unknown(_)) => Ok(None),
            Err(Absent::NotLookedUp) => Err(Lookup::Schema(id)),
        }
    }

    #[cfg(feature = "schemas")]
    fn framed<'b>(&self, encoded: Encoded<'b>) -> Result<(&Schemas, SchemaId, Framed<'b>), Rejection> {
        let headers = encoded.record().headers();
        let schemas = self.schemas.as_ref().ok_or_else(|| Rejection::new(NO_REGISTRY))?;
        let framing = schemas.framing;
        let (id, framed) =
            split(encoded.part(), encoded.required()?, headers, framing).map_err(Rejection::new)?;
        Ok((schemas, id, framed))
    }

    #[cfg(feature = "schemas")]
    fn problem(&self, encoded: Encoded<'_>, id: SchemaId, what: &str) -> Rejection {
        let part = encoded.part();
        let found =
            self.schemas.as_ref().and_then(|schemas| schemas.subject(id, part, encoded.record().topic()));
        let what = format!("the {} (schema id {id}): {what}", part.name());
        Rejection::new(what).by_schema(id, found.map(|found| found.subject))
    }

    #[cfg(feature = "schemas")]
    pub(crate) fn schemas(&self) -> Option<Arc<Schemas>> {
        self.schemas.clone()
    }

    /// Says at startup that an extractor needs a registry and there is none, and notes what
    /// it reads.
    #[cfg(feature = "schemas")]
    pub(crate) fn needs_registry(
        &self,
        extractor: &str,
        part: Part,
        reads: fn(&Schema) -> Result<(), String>,
    ) -> Result<(), String> {
        let missing = || format!("it takes `{extractor}`, but {NO_REGISTRY}");
        self.schemas.as_ref().ok_or_else(missing)?;
        let reads = Arc::new(move |schema: &Schema, _| reads(schema));
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).push((part, reads));
        Ok(())
    }

    /// The same, of an event's versions, which `check` notes one by one, the oldest first.
    #[cfg(feature = "schemas")]
    pub(crate) fn note_versions(
        &self,
        numbers: Vec<u32>,
        are_by_schema: bool,
        check: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        let before = self.take_reads();
        let checked = check();
        let (parts, each): (Vec<_>, Vec<_>) = self.take_reads().into_iter().unzip();
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        *reads = before;
        if let Some(part) = parts.first() {
            let versions = numbers.into_iter().zip(each).collect();
            reads.push((*part, compatibility::joined(versions, are_by_schema)));
        }
        checked
    }

    /// Takes the entries since the last call.
    #[cfg(feature = "schemas")]
    pub(crate) fn take_reads(&self) -> Vec<(Part, Reads)> {
        std::mem::take(&mut self.reads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The state of this type, if one was given.
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        let state = self.states.get(&TypeId::of::<T>())?;
        Some(State(state.clone().downcast().ok()?))
    }
}

#[cfg(feature = "schemas")]
pub(crate) const NO_REGISTRY: &str =
    "no schema registry is set; give `SCHEMA_REGISTRY_URL` or `App::schema_registry(..)`";

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} states)", self.states.len())
    }
}

impl<'a, T: Send + Sync + 'static> FromRecord<'a> for State<T> {
    fn from_record(_: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        context.state().ok_or_else(|| Rejection::new(missing::<T>()))
    }

    fn check(context: &Context) -> Result<(), String> {
        context.state::<T>().map(|_| ()).ok_or_else(missing::<T>)
    }
}

fn missing<T>() -> String {
    format!(
        "it takes `State<{0}>`, but the application has none; give it with `App::state(..)`",
        type_name::<T>()
    )
}
