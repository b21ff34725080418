//! Keeps batch reads apart from each other and from rebalances.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Poll;
use tokio::sync::Notify;

/// Held by the one that reads from a queue of the consumer, or by the poll thread while it serves
/// rebalances and changes the assignment.
///
/// Only running code has it, and no worker wakes another one: a lock that is handed over, or a task
/// that is woken, may stand behind a handler that blocks its thread.
#[derive(Debug, Default)]
pub(crate) struct ReadLock {
    lock: Mutex<()>,
    is_polling: AtomicBool,
    polled: Notify,
}

/// The lock is held.
#[derive(Debug)]
pub(crate) struct Reading<'l> {
    _guard: MutexGuard<'l, ()>,
}

/// The poll thread holds the lock.
#[derive(Debug)]
pub(crate) struct Polling<'l> {
    guard: Option<MutexGuard<'l, ()>>,
    lock: &'l ReadLock,
}

impl ReadLock {
    /// Reads, unless somebody else has the lock.
    pub(crate) fn try_read<T>(&self, read: impl FnOnce(&Reading<'_>) -> T) -> Option<T> {
        let guard = match self.lock.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(read(&Reading { _guard: guard }))
    }

    /// Reads when nobody else has the lock.
    pub(crate) async fn read<T>(&self, mut read: impl FnMut(&Reading<'_>) -> T) -> T {
        loop {
            // Listens before it looks, so that no release in between is missed.
            let polled = self.polled.notified();
            if let Some(found) = self.try_read(&mut read) {
                return found;
            }
            match self.is_polling.load(Ordering::Acquire) {
                true => polled.await,
                // Another worker's read takes microseconds.
                false => step_aside().await,
            }
        }
    }

    /// For the poll thread.
    pub(crate) fn poll(&self) -> Polling<'_> {
        self.is_polling.store(true, Ordering::Release);
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        Polling { guard: Some(guard), lock: self }
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        drop(self.guard.take());
        self.lock.is_polling.store(false, Ordering::Release);
        self.lock.polled.notify_waiters();
    }
}

/// Lets other tasks of this thread go first. Unlike `tokio::task::yield_now`, this stands where other
/// threads take tasks from, should one of those block this thread.
pub(crate) async fn step_aside() {
    let mut stepped = false;
    poll_fn(|context| {
        if std::mem::replace(&mut stepped, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn one_reads_at_a_time_and_a_handler_that_blocks_its_thread_holds_up_nobody() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (lock, is_held) = (Arc::<ReadLock>::default(), Arc::<AtomicBool>::default());
        let exclusively = move || {
            assert!(!is_held.swap(true, Ordering::AcqRel), "two at a time");
            thread::yield_now();
            is_held.store(false, Ordering::Release);
        };
        let (ended, ends) = mpsc::channel();
        let (unblock, blocked) = mpsc::channel::<()>();
        let polling = lock.poll();
        for reads in [5_000; 4] {
            let (lock, exclusively, ended) = (lock.clone(), exclusively.clone(), ended.clone());
            runtime.spawn(async move {
                for _ in 0..reads {
                    lock.read(|_| exclusively()).await;
                    step_aside().await;
                }
                ended.send(()).unwrap();
            });
        }
        let last = lock.clone();
        runtime.spawn(async move {
            last.read(|_| ()).await;
            blocked.recv().unwrap();
        });
        drop(polling);
        let poll_thread = thread::spawn(move || {
            for _ in 0..1_000 {
                let _polling = lock.poll();
                exclusively();
            }
        });
        poll_thread.join().unwrap();
        for _ in 0..4 {
            ends.recv_timeout(Duration::from_secs(60)).expect("a task waits for a release that was missed");
        }
        unblock.send(()).unwrap();
    }
}
