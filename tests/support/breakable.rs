//! A Kafka of one test, that can be broken.

use crate::{Proxy, Stack, unique};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A Kafka of its own, that can be broken.
#[derive(Debug)]
pub struct Breakable {
    /// Its servers: this Kafka, and the PostgreSQL of all.
    pub stack: Stack,
    folder: PathBuf,
}

impl Breakable {
    /// Starts it.
    pub fn start(stack: Stack) -> Self {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tmp")).join(unique("kafka"));
        std::fs::create_dir_all(folder.join("kafka")).expect("a folder");
        let folder = folder.canonicalize().expect("it is there");
        let shared = std::env::var("STACK_DIR").expect("set where KAFKA_BROKERS is");
        std::os::unix::fs::symlink(Path::new(&shared).join("kafka/libs"), folder.join("kafka/libs"))
            .expect("a link");
        let mut kafka = Self { stack, folder };
        // Two that look for free ports at once would find the same.
        static STARTING: Mutex<()> = Mutex::new(());
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        kafka.ctl(&["start", "kafka"]);
        kafka.stack.brokers = kafka.variable("KAFKA_BROKERS");
        kafka
    }

    /// A network that can be broken, for clients that reach it at the proxy's address.
    pub async fn proxy(&self) -> Proxy {
        let (host, port) = self.stack.brokers.rsplit_once(':').expect("a host and a port");
        let port: u16 = port.parse().expect("a number");
        // The listener for it, and the port at which that is advertised.
        Proxy::at(port + 4, &format!("{host}:{}", port + 3)).await
    }

    /// Runs `stack/ctl` on it.
    pub fn ctl(&self, words: &[&str]) {
        let mut command = Stack::ctl_command(words);
        command
            .env("STACK_DIR", &self.folder)
            .env_remove("STACK_KAFKA_PORT")
            .env_remove("STACK_POSTGRES_PORT");
        let status = command.status().expect("stack/ctl runs");
        assert!(status.success(), "stack/ctl {words:?}: {status}");
    }

    /// Sends the broker's process a signal.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.variable("STACK_PID_KAFKA")]).status();
        assert!(status.expect("kill runs").success());
    }

    fn variable(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join("env")).expect("it was started");
        let start = format!("export {name}=");
        text.lines().find_map(|line| line.strip_prefix(&start)).expect("it is in the file").to_owned()
    }
}

impl Drop for Breakable {
    fn drop(&mut self) {
        self.ctl(&["stop", "kafka", "--kill"]);
        // What is left is in the target folder.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
