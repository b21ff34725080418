//! The flights service, as a child process, against its truth: one event lost,
//! done twice or done out of order changes a chain.

use std::fs::File;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use support::{Database, OwnRegistry, Stack, eventually, stack_or_leave_out, unique};

const PARTITIONS: i32 = 12;
const KILLS: u32 = 20;
const SEED: u64 = 20130101;

/// A topic, a group and a database for the service, and which rows it gets.
struct Service {
    stack: Stack,
    database: Database,
    topic: String,
    group: String,
    batch: bool,
    selection: &'static [&'static str],
    format: &'static [&'static str],
    folder: PathBuf,
}

/// A fifth of the planes, with all their flights.
const FIFTH: &[&str] = &["--sample", "5", "--seed", "7"];

impl Service {
    async fn new(stack: Stack, batch: bool, selection: &'static [&'static str]) -> Self {
        let (topic, group) = (stack.topic("flights", PARTITIONS).await, unique("flights"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&group);
        std::fs::create_dir_all(&folder).unwrap();
        Self { database: stack.database().await, stack, topic, group, batch, selection, format: &[], folder }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(words)
            .env("KAFKA_BROKERS", &self.stack.brokers)
            .env("DATABASE_URL", &self.database.url)
            .env("SCHEMA_REGISTRY_URL", &self.stack.registry_url)
            .env("FLIGHTS_TOPIC", &self.topic)
            .env("FLIGHTS_GROUP", &self.group)
            .env("ONCEWARD_KAFKA__SESSION_TIMEOUT_MS", "6000")
            .env("ONCEWARD_KAFKA__HEARTBEAT_INTERVAL_MS", "1500")
            // Who dies here is killed from outside: twice, while one record is tried alone, is chance.
            .env("ONCEWARD_HANDLERS__ON_FLIGHT__MAX_STARTS", "1000")
            .stdin(Stdio::null());
        command
    }

    fn produce(&self, options: &[&str]) -> Running {
        let words = [&["produce"], self.selection, self.format, options].concat();
        Running::start(self.command(&words), &self.folder, "produce")
    }

    /// Starts the service; with an `instance` a restart takes its partitions over at once.
    fn serve(&self, instance: Option<&str>, log: &str) -> Running {
        let batch: &[&str] = if self.batch { &["--batch"] } else { &[] };
        let mut command = self.command(&[&["serve"], self.format, batch].concat());
        command.envs(instance.map(|instance| ("ONCEWARD_INSTANCE_ID", instance)));
        Running::start(command, &self.folder, log)
    }

    async fn done(&self) -> i64 {
        let sum = "select coalesce(sum(flights), 0)::bigint from flights_totals";
        // Before the service has made its table there is nothing done.
        sqlx::query_scalar(sum).fetch_one(&mut self.database.connect().await).await.unwrap_or(0)
    }

    /// Waits until all is done and committed, ends the service, and compares.
    async fn ends_with_the_truth(&self, service: Running) {
        self.stack.caught_up(&self.group, &self.topic, PARTITIONS).await;
        assert!(service.terminate().success(), "{}", self.log("serve"));
        let output = self.command(&[&["verify"], self.selection].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.ends_with("keys differ: 0\n"), "{text}{}", self.log("serve"));
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }
}

/// A child process that dies with the test.
struct Running(Child);

