//! A PostgreSQL of one test, which it can stop without disturbing others.

use std::path::PathBuf;
use std::process::Command;

/// A server in a folder of its own, gone when dropped.
#[derive(Debug)]
pub struct OwnPostgres {
    folder: PathBuf,
}

impl OwnPostgres {
    /// Makes it and starts it.
    pub fn start_new() -> Self {
        let postgres = Self { folder: std::env::temp_dir().join(crate::unique("onceward-stack")) };
        postgres.start();
        postgres
    }

    /// Starts it again where it was.
    pub fn start(&self) {
        self.ctl(&["start", "postgres"]);
    }

    /// Stops it without a checkpoint: the next start recovers, as after a crash.
    pub fn stop(&self) {
        self.ctl(&["stop", "postgres", "--immediate"]);
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let env = std::fs::read_to_string(self.folder.join("env")).expect("it was started");
        let url = env.lines().find_map(|line| line.strip_prefix("export DATABASE_URL="));
        url.expect("it has a URL").to_owned()
    }

    fn ctl(&self, words: &[&str]) {
        let status = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../stack/ctl"))
            .args(words)
            .env("STACK_DIR", &self.folder)
            // Those are of the stack that all tests share.
            .env_remove("ONCEWARD_STACK")
            .env_remove("STACK_KAFKA_PORT")
            .env_remove("STACK_POSTGRES_PORT")
            .status()
            .expect("stack/ctl runs");
        assert!(status.success(), "stack/ctl {words:?}: {status}");
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        self.ctl(&["down", "--wipe"]);
        // What is left are a lock and empty folders.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
