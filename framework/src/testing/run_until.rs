//! Runs an application beside a test.

use crate::{App, CancellationToken, Error};
use std::future::Future;
use std::pin::pin;

/// Runs an application until `done` completes, then shuts it down. Returns the error of either.
/// If the application ends by itself, `done` is dropped.
///
/// [`TestBroker`](super::TestBroker) has an example.
///
/// # Errors
/// As [`App::run`], and the error of `done`.
pub async fn run_until(app: App, done: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let end = CancellationToken::new();
    let mut running = pin!(app.shutdown_on(end.clone()).run());
    let done = tokio::select! {
        ended = &mut running => return ended,
        done = done => done,
    };
    end.cancel();
    running.await.and(done)
}
