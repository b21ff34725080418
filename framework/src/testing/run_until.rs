//! An application that runs beside a test.

use crate::{App, CancellationToken, Error};
use std::future::Future;
use std::pin::pin;

/// Runs an application until `done` is, then shuts it down; gives the error of
/// whichever failed. Where the application ends by itself, `done` is dropped.
///
/// [`TestBroker`](super::TestBroker) has an example.
///
/// # Errors
/// As [`App::run`], and that of `done`.
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
