//! Records of one assigned partition that were processed, but could not be recorded as
//! processed yet.

use crate::base::sync::lock;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Identities of work that is done, until that is noted: only the note is tried again, and no
/// handler is called again for them in this assignment.
#[derive(Debug, Default)]
pub(crate) struct Unmarked {
    /// So that work that is noted at once takes no lock.
    any: AtomicBool,
    done: Mutex<HashSet<(i32, u128)>>,
}

impl Unmarked {
    pub(crate) fn add(&self, scope: i32, keys: impl Iterator<Item = u128>) {
        let mut done = lock(&self.done);
        done.extend(keys.map(|key| (scope, key)));
        self.any.store(true, Ordering::Release);
    }

    pub(crate) fn contains(&self, scope: i32, key: u128) -> bool {
        self.any.load(Ordering::Acquire) && lock(&self.done).contains(&(scope, key))
    }

    pub(crate) fn remove(&self, scope: i32, keys: impl Iterator<Item = u128>) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut done = lock(&self.done);
        for key in keys {
            done.remove(&(scope, key));
        }
        self.any.store(!done.is_empty(), Ordering::Release);
    }
}
