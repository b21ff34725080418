//! Fails a record whose handler runs for too long.

use super::{Delivery, Next, RecordMiddleware};
use crate::error::{ErrorKind, HandlerError};
use crate::{HandlerResult, Outcome};
use std::pin::pin;
use std::time::Duration;

/// Fails a record whose handler runs longer than a limit.
///
/// The failure is retryable. The handler's future is dropped, so it stops at its
/// next `.await`; the connection of its transaction is closed, which rolls back.
#[derive(Debug, Clone, Default)]
pub struct Timeout {
    limit: Option<Duration>,
}

impl Timeout {
    /// Gives each call of the handler at most `limit`, whatever the route says.
    pub fn new(limit: Duration) -> Self {
        Self { limit: Some(limit) }
    }

    /// Gives each call what the route's `timeout` says, and all the time it wants
    /// where that is not set.
    pub fn of_route() -> Self {
        Self::default()
    }
}

impl RecordMiddleware for Timeout {
    async fn call<'a, N: Next>(&'a self, delivery: Delivery<'a>, next: &'a N) -> HandlerResult<Outcome> {
        let limit = self.limit.or(delivery.timeout());
        let mut handling = pin!(next.run(delivery));
        let Some(limit) = limit else { return handling.await };
        // Boxed: large in a future that is made for each record, also for those without a limit.
        Box::pin(tokio::time::timeout(limit, handling.as_mut())).await.unwrap_or_else(|_| {
            Err(HandlerError::of_kind(ErrorKind::TimedOut, format!("the handler ran longer than {limit:?}")))
        })
    }
}
