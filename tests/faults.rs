//! The flights service under a driver that kills it, its servers and the network between them,
//! at named points and at random moments; after each run nothing may be lost, doubled or
//! reordered, and the dead letters are exactly the poison.
//!
//! Everything that is drawn comes from a seed. `FAULTS_RUNS=n` makes so many runs (8 by
//! default), with the seeds from `FAULTS_SEED` (1) on; a failure names the one that repeats it.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

use fastrand::Rng;
use rdkafka::Message;
use rdkafka::producer::FutureRecord;
use std::collections::BTreeSet;
use std::fmt;
use std::future::ready;
use std::time::{Duration, Instant};
use support::{
    Breakable, Flights, OwnPostgres, PATIENCE, Program, Proxy, Signal, Stack, eventually, read_all,
    stack_or_leave_out, text,
};

const PARTITIONS: i32 = 12;
/// One plane in 17, with all its flights: some 20,000.
const SAMPLE: &str = "17";
const RATE: &str = "2500";
const FAULTS: usize = 4;
const POISON: usize = 12;

/// Where the service can be made to end itself; see `framework/src/fault.rs`.
const POINTS: [(&str, u64); 6] = [
    ("after_claim", 25),
    ("before_commit", 25),
    ("after_commit", 25),
    ("before_offset_commit", 5),
    ("in_drain", 1),
    ("before_acknowledgement", 2),
];

/// What is drawn for a whole run.
#[derive(Debug)]
struct Plan {
    order: &'static str,
    protocol: &'static str,
    batch: bool,
    dedupe_connections: usize,
}

#[derive(Debug, Clone)]
enum Fault {
    EndAt(&'static str, u64),
    Kill,
    RestartBroker,
    FreezeBroker(Duration),
    RestartPostgres,
    CutNetwork(Duration),
    SlowNetwork(Duration),
    /// Past its session, while another member takes over: a zombie.
    FreezeService(Duration),
    Join,
    Leave,
}

impl Fault {
    fn draw(random: &mut Rng) -> Self {
        let seconds =
            |random: &mut Rng, range: std::ops::Range<u64>| Duration::from_millis(random.u64(range));
        match random.u8(..13) {
            0..=3 => {
                let (point, most) = POINTS[random.usize(..POINTS.len())];
                Self::EndAt(point, random.u64(1..=most))
            }
            4 => Self::Kill,
            5 => Self::RestartBroker,
            6 => Self::FreezeBroker(seconds(random, 1000..9000)),
            7 => Self::RestartPostgres,
            8 => Self::CutNetwork(seconds(random, 200..4000)),
            9 => Self::SlowNetwork(seconds(random, 1000..4000)),
            10 => Self::FreezeService(seconds(random, 7000..10_000)),
            11 => Self::Join,
            _ => Self::Leave,
        }
    }
}

/// The servers of all runs.
struct Servers {
    kafka: Breakable,
    postgres: OwnPostgres,
    to_kafka: Proxy,
    to_postgres: Proxy,
    stack: Stack,
}

impl Servers {
    async fn start(stack: Stack) -> Self {
        let (kafka, postgres) = (Breakable::start(stack), OwnPostgres::start_new());
        let to_kafka = kafka.proxy().await;
        let to_postgres = Proxy::before(&postgres.url()).await;
        let stack = Stack { database_url: postgres.url(), ..kafka.stack.clone() };
        Self { kafka, postgres, to_kafka, to_postgres, stack }
    }
}

/// One run: the service, and the members of its group.
struct Run<'s> {
    servers: &'s Servers,
    plan: Plan,
    seed: u64,
    flights: Flights,
    members: Vec<Member>,
    started: usize,
    /// The points at which a member has ended itself.
    reached: Vec<&'static str>,
}

/// A service that runs.
struct Member {
    program: Program,
    log: String,
    started: Instant,
}

impl<'s> Run<'s> {
    async fn new(servers: &'s Servers, seed: u64, random: &mut Rng) -> Self {
        let order = ["partition", "key", "none"][random.usize(..3)];
        let plan = Plan {
            order,
            protocol: ["classic", "consumer"][random.usize(..2)],
            // That handler reads a row and writes it: two runs must not have one key.
            batch: order != "none" && random.bool(),
            dedupe_connections: random.usize(4..17),
        };
        let flights = Flights::new(servers.stack.clone(), PARTITIONS).await;
        Self { servers, plan, seed, flights, members: Vec::new(), started: 0, reached: Vec::new() }
    }

