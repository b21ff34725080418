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
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
#[cfg(feature = "schemas")]
use std::sync::{Mutex, PoisonError};

/// A value of [`App::state`](crate::App::state).
///
/// Each call gets its own clone, as in axum. So give a value that is cheap to clone and shares
/// its contents: an `Arc`, a pool of connections, a client. A clone that you keep sees what the
/// handlers do.
///
/// ```
/// use onceward::prelude::*;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[handler(topic = "flights", group = "miles")]
/// async fn on_flight(State(flights): State<Arc<AtomicU64>>) {
///     flights.fetch_add(1, Ordering::Relaxed);
/// }
///
/// let flights = Arc::new(AtomicU64::new(0));
/// let app = App::new().state(flights.clone()).handler(on_flight {});
/// // A test calls the function with the same value.
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// on_flight(State(flights.clone())).await;
/// # });
/// assert_eq!(flights.load(Ordering::Relaxed), 1);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct State<T>(pub T);

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for State<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A state, and the name of its type.
#[derive(Clone)]
struct Given {
    name: &'static str,
    value: Arc<dyn Any + Send + Sync>,
}

/// What extractors may use besides the record: the application's states.
#[derive(Clone, Default)]
pub struct Context {
    states: HashMap<TypeId, Given>,
    publishing: Option<Arc<Publishing>>,
    #[cfg(feature = "schemas")]
    schemas: Option<Arc<Schemas>>,
    /// What the extractors that were checked read by schemas.
    #[cfg(feature = "schemas")]
    reads: Arc<Mutex<Vec<(Part, Reads)>>>,
}

impl Context {
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, state: T) {
        self.states.insert(TypeId::of::<T>(), Given { name: type_name::<T>(), value: Arc::new(state) });
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

    /// Returns a clone of the state of this type, if one was given.
    pub fn state<T: Clone + 'static>(&self) -> Option<State<T>> {
        let given = self.states.get(&TypeId::of::<T>())?;
        given.value.downcast_ref().cloned().map(State)
    }

    /// Says that there is no state of this type, and which there are.
    fn missing<T>(&self) -> String {
        let wanted = type_name::<T>();
        let bare = without_arc(wanted);
        let other = self.states.values().find(|given| without_arc(given.name) == bare);
        let mut names: Vec<_> = self.states.values().map(|given| format!("`{}`", given.name)).collect();
        names.sort();
        match other {
            Some(Given { name, .. }) => format!(
                "it takes `State<{wanted}>`, but what was given with `App::state(..)` is a `{name}`; take \
                 `State<{name}>`, or give a `{wanted}`"
            ),
            None if names.is_empty() => format!(
                "it takes `State<{wanted}>`, but the application has no states; give it with `App::state(..)`"
            ),
            None => format!(
                "it takes `State<{wanted}>`, but the application has none of this type, only {}; give it with \
                 `App::state(..)`",
                names.join(", ")
            ),
        }
    }
}

/// The name of a type without the `Arc`s around it.
fn without_arc(mut name: &str) -> &str {
    let stripped = |name| str::strip_prefix(name, "alloc::sync::Arc<")?.strip_suffix('>');
    while let Some(inner) = stripped(name) {
        name = inner;
    }
    name
}

#[cfg(feature = "schemas")]
pub(crate) const NO_REGISTRY: &str =
    "no schema registry is set; give `SCHEMA_REGISTRY_URL` or `App::schema_registry(..)`";

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} states)", self.states.len())
    }
}

impl<'a, T: Clone + Send + Sync + 'static> FromRecord<'a> for State<T> {
    fn from_record(_: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        context.state().ok_or_else(|| Rejection::new(context.missing::<T>()))
    }

    fn check(context: &Context) -> Result<(), String> {
        context.state::<T>().map(|_| ()).ok_or_else(|| context.missing::<T>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Clone)]
    struct Plain;

    trait Repo: Send + Sync {
        fn name(&self) -> &'static str;
    }

    impl Repo for Plain {
        fn name(&self) -> &'static str {
            "plain"
        }
    }

    #[test]
    fn a_handle_that_is_kept_is_the_one_that_handlers_get() {
        let (mut context, kept) = (Context::default(), Arc::new(AtomicU64::new(0)));
        context.insert(kept.clone());
        let State(given) = context.state::<Arc<AtomicU64>>().unwrap();
        given.store(7, Ordering::Relaxed);
        assert_eq!(kept.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn a_trait_object_in_an_arc_is_a_state() {
        let mut context = Context::default();
        context.insert::<Arc<dyn Repo>>(Arc::new(Plain));
        assert_eq!(context.state::<Arc<dyn Repo>>().unwrap().name(), "plain");
    }

    #[test]
    fn a_state_of_another_type_is_named() {
        let check = |context: &Context| <State<Plain> as FromRecord<'_>>::check(context).unwrap_err();
        let (mut context, plain) = (Context::default(), type_name::<Plain>());
        assert!(check(&context).contains("has no states"));
        context.insert(5_u8);
        assert!(check(&context).ends_with("only `u8`; give it with `App::state(..)`"));
        context.insert(Arc::new(Plain));
        let there = format!("is a `alloc::sync::Arc<{plain}>`; take `State<alloc::sync::Arc<{plain}>>`");
        assert!(check(&context).contains(&there), "{}", check(&context));
        let mut context = Context::default();
        context.insert(Plain);
        let other = <State<Arc<Plain>> as FromRecord<'_>>::check(&context).unwrap_err();
        assert!(other.contains(&format!("take `State<{plain}>`")), "{other}");
    }
}
