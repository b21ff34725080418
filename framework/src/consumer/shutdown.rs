//! The other side road: how the application ends.
//!
//! | what | exit code of a `main` that returns `App::run`'s result |
//! |---|---|
//! | SIGTERM, SIGINT or the token, all work finished and committed | 0 |
//! | an error, or work that did not finish within `shutdown_deadline` | 1 |
//! | a second signal while shutting down: ends at once, commits nothing more | 128 + its number |

use crate::Error;
use crate::base::backoff::after;
use crate::base::wake::Wake;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

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

/// Waits for SIGTERM, SIGINT or the token. From then on a second signal ends the
/// process at once.
pub(crate) async fn requested(token: &CancellationToken) -> Result<(), Error> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Error::Internal { what: "listening for signals".into(), source: error.into() })
    };
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => tracing::info!("SIGTERM: shutting down"),
        _ = int.recv() => tracing::info!("SIGINT: shutting down"),
        () = token.cancelled() => tracing::info!("shutting down"),
    }
    tokio::spawn(async move {
        let number = tokio::select! {
            _ = term.recv() => SignalKind::terminate().as_raw_value(),
            _ = int.recv() => SignalKind::interrupt().as_raw_value(),
        };
        tracing::warn!("second signal: ending at once");
        std::process::exit(128 + number);
    });
    Ok(())
}
