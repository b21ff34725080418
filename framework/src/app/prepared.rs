//! Everything checked, nothing consumed; and then the consuming.

use super::command::Found;
use crate::Error;
use crate::config::Resolved;
use crate::consumer::assignment::Setup;
use crate::consumer::poll::Poller;
use crate::consumer::shutdown::Shutdown;
use crate::consumer::subscription::Subscription;
use crate::dedupe::Dedupe;
use crate::kafka::client_config::ClientSettings as _;
use crate::kafka::topics;
use crate::telemetry::health::Health;
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Everything checked, nothing consumed.
pub(super) struct Prepared {
    pub(super) config: Resolved,
    pub(super) dedupe: Dedupe,
    pub(super) setups: Vec<(Subscription, Setup)>,
    pub(super) health: Health,
    pub(super) shutdown: Shutdown,
    pub(super) stop: mpsc::UnboundedReceiver<Error>,
}

impl Prepared {
    /// The result of the checks, for the command `check`.
    pub(super) async fn found(&self) -> Result<Found, Error> {
        let (mut topics, mut patterns) = (BTreeMap::new(), Vec::new());
        for (subscription, _) in &self.setups {
            for topic in subscription.names() {
                let layout = topics::layout(&self.config, topic).await;
                let layout = layout.map_err(|e| self.config.failed(format!("look up topic `{topic}`"), e))?;
                topics.insert(topic.clone(), layout.partitions);
            }
            patterns.extend(subscription.patterns().map(str::to_owned));
        }
        Ok(Found {
            handlers: self.setups.iter().map(|(_, setup)| setup.handlers.len()).sum(),
            groups: self.setups.len(),
            topics,
            patterns,
            dedupe: self.config.dedupe,
        })
    }

    /// The background tasks of a running application. Dropping the handle ends them.
    pub(super) fn upkeep(&self) -> Option<AbortOnDropHandle<()>> {
        #[cfg(feature = "postgres")]
        if let Dedupe::Postgres(postgres) = &self.dedupe {
            let postgres = postgres.clone();
            let upkeep = async move { crate::dedupe::upkeep::keep(&postgres).await };
            return Some(AbortOnDropHandle::new(tokio::spawn(upkeep)));
        }
        let _ = &self.dedupe;
        None
    }

    pub(super) async fn consume(mut self, token: &CancellationToken) -> Result<(), Error> {
        // Also when the caller drops this future: no thread consumes on without it.
        let _end = EndOnDrop(self.shutdown.clone());
        let (ended, mut ends) = mpsc::unbounded_channel();
        let groups = self.setups.len();
        for (subscription, setup) in self.setups.drain(..) {
            let (config, shutdown, ended) = (self.config.clone(), self.shutdown.clone(), ended.clone());
            std::thread::Builder::new()
                .name(format!("onceward-{}", setup.group))
                .spawn(move || {
                    // A send fails only if the application was dropped meanwhile.
                    let _ = ended.send(
                        Poller::subscribe(&config, subscription, setup, shutdown).and_then(Poller::run),
                    );
                })
                .map_err(|error| Error::Internal {
                    what: "starting a poll thread".into(),
                    source: error.into(),
                })?;
        }
        drop(ended);
        let mut left = groups;
        let mut result = tokio::select! {
            () = token.cancelled() => {
                tracing::info!("shutting down");
                Ok(())
            }
            Some(error) = self.stop.recv() => Err(error),
            end = ends.recv() => {
                left -= 1;
                end.unwrap_or_else(|| Err(panicked()))
            }
        };
        self.health.ends(result.as_ref().err());
        self.shutdown.begin();
        while left > 0 {
            let end = ends.recv().await.unwrap_or_else(|| Err(panicked()));
            result = result.and(end);
            left -= 1;
        }
        result
    }
}

struct EndOnDrop(Shutdown);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.begin();
    }
}

fn panicked() -> Error {
    Error::Internal { what: "a poll thread".into(), source: "it panicked".into() }
}