    fn produce(&self) -> Program {
        let seed = self.seed.to_string();
        let words = ["produce", "--sample", SAMPLE, "--seed", &seed, "--duplicates", "5", "--rate", RATE];
        self.flights.start(self.flights.command(&words), "produce")
    }

    /// Starts one more member, which may end itself at a point.
    fn join(&mut self, fault: Option<(&str, u64)>) {
        let mut command = self.flights.serve(if self.plan.batch { &["--batch"] } else { &[] });
        command
            .env("KAFKA_BROKERS", self.servers.to_kafka.address())
            .env("DATABASE_URL", self.servers.to_postgres.url(&self.flights.database.url))
            .env("ONCEWARD_GROUP_PROTOCOL", self.plan.protocol)
            .env("ONCEWARD_MAX_CONNECTIONS", self.plan.dedupe_connections.to_string())
            .env("ONCEWARD_COMMIT_INTERVAL", "300ms")
            .env("ONCEWARD_HANDLERS__ON_FLIGHT__ORDER", self.plan.order)
            .env("ONCEWARD_HANDLERS__ON_FLIGHT__DEAD_LETTER", self.letters());
        if self.plan.protocol == "classic" {
            command.envs(Flights::SHORT_SESSIONS);
        }
        if let Some((point, times)) = fault {
            command.env("FAULT_POINT", format!("{point}:{times}"));
        }
        let log = format!("member-{}", self.started);
        let program = self.flights.start(command, &log);
        self.members.push(Member { program, log, started: Instant::now() });
        self.started += 1;
    }

    fn letters(&self) -> String {
        format!("{}.dlq", self.flights.topic)
    }

    fn has_partitions(&self, member: &Member) -> bool {
        self.flights.log(&member.log).contains("assigned group")
    }

    async fn strike(&mut self, fault: &Fault, random: &mut Rng) {
        let member = random.usize(..self.members.len());
        match fault {
            Fault::EndAt(point, times) => {
                self.join(Some((point, *times)));
                let mut doomed = self.members.pop().unwrap();
                if *point == "in_drain" {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    doomed.program.signal(Signal::SIGTERM);
                }
                // What is not reached for long does not happen in this run.
                let until = Instant::now() + Duration::from_secs(6);
                while !doomed.program.has_ended() && Instant::now() < until {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                if self.flights.log(&doomed.log).contains("as FAULT_POINT says") {
                    self.reached.push(point);
                }
            }
            Fault::Kill => {
                self.members.remove(member).program.signal(Signal::SIGKILL);
                self.join(None);
            }
            Fault::RestartBroker => {
                self.servers.kafka.ctl(&["stop", "kafka", "--kill"]);
                self.servers.kafka.ctl(&["start", "kafka"]);
            }
            Fault::FreezeBroker(time) => {
                self.servers.kafka.signal(Signal::SIGSTOP);
                tokio::time::sleep(*time).await;
                self.servers.kafka.signal(Signal::SIGCONT);
            }
            Fault::RestartPostgres => {
                self.servers.postgres.stop();
                self.servers.postgres.start();
            }
            Fault::CutNetwork(time) => {
                let (kafka, postgres) = (random.bool(), random.bool());
                let cut = |proxy: &Proxy, so: bool| {
                    if so {
                        proxy.close()
                    }
                };
                cut(&self.servers.to_kafka, kafka || !postgres);
                cut(&self.servers.to_postgres, postgres);
                tokio::time::sleep(*time).await;
                self.servers.to_kafka.open();
                self.servers.to_postgres.open();
            }
            Fault::SlowNetwork(time) => {
                for delay in [Duration::from_millis(random.u64(5..60)), Duration::ZERO] {
                    self.servers.to_kafka.delay(delay);
                    self.servers.to_postgres.delay(delay);
                    if !delay.is_zero() {
                        tokio::time::sleep(*time).await;
                    }
                }
            }
            Fault::FreezeService(time) => {
                self.join(None);
                self.members[member].program.signal(Signal::SIGSTOP);
                tokio::time::sleep(*time).await;
                self.members[member].program.signal(Signal::SIGCONT);
            }
            Fault::Join => self.join(None),
            Fault::Leave => {
                self.join(None);
                let leaving = self.members.remove(member);
                leaving.program.terminate().await;
            }
        }
    }

    /// Starts a member again that found no server when it started, as an orchestrator does. One
    /// that works ends for nothing.
    fn supervise(&mut self) {
        for place in 0..self.members.len() {
            if self.members[place].program.has_ended() {
                let member = self.members.remove(place);
                let is_young = member.started.elapsed() < Duration::from_secs(20);
                assert!(is_young && !self.has_partitions(&member), "{self}: {} ended by itself", member.log);
                self.join(None);
            }
        }
    }

    /// Sends what no handler can decode, in between.
    async fn poison(&self, numbers: impl Iterator<Item = usize>) {
        let producer = self.servers.stack.producer();
        for number in numbers {
            let (key, payload) = (format!("poison-{number}"), format!("{{\"poison\": {number}"));
            let record = FutureRecord::<str, str>::to(&self.flights.topic).key(&key).payload(&payload);
            producer.send(record, PATIENCE).await.unwrap();
        }
    }

    /// Waits until all is done, and compares.
    async fn verify(mut self) {
        eventually("all members work", || {
            self.supervise();
            ready(self.members.iter().all(|member| self.has_partitions(member)))
        })
        .await;
        self.flights.caught_up().await;
        for member in std::mem::take(&mut self.members) {
            member.program.terminate().await;
        }
        let seed = self.seed.to_string();
        let mut options = vec!["--sample", SAMPLE, "--seed", &seed];
        if self.plan.order == "none" {
            options.push("--unordered");
        }
        if let Err(report) = self.flights.verify(&options) {
            panic!("{self}: {report}");
        }

        let mut letters = Vec::new();
        for partition in 0..PARTITIONS {
            let records = read_all(&self.servers.stack, &self.letters(), partition).await;
            letters.extend(records.iter().map(|letter| {
                let origin = ["partition", "offset"]
                    .map(|name| text(letter, &format!("onceward.dlq.{name}")).to_owned());
                (String::from_utf8_lossy(letter.payload().unwrap()).into_owned(), origin)
            }));
        }
        letters.sort();
        let poison: BTreeSet<String> = (0..POISON).map(|number| format!("{{\"poison\": {number}")).collect();
        let distinct: BTreeSet<String> = letters.iter().map(|(payload, _)| payload.clone()).collect();
        assert_eq!(distinct, poison, "{self}: dead letters");
        assert_eq!(letters.len(), POISON, "{self}: a dead letter twice: {letters:#?}");
        std::fs::remove_dir_all(&self.flights.folder).unwrap();
    }
}

/// A failure far away has to be understood from what it prints.
#[allow(clippy::print_stdout)] // The report.
impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for member in 0..self.started {
            let log = self.flights.log(&format!("member-{member}"));
            let told =
                |line: &&str| ["WARN", "ERROR", "ssigned", "revoked"].iter().any(|word| line.contains(word));
            println!("--- member {member}, what it warned of ---");
            log.lines().filter(told).take(60).for_each(|line| println!("{line}"));
        }
    }
}

impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FAULTS_SEED={} ({:?}), logs in {}", self.seed, self.plan, self.flights.folder.display())
    }
}

#[allow(clippy::print_stdout)] // The report.
async fn run(servers: &Servers, seed: u64) -> Vec<&'static str> {
    let started = Instant::now();
    let mut random = Rng::with_seed(seed);
    let mut run = Run::new(servers, seed, &mut random).await;
    let faults: Vec<Fault> = (0..FAULTS).map(|_| Fault::draw(&mut random)).collect();
    println!("{run}: {faults:?}");
    let producing = run.produce();
    run.join(None);
    let mut poison = 0..POISON;
    for fault in &faults {
        run.poison(poison.by_ref().take(POISON / FAULTS)).await;
        tokio::time::sleep(Duration::from_millis(random.u64(..1500))).await;
        run.strike(fault, &mut random).await;
        run.supervise();
    }
    producing.succeeds().await;
    let reached = std::mem::take(&mut run.reached);
    run.verify().await;
    println!(
        "FAULTS_SEED={seed}: lost 0, doubled 0, reordered 0, {POISON} dead letters; ended at {reached:?}; {:?}",
        started.elapsed()
    );
    reached
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_reordered_whatever_breaks() {
    let servers = Servers::start(stack_or_leave_out!()).await;
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = number("FAULTS_SEED").unwrap_or(1);
    let runs = number("FAULTS_RUNS").unwrap_or(if number("FAULTS_SEED").is_some() { 1 } else { 8 });
    let mut reached = BTreeSet::new();
    for seed in first..first + runs {
        reached.extend(run(&servers, seed).await);
    }
    // Else it would be no matrix.
    assert!(runs < 8 || reached.len() >= 3, "of all points only {reached:?} were reached");
}
