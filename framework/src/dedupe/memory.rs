//! What has been done, in this process only.

use super::{Claim, State};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

/// Remembers the last identities in memory.
///
/// For demos, tests, and handlers whose duplicates are cheap: a restart or
/// another instance of the service knows nothing of them.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    scopes: AtomicI32,
    done: Mutex<Done>,
}

#[derive(Debug, Default)]
struct Done {
    known: HashMap<(i32, u128), State>,
    oldest_first: VecDeque<(i32, u128)>,
}

impl Memory {
    /// Remembers up to `limit` identities, the oldest forgotten first.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, scopes: AtomicI32::default(), done: Mutex::default() }
    }

    /// Numbers for so many handlers. No other handler gets them, of whatever group:
    /// two that shared one would each miss what the other did.
    pub(crate) fn scopes(&self, handlers: usize) -> Vec<i32> {
        (0..handlers).map(|_| self.scopes.fetch_add(1, Ordering::Relaxed)).collect()
    }

    pub(super) fn seen(&self, scope: i32, claims: &[Claim]) -> Vec<bool> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let is_done = |claim: &Claim| match done.known.get(&(scope, claim.identity.key)) {
            Some(State::DeadLettered) => !claim.redriven,
            Some(State::Done) => true,
            None => false,
        };
        claims.iter().map(is_done).collect()
    }

    pub(super) fn mark(&self, scope: i32, claims: &[Claim], state: State) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        for claim in claims {
            let entry = (scope, claim.identity.key);
            if done.known.insert(entry, state).is_none() {
                done.oldest_first.push_back(entry);
            }
            if done.oldest_first.len() > self.limit
                && let Some(oldest) = done.oldest_first.pop_front()
            {
                done.known.remove(&oldest);
            }
        }
    }
}
