//! Helpers of all cases.

use crate::topics::Filling;
use onceward::{App, DedupeKind};
use sqlx::{Connection, PgConnection};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;
use support::Stack;
use tokio::runtime::Runtime;

/// The servers, and how much is measured.
pub struct Bench {
    pub runtime: Runtime,
    pub stack: Stack,
    /// Whether it is only to be seen that all cases run.
    pub smoke: bool,
    /// Topics that are full already.
    pub topics: RefCell<HashMap<Filling, String>>,
}

impl Bench {
    /// So many records, or a few in a smoke.
    pub fn records(&self, count: u64) -> u64 {
        if self.smoke { count.min(800) } else { count }
    }

    /// So many seconds, or a moment in a smoke.
    pub fn seconds(&self, seconds: u64) -> Duration {
        if self.smoke { Duration::from_millis(40 * seconds.min(5)) } else { Duration::from_secs(seconds) }
    }

    /// An application on the servers without deduplication.
    pub fn app(&self) -> App {
        App::new().brokers(&self.stack.brokers).dedupe(DedupeKind::Off)
    }

    /// The machine and the versions, as a table.
    pub fn environment(&self) -> String {
        let version = self.runtime.block_on(async {
            let mut connection = PgConnection::connect(&self.stack.database_url).await?;
            sqlx::query_scalar("show server_version").fetch_one(&mut connection).await
        });
        let version: String = version.expect("PostgreSQL answers");
        harness::environment(&version, &rdkafka::util::get_rdkafka_version().1)
    }
}
