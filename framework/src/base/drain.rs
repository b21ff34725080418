//! A flag: the partition is being revoked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Set once, looked at for every record, and waited for.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    begun: AtomicBool,
    notify: Notify,
}

impl Drain {
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Waits until it begins.
    pub(crate) async fn begun(&self) {
        // Listens before it looks, so that a begin in between is not missed.
        let notified = self.notify.notified();
        if !self.has_begun() {
            notified.await;
        }
    }

    /// Waits for `delay`, or until it begins.
    pub(crate) async fn wait(&self, delay: Duration) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.begun() => {}
        }
    }
}
