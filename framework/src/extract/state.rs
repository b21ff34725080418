//! What the application shares with its handlers.

use super::{FromRecord, Rejection};
use crate::Record;
use crate::publish::Publishing;
use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

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

    /// The state of this type, if one was given.
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        let state = self.states.get(&TypeId::of::<T>())?;
        Some(State(state.clone().downcast().ok()?))
    }
}

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
