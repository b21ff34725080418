//! A schema registry of one test, which it can stop without disturbing others.

use crate::Signal;
use crate::own::Own;

/// A server in a folder of its own, gone when dropped. It remembers its schemas while it is stopped.
#[derive(Debug)]
pub struct OwnRegistry(Own);

impl OwnRegistry {
    /// Makes it and starts it.
    pub fn start_new() -> Self {
        let registry = Self(Own::with_libs("registry"));
        registry.0.start_new("registry");
        registry
    }

    /// Starts it again where it was.
    pub fn start(&self) {
        self.0.ctl(&["start", "registry"]);
    }

    /// Stops it.
    pub fn stop(&self) {
        self.0.ctl(&["stop", "registry"]);
    }

    /// Kills it.
    pub fn kill(&self) {
        self.0.ctl(&["stop", "registry", "--kill"]);
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) {
        self.0.signal("STACK_PID_REGISTRY", signal);
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.0.variable("SCHEMA_REGISTRY_URL")
    }
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        self.0.remove(&["stop", "registry", "--kill"]);
    }
}
