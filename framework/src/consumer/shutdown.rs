//! The other side road: how the application ends. `app/signals.rs` tells by what, and the exit codes.

use crate::base::backoff::after;
use crate::base::wake::Wake;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// One deadline for all of the application.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown(Arc<State>);

#[derive(Debug)]
struct State {
    deadline: Duration,
    until: OnceLock<Instant>,
    wakes: Mutex<Vec<Arc<Wake>>>,
}

impl Shutdown {
    pub(crate) fn new(deadline: Duration) -> Self {
        Self(Arc::new(State { deadline, until: OnceLock::new(), wakes: Mutex::default() }))
    }

    pub(crate) fn begin(&self) {
        self.0.until.get_or_init(|| after(self.0.deadline));
        self.wake_all();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.until.get().is_some()
    }

    /// Wakes this thread when it begins.
    pub(crate) fn wakes(&self, wake: &Arc<Wake>) {
        self.0.wakes.lock().unwrap_or_else(PoisonError::into_inner).push(wake.clone());
    }

    fn wake_all(&self) {
        self.0.wakes.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|wake| wake.wake());
    }

    pub(crate) fn left(&self) -> Duration {
        self.0.until.get().map_or(self.0.deadline, |until| until.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.has_begun() && self.left().is_zero()
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.0.deadline
    }
}
