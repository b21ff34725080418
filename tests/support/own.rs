//! Where `stack/ctl` keeps a server of one test.

use crate::program::send;
use crate::{Signal, Stack, unique};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

/// The right to begin to listen on a port, until it is dropped. Two that look for free ports at once would
/// find the same, and a server that is stopped for a while would find its own taken.
#[derive(Debug)]
pub(crate) struct Ports;

static TAKEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

impl Ports {
    pub(crate) fn take() -> Self {
        let taken = TAKEN.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = TAKEN.1.wait_while(taken, |taken| *taken);
        *free.unwrap_or_else(PoisonError::into_inner) = true;
        Self
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        *TAKEN.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        TAKEN.1.notify_one();
    }
}

/// A folder with a server of one test.
#[derive(Debug)]
pub(crate) struct Own {
    folder: PathBuf,
}

impl Own {
    /// A folder in this one.
    pub(crate) fn beneath(parent: &Path, name: &str) -> Self {
        Self { folder: parent.join(unique(name)) }
    }

    /// A folder for a server that runs from what `stack/install` has put into the folder of all.
    pub(crate) fn with_libs(server: &str) -> Self {
        let target = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tmp"));
        let mut own = Self::beneath(target, server);
        std::fs::create_dir_all(own.folder.join(server)).expect("a folder");
        own.folder = own.folder.canonicalize().expect("it is there");
        let libs = Path::new(server).join("libs");
        let shared = std::env::var("STACK_DIR").expect("set where KAFKA_BROKERS is");
        std::os::unix::fs::symlink(Path::new(&shared).join(&libs), own.folder.join(&libs)).expect("a link");
        own
    }

    /// Starts a server for the first time.
    pub(crate) fn start_new(&self, server: &str) {
        let _ports = Ports::take();
        self.ctl(&["start", server]);
    }

    /// Runs `stack/ctl` on it.
    pub(crate) fn ctl(&self, words: &[&str]) {
        let mut command = Stack::ctl_command(words);
        command.env("STACK_DIR", &self.folder);
        // Those are of the stack that all tests share.
        for variable in ["ONCEWARD_STACK", "STACK_KAFKA_PORT", "STACK_POSTGRES_PORT", "STACK_REGISTRY_PORT"] {
            command.env_remove(variable);
        }
        let status = command.status().expect("stack/ctl runs");
        assert!(status.success(), "stack/ctl {words:?}: {status}");
    }

    /// What `target/stack/env` has for the stack of all.
    pub(crate) fn variable(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join("env")).expect("it was started");
        let start = format!("export {name}=");
        text.lines().find_map(|line| line.strip_prefix(&start)).expect("it is in the file").to_owned()
    }

    /// Sends the process whose id this variable has a signal.
    pub(crate) fn signal(&self, pid: &str, signal: Signal) {
        send(signal, self.variable(pid).parse().expect("a process id"));
    }

    /// Stops it as these words say, and removes what is left.
    pub(crate) fn remove(&self, words: &[&str]) {
        self.ctl(words);
        // What is left is among temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
