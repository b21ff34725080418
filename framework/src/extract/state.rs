//! What the application shares with its handlers.

#[cfg(feature = "schemas")]
use super::{Encoded, Part};
use super::{FromRecord, Rejection};
use crate::Record;
use crate::publish::Publishing;
#[cfg(feature = "schemas")]
use crate::schemas::{Absent, Framed, Schema, SchemaId, Schemas, compatibility::Reads, split};
use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
#[cfg(feature = "schemas")]
use std::sync::{Mutex, PoisonError};

/// A value that was given with [`App::state`](crate::App::state), shared by all
/// handlers.
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

/// What extractors may use beside the record: the application's states.
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
    pub(crate) async fn look_up(&self, id: SchemaId) -> Result<(), crate::BoxError> {
        match &self.schemas {
            Some(schemas) => schemas.look_up(id).await,
            None => Err(NO_REGISTRY.into()),
        }
    }

    /// Hands what follows the schema's id to `decode`, with the schema.
    #[cfg(feature = "schemas")]
    pub(crate) fn decode_by_schema<'b, T>(
        &self,
        encoded: Encoded<'b>,
        decode: impl FnOnce(&Schema, Framed<'b>) -> Result<T, String>,
    ) -> Result<T, Rejection> {
        let (part, headers) = (encoded.part(), encoded.record().headers());
        let (id, framed) = split(part, encoded.required()?, headers).map_err(Rejection::new)?;
        let schemas = self.schemas.as_ref().ok_or_else(|| Rejection::new(NO_REGISTRY))?;
        let problem = |what: &str| {
            Rejection::new(format!("the {} (schema id {id}): {what}", part.name())).by_schema(id)
        };
        match schemas.with(id, |schema| decode(schema, framed)) {
            Ok(decoded) => decoded.map_err(|what| problem(&what)),
            Err(Absent::Unknown(why)) => Err(problem(&why)),
            Err(Absent::NotLookedUp) => Err(Rejection::needs(id)),
        }
    }

    #[cfg(feature = "schemas")]
    pub(crate) fn schemas(&self) -> Option<Arc<Schemas>> {
        self.schemas.clone()
    }

    /// Says at startup that an extractor needs a registry and there is none, and notes what
    /// it reads.
    #[cfg(feature = "schemas")]
    pub(crate) fn needs_registry(&self, extractor: &str, part: Part, reads: Reads) -> Result<(), String> {
        let missing = || format!("it takes `{extractor}`, but {NO_REGISTRY}");
        self.schemas.as_ref().ok_or_else(missing)?;
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).push((part, reads));
        Ok(())
    }

    /// What was noted since this was last asked.
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
const NO_REGISTRY: &str =
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
