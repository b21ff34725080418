//! A PostgreSQL of one test, which it can stop without disturbing others.

use crate::own::Own;

/// A server in a folder of its own, gone when dropped.
#[derive(Debug)]
pub struct OwnPostgres(Own);

impl OwnPostgres {
    /// Makes it and starts it.
    pub fn start_new() -> Self {
        let postgres = Self(Own::beneath(&std::env::temp_dir(), "onceward-stack"));
        postgres.start();
        postgres
    }

    /// Starts it again where it was.
    pub fn start(&self) {
        self.0.ctl(&["start", "postgres"]);
    }

    /// Stops it without a checkpoint: the next start recovers, as after a crash.
    pub fn stop(&self) {
        self.0.ctl(&["stop", "postgres", "--immediate"]);
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.0.variable("DATABASE_URL")
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        self.0.remove(&["down", "--wipe"]);
    }
}
