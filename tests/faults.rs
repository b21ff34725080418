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
use std::fs::File;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{
    Breakable, Database, OwnPostgres, PATIENCE, Proxy, Stack, eventually, read_all, stack_or_leave_out, text,
    unique,
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

/// One run: a topic, a database, and the members of a group.
struct Run<'s> {
    servers: &'s Servers,
    plan: Plan,
    seed: u64,
    database: Database,
    topic: String,
    group: String,
    members: Vec<Member>,
    started: usize,
    /// The points at which a member has ended itself.
    reached: Vec<&'static str>,
    folder: PathBuf,
}

/// A service that runs.
struct Member {
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Member {
    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn has_partitions(&self) -> bool {
        std::fs::read_to_string(&self.log).unwrap().contains("assigned group")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
        let (topic, group) = (servers.stack.topic("faults", PARTITIONS).await, unique("faults"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&group);
        std::fs::create_dir_all(&folder).unwrap();
        let database = servers.stack.database().await;
        Self {
            servers,
            plan,
            seed,
            database,
            topic,
            group,
            members: Vec::new(),
            started: 0,
            reached: Vec::new(),
            folder,
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let program = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("flights");
        assert!(program.exists(), "{} is not built: cargo build -p flights", program.display());
        let mut command = Command::new(program);
        command
            .args(words)
            .env("FLIGHTS_TOPIC", &self.topic)
            .env("FLIGHTS_GROUP", &self.group)
            .env("KAFKA_BROKERS", &self.servers.stack.brokers)
            .env("DATABASE_URL", &self.database.url)
            .stdin(Stdio::null());
        command
    }

    fn spawn(&self, mut command: Command, log: &str) -> Member {
        let log = self.folder.join(log);
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Member { child, log, started: Instant::now() }
    }

    fn produce(&self) -> Member {
        let seed = self.seed.to_string();
        let words = ["produce", "--sample", SAMPLE, "--seed", &seed, "--duplicates", "5", "--rate", RATE];
        self.spawn(self.command(&words), "produce")
    }

    /// Starts one more member, which may end itself at a point.
    fn join(&mut self, fault: Option<(&str, u64)>) {
        let mut command = self.command(if self.plan.batch { &["serve", "--batch"] } else { &["serve"] });
        command
            .env("KAFKA_BROKERS", self.servers.to_kafka.address())
            .env("DATABASE_URL", self.servers.to_postgres.url(&self.database.url))
            .env("ONCEWARD_GROUP_PROTOCOL", self.plan.protocol)
            .env("ONCEWARD_MAX_CONNECTIONS", self.plan.dedupe_connections.to_string())
            .env("ONCEWARD_COMMIT_INTERVAL", "300ms")
            .env("ONCEWARD_HANDLERS__ON_FLIGHT__ORDER", self.plan.order)
            // Who dies here is killed from outside.
            .env("ONCEWARD_HANDLERS__ON_FLIGHT__MAX_STARTS", "1000")
            .env("ONCEWARD_HANDLERS__ON_FLIGHT__DEAD_LETTER", self.letters());
        if self.plan.protocol == "classic" {
            command.env("ONCEWARD_KAFKA__SESSION_TIMEOUT_MS", "6000");
            command.env("ONCEWARD_KAFKA__HEARTBEAT_INTERVAL_MS", "1500");
        }
        if let Some((point, times)) = fault {
            command.env("FAULT_POINT", format!("{point}:{times}"));
        }
        let member = self.spawn(command, &format!("member-{}", self.started));
        self.started += 1;
        self.members.push(member);
    }

    fn letters(&self) -> String {
        format!("{}.dlq", self.topic)
    }

    async fn strike(&mut self, fault: &Fault, random: &mut Rng) {
        let member = random.usize(..self.members.len());
        match fault {
            Fault::EndAt(point, times) => {
                self.join(Some((point, *times)));
                let mut doomed = self.members.pop().unwrap();
                if *point == "in_drain" {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    doomed.signal("-TERM");
                }
                // What is not reached for long does not happen in this run.
                let until = Instant::now() + Duration::from_secs(6);
                while !doomed.has_ended() && Instant::now() < until {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let log = std::fs::read_to_string(&doomed.log).unwrap();
                if log.contains("as FAULT_POINT says") {
                    self.reached.push(point);
                }
            }
            Fault::Kill => {
                self.members.remove(member).child.kill().unwrap();
                self.join(None);
            }
            Fault::RestartBroker => {
                self.servers.kafka.ctl(&["stop", "kafka", "--kill"]);
                self.servers.kafka.ctl(&["start", "kafka"]);
            }
            Fault::FreezeBroker(time) => {
                self.servers.kafka.signal("-STOP");
                tokio::time::sleep(*time).await;
                self.servers.kafka.signal("-CONT");
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
                self.members[member].signal("-STOP");
                tokio::time::sleep(*time).await;
                self.members[member].signal("-CONT");
            }
            Fault::Join => self.join(None),
            Fault::Leave => {
                self.join(None);
                let leaving = self.members.remove(member);
                leaving.signal("-TERM");
                self.ended(leaving).await;
            }
        }
    }

    /// Starts a member again that found no server when it started, as an orchestrator does. One
    /// that works ends for nothing.
    fn supervise(&mut self) {
        for place in 0..self.members.len() {
            if self.members[place].has_ended() {
                let member = self.members.remove(place);
                let is_young = member.started.elapsed() < Duration::from_secs(20);
                assert!(
                    is_young && !member.has_partitions(),
                    "{self}: {} ended by itself",
                    member.log.display()
                );
                self.join(None);
            }
        }
    }

    async fn ended(&self, mut member: Member) {
        eventually("the member ends", || ready(member.has_ended())).await;
    }

    /// Sends what no handler can decode, in between.
    async fn poison(&self, numbers: impl Iterator<Item = usize>) {
        let producer = self.servers.stack.producer();
        for number in numbers {
            let (key, payload) = (format!("poison-{number}"), format!("{{\"poison\": {number}"));
            let record = FutureRecord::<str, str>::to(&self.topic).key(&key).payload(&payload);
            producer.send(record, PATIENCE).await.unwrap();
        }
    }

    /// Waits until all is done, and compares.
    async fn verify(mut self) {
        eventually("all members work", || {
            self.supervise();
            ready(self.members.iter().all(Member::has_partitions))
        })
        .await;
        self.servers.stack.caught_up(&self.group, &self.topic, PARTITIONS).await;
        for member in std::mem::take(&mut self.members) {
            member.signal("-TERM");
            self.ended(member).await;
        }
        let seed = self.seed.to_string();
        let mut words = vec!["verify", "--sample", SAMPLE, "--seed", &seed];
        if self.plan.order == "none" {
            words.push("--unordered");
        }
        let output = self.command(&words).output().unwrap();
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && report.ends_with("keys differ: 0\n"), "{self}: {report}");

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
        std::fs::remove_dir_all(&self.folder).unwrap();
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
            let log =
                std::fs::read_to_string(self.folder.join(format!("member-{member}"))).unwrap_or_default();
            let told =
                |line: &&str| ["WARN", "ERROR", "ssigned", "revoked"].iter().any(|word| line.contains(word));
            println!("--- member {member}, what it warned of ---");
            log.lines().filter(told).take(60).for_each(|line| println!("{line}"));
        }
    }
}

impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FAULTS_SEED={} ({:?}), logs in {}", self.seed, self.plan, self.folder.display())
    }
}

#[allow(clippy::print_stdout)] // The report.
async fn run(servers: &Servers, seed: u64) -> Vec<&'static str> {
    let started = Instant::now();
    let mut random = Rng::with_seed(seed);
    let mut run = Run::new(servers, seed, &mut random).await;
    let faults: Vec<Fault> = (0..FAULTS).map(|_| Fault::draw(&mut random)).collect();
    println!("{run}: {faults:?}");
    let mut producing = run.produce();
    run.join(None);
    let mut poison = 0..POISON;
    for fault in &faults {
        run.poison(poison.by_ref().take(POISON / FAULTS)).await;
        tokio::time::sleep(Duration::from_millis(random.u64(..1500))).await;
        run.strike(fault, &mut random).await;
        run.supervise();
    }
    eventually("all is produced", || ready(producing.has_ended())).await;
    assert!(producing.child.wait().unwrap().success(), "{run}: the producer failed");
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