impl Running {
    fn start(mut command: Command, folder: &Path, log: &str) -> Self {
        let log = File::options().create(true).append(true).open(folder.join(log)).unwrap();
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    /// As an orchestrator does it.
    fn terminate(mut self) -> ExitStatus {
        let status = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
        self.0.wait().unwrap()
    }

    /// `kill -9`.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    async fn succeeds(mut self) {
        eventually("the program ends", || ready(self.0.try_wait().unwrap().is_some())).await;
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, or the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program stands beside the tests' own folder.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("flights");
    assert!(program.exists(), "{} is not built: cargo build -p flights", program.display());
    program
}

async fn clean(batch: bool) {
    let service = Service::new(stack_or_leave_out!(), batch, &[]).await;
    service.produce(&[]).succeeds().await;
    let serving = service.serve(None, "serve");
    service.ends_with_the_truth(serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_flights_of_a_year_come_out_as_the_truth() {
    clean(false).await;
}

/// The year in Avro, by three versions of its schema. In the middle the service starts anew, with
/// nothing looked up, while the registry is away.
async fn in_avro(batch: bool) {
    const MIDDLE: &str = "150000";
    let mut service = Service::new(stack_or_leave_out!(), batch, FIFTH).await;
    let registry = OwnRegistry::start_new();
    (service.format, service.stack.registry_url) = (&["--format", "avro"], registry.url());
    service.produce(&["--to", MIDDLE]).succeeds().await;
    let serving = service.serve(None, "serve");
    service.stack.caught_up(&service.group, &service.topic, PARTITIONS).await;
    assert!(serving.terminate().success(), "{}", service.log("serve"));
    let before = service.done().await;
    assert!(before > 10_000, "{before}");
    service.produce(&["--from", MIDDLE]).succeeds().await;
    registry.stop();
    let serving = service.serve(None, "serve");
    eventually("it waits", || ready(service.log("serve").contains("no attempt is counted"))).await;
    // The time is what is tried.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(service.done().await, before);
    registry.start();
    service.ends_with_the_truth(serving).await;
    assert!(!service.log("serve").contains("dead-lettered"), "{}", service.log("serve"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_in_avro_comes_out_as_the_truth_and_the_registry_may_be_away() {
    in_avro(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_in_avro_comes_out_as_the_truth_and_the_registry_may_be_away_in_batches() {
    in_avro(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_flights_of_a_year_come_out_as_the_truth_in_batches() {
    clean(true).await;
}

/// Kills it while it works, each time a moment after it got something done.
async fn killed(batch: bool) {
    let service = Service::new(stack_or_leave_out!(), batch, FIFTH).await;
    let producing = service.produce(&["--rate", "3000"]);
    let mut random = fastrand::Rng::with_seed(SEED);
    for _ in 0..KILLS {
        let before = service.done().await;
        let mut serving = service.serve(Some("one"), "serve");
        eventually("it works on", async || service.done().await > before).await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..400))).await;
        serving.kill();
    }
    producing.succeeds().await;
    let serving = service.serve(Some("one"), "serve");
    service.ends_with_the_truth(serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_20_moments_nothing_is_lost_doubled_or_reordered() {
    killed(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_20_moments_nothing_is_lost_doubled_or_reordered_in_batches() {
    killed(true).await;
}

async fn produced_again(batch: bool, selection: &'static [&'static str]) {
    let service = Service::new(stack_or_leave_out!(), batch, selection).await;
    service.produce(&["--duplicates", "10"]).succeeds().await;
    let serving = service.serve(None, "serve");
    service.ends_with_the_truth(serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_produced_again_count_once() {
    produced_again(false, &["--seed", "3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_produced_again_count_once_in_batches() {
    produced_again(true, &["--seed", "4"]).await;
}

/// A second instance comes and goes while events come in.
async fn joined_and_left(batch: bool) {
    let service = Service::new(stack_or_leave_out!(), batch, FIFTH).await;
    let producing = service.produce(&["--rate", "1500"]);
    let serving = service.serve(None, "serve");
    eventually("the first one works", async || service.done().await > 0).await;
    for number in 0..5 {
        let log = format!("second-{number}");
        let second = service.serve(None, &log);
        eventually("the second one has partitions", async || service.log(&log).contains("assigned group"))
            .await;
        assert!(second.terminate().success(), "{}", service.log(&log));
    }
    producing.succeeds().await;
    service.ends_with_the_truth(serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_that_joins_and_leaves_changes_nothing() {
    joined_and_left(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_that_joins_and_leaves_changes_nothing_in_batches() {
    joined_and_left(true).await;
}
