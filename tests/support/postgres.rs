//! A PostgreSQL of one test, which it can stop without disturbing others.

use crate::own::{Own, Ports};
use std::sync::{Mutex, PoisonError};

/// A server in a folder of its own, gone when dropped.
#[derive(Debug)]
pub struct OwnPostgres {
    own: Own,
    /// While it is stopped, so that it finds its port free again.
    ports: Mutex<Option<Ports>>,
}

impl OwnPostgres {
    /// Makes it and starts it.
    pub fn start_new() -> Self {
        let own = Own::beneath(&std::env::temp_dir(), "onceward-stack");
        let postgres = Self { own, ports: Mutex::default() };
        postgres.own.start_new("postgres");
        postgres
    }

    /// Starts it again where it was.
    pub fn start(&self) {
        self.own.ctl(&["start", "postgres"]);
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Stops it without a checkpoint: the next start recovers, as after a crash.
    pub fn stop(&self) {
        let ports = Ports::take();
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).replace(ports);
        self.own.ctl(&["stop", "postgres", "--immediate"]);
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.own.variable("DATABASE_URL")
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        self.own.remove(&["down", "--wipe"]);
    }
}
