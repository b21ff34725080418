//! Fails a record whose handler runs for too long.

use super::{Delivery, Next, RecordMiddleware};
use crate::error::{ErrorKind, HandlerError};
use crate::{HandlerResult, Outcome};
use futures_util::future::Either;
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
    /// Gives each call of the handler at most `limit`, whatever the route sets.
    pub fn new(limit: Duration) -> Self {
        Self { limit: Some(limit) }
    }

    /// Gives each call at most the route's `timeout`, or unlimited time if that is not set.
    pub fn of_route() -> Self {
        Self::default()
    }
}

impl RecordMiddleware for Timeout {
    #[inline(always)]
    fn call<'a, N: Next<'a>>(
        &'a self,
        delivery: Delivery<'a>,
        next: N,
    ) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a {
        let Some(limit) = self.limit.or(delivery.timeout()) else {
            return Either::Left(next.run(delivery));
        };
        // Boxed, so that calls without a limit are small.
        Either::Right(Box::pin(async move {
            tokio::time::timeout(limit, next.run(delivery)).await.unwrap_or_else(|_| {
                let text = format!("the handler ran longer than {limit:?}");
                Err(HandlerError::of_kind(ErrorKind::TimedOut, text))
            })
        }))
    }
}
