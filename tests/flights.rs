//! The flights service, as a child process, against its truth: one event lost,
//! done twice or done out of order changes a chain.

use std::future::ready;
use std::time::Duration;
use support::{Flights, OwnRegistry, Program, Signal, Stack, eventually, stack_or_leave_out};

const PARTITIONS: i32 = 12;
const KILLS: u32 = 20;
const SEED: u64 = 20130101;

/// The service, and which rows it gets.
struct Service {
    flights: Flights,
    batch: bool,
    selection: &'static [&'static str],
    format: &'static [&'static str],
}

/// A fifth of the planes, with all their flights.
const FIFTH: &[&str] = &["--sample", "5", "--seed", "7"];

impl Service {
    async fn new(stack: Stack, batch: bool, selection: &'static [&'static str]) -> Self {
        Self { flights: Flights::new(stack, PARTITIONS).await, batch, selection, format: &[] }
    }

    fn produce(&self, options: &[&str]) -> Program {
        let words = [&["produce"], self.selection, self.format, options].concat();
        self.flights.start(self.flights.command(&words), "produce")
    }

    /// Starts the service; with an `instance` a restart takes its partitions over at once.
    fn serve(&self, instance: Option<&str>, log: &str) -> Program {
        let batch: &[&str] = if self.batch { &["--batch"] } else { &[] };
        let mut command = self.flights.serve(&[self.format, batch].concat());
        command.envs(Flights::SHORT_SESSIONS);
        command.envs(instance.map(|instance| ("ONCEWARD_INSTANCE_ID", instance)));
        self.flights.start(command, log)
    }

    async fn done(&self) -> i64 {
        let sum = "select coalesce(sum(flights), 0)::bigint from flights_totals";
        // Before the service has made its table there is nothing done.
        sqlx::query_scalar(sum).fetch_one(&mut self.flights.database.connect().await).await.unwrap_or(0)
    }

    /// Waits until all is done and committed, ends the service, and compares.
    async fn ends_with_the_truth(&self, service: Program) {
        self.flights.caught_up().await;
        assert!(service.terminate().await.success(), "{}", self.log("serve"));
        if let Err(report) = self.flights.verify(self.selection) {
            panic!("{report}{}", self.log("serve"));
        }
    }

    fn log(&self, name: &str) -> String {
        self.flights.log(name)
    }
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
    (service.format, service.flights.stack.registry_url) = (&["--format", "avro"], registry.url());
    service.produce(&["--to", MIDDLE]).succeeds().await;
    let serving = service.serve(None, "serve");
    service.flights.caught_up().await;
    assert!(serving.terminate().await.success(), "{}", service.log("serve"));
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
        serving.signal(Signal::SIGKILL);
        serving.ended().await;
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
        assert!(second.terminate().await.success(), "{}", service.log(&log));
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

#[tokio::test]
async fn a_setting_that_does_not_exist_is_told_before_any_server_is_asked() {
    let service = Service::new(stack_or_leave_out!(), false, &[]).await;
    let mut command = service.flights.serve(&[]);
    command.env("DATABASE_URL", "postgres://127.0.0.1:1/nowhere").env("ONCEWARD_DRAIN_DEADLIN", "3s");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("drain_deadlin"), "{said}");
}
