//! The flights service of `examples/flights`, as processes to be killed.

use crate::{Database, Program, Stack, unique};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What one test runs the service on: a topic, a group and a database of its own.
#[derive(Debug)]
pub struct Flights {
    /// Its servers.
    pub stack: Stack,
    /// Its database.
    pub database: Database,
    /// The topic of the flights.
    pub topic: String,
    /// The group of the service.
    pub group: String,
    /// How many partitions the topic has.
    pub partitions: i32,
    /// Where the logs are.
    pub folder: PathBuf,
}

impl Flights {
    /// Variables by which who was killed is noticed soon.
    pub const SHORT_SESSIONS: [(&str, &str); 2] =
        [("ONCEWARD_KAFKA__SESSION_TIMEOUT_MS", "6000"), ("ONCEWARD_KAFKA__HEARTBEAT_INTERVAL_MS", "1500")];

    /// Makes the topic, with so many partitions, and an empty database.
    pub async fn new(stack: Stack, partitions: i32) -> Self {
        let (topic, group) = (stack.topic("flights", partitions).await, unique("flights"));
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tmp")).join(&group);
        std::fs::create_dir_all(&folder).expect("a folder");
        Self { database: stack.database().await, stack, topic, group, partitions, folder }
    }

    /// The program with these words.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(words)
            .env("KAFKA_BROKERS", &self.stack.brokers)
            .env("DATABASE_URL", &self.database.url)
            .env("SCHEMA_REGISTRY_URL", &self.stack.registry_url)
            .env("FLIGHTS_TOPIC", &self.topic)
            .env("FLIGHTS_GROUP", &self.group)
            .stdin(Stdio::null());
        command
    }

    /// The command `serve`, for one that is killed again and again.
    pub fn serve(&self, options: &[&str]) -> Command {
        let mut command = self.command(&[&["serve"], options].concat());
        // Who dies here is killed from outside: twice, while one record is tried alone, is chance.
        command.env("ONCEWARD_HANDLERS__ON_FLIGHT__MAX_STARTS", "1000");
        command
    }

    /// Starts a command, which prints to the log of this name.
    pub fn start(&self, command: Command, log: &str) -> Program {
        Program::logged(command, &self.folder.join(log))
    }

    /// What stands in a log.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// Waits until all is done and committed.
    pub async fn caught_up(&self) {
        self.stack.caught_up(&self.group, &self.topic, self.partitions).await;
    }

    /// Compares what was done with the truth of these options.
    ///
    /// # Errors
    /// Says what differs.
    pub fn verify(&self, options: &[&str]) -> Result<(), String> {
        let output = self.command(&[&["verify"], options].concat()).output().expect("the program starts");
        let report = String::from_utf8_lossy(&output.stdout);
        let is_the_truth = output.status.success() && report.ends_with("keys differ: 0\n");
        if is_the_truth { Ok(()) } else { Err(report.into_owned()) }
    }
}

/// It stands beside the folder of the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("this program has a path");
    let program = tests.ancestors().nth(2).expect("a folder of a profile").join("flights");
    assert!(program.exists(), "{} is not built: cargo build -p flights", program.display());
    program
}
