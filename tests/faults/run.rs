//! One run: the service under its faults, and what has come out in the end.

use crate::plan::{Fault, Plan};
use crate::servers::{Role, Servers};
use fastrand::Rng;
use rdkafka::Message;
use rdkafka::producer::FutureRecord;
use std::collections::BTreeSet;
use std::fmt;
use std::future::ready;
use std::time::{Duration, Instant};
use support::{Flights, PATIENCE, Program, Proxy, Signal, eventually, read_all, text};

const PARTITIONS: i32 = 12;
/// One plane in 17, with all its flights: some 20,000.
const SAMPLE: &str = "17";
const RATE: &str = "2500";
/// The row at which the second half begins.
const HALF: &str = "168000";
/// How many records no handler can decode.
pub(crate) const POISON: usize = 12;

/// One run: the service, and the members of its group.
pub(crate) struct Run<'s> {
    pub(crate) servers: &'s Servers,
    plan: Plan,
    seed: u64,
    pub(crate) flights: Flights,
    role: Role,
    pub(crate) members: Vec<Member>,
    started: usize,
    poisoned: usize,
    /// The points at which a member has ended itself.
    reached: Vec<&'static str>,
}

/// A service that runs.
pub(crate) struct Member {
    pub(crate) program: Program,
    log: String,
    started: Instant,
}

impl<'s> Run<'s> {
    pub(crate) async fn new(servers: &'s Servers, seed: u64, plan: Plan) -> Self {
        let flights = Flights::new(servers.stack.clone(), PARTITIONS).await;
        let role = Role::make(&flights.database).await;
        Self {
            servers,
            plan,
            seed,
            flights,
            role,
            members: Vec::new(),
            started: 0,
            poisoned: 0,
            reached: Vec::new(),
        }
    }

    /// Produces one half of the flights, while faults strike.
    pub(crate) async fn half(&mut self, first: bool, faults: &[Fault], random: &mut Rng) {
        let producing = self.produce(first);
        for (number, fault) in (1..).zip(faults) {
            let half = if first { 0 } else { POISON / 2 };
            let until = half + POISON / 2 * number / faults.len();
            self.send_bad("poison", self.poisoned..until).await;
            self.poisoned = until;
            tokio::time::sleep(Duration::from_millis(random.u64(..1500))).await;
            self.strike(fault, random).await;
            self.supervise();
        }
        producing.succeeds().await;
    }

    fn produce(&self, first: bool) -> Program {
        let seed = self.seed.to_string();
        let mut words =
            vec!["produce", "--sample", SAMPLE, "--seed", &seed, "--duplicates", "5", "--rate", RATE];
        words.extend([if first { "--to" } else { "--from" }, HALF]);
        words.extend(self.plan.forwarded.then_some("--forwarded"));
        self.flights.start(self.flights.command(&words), "produce")
    }

    /// Starts one more member, which may end itself at a point.
    pub(crate) fn join(&mut self, fault: Option<(&str, u64)>) {
        let mut command = self.flights.serve(if self.plan.batch { &["--batch"] } else { &[] });
        command
            .env("KAFKA_BROKERS", self.servers.to_kafka.address())
            .env("DATABASE_URL", self.servers.to_postgres.url(&self.role.url()))
            .env("ONCEWARD_GROUP_PROTOCOL", self.plan.protocol)
            .env("ONCEWARD_MAX_CONNECTIONS", self.plan.dedupe_connections.to_string())
            .env("ONCEWARD_COMMIT_INTERVAL", "300ms")
            // Of a topic that is made again, and of partitions that are added.
            .env("ONCEWARD_OUT_OF_RANGE", "earliest")
            .env("ONCEWARD_KAFKA__TOPIC_METADATA_REFRESH_INTERVAL_MS", "2000")
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
            Fault::Rights(rights, time) => {
                self.role.take(*rights).await;
                tokio::time::sleep(*time).await;
                self.role.give_back(*rights).await;
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

    /// Sends what no handler can decode.
    pub(crate) async fn send_bad(&self, name: &str, numbers: std::ops::Range<usize>) {
        let producer = self.servers.stack.producer();
        for number in numbers {
            let (key, payload) = (format!("{name}-{number}"), format!("{{\"{name}\": {number}"));
            let record = FutureRecord::<str, str>::to(&self.flights.topic).key(&key).payload(&payload);
            producer.send(record, PATIENCE).await.unwrap();
        }
    }

    /// Waits until each member has got its partitions.
    pub(crate) async fn all_work(&mut self) {
        eventually("all members work", || {
            self.supervise();
            ready(self.members.iter().all(|member| self.has_partitions(member)))
        })
        .await;
    }

    /// Waits until all is done, and compares. Says at which points a member has ended itself.
    pub(crate) async fn verify(mut self) -> Vec<&'static str> {
        self.all_work().await;
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
        std::mem::take(&mut self.reached)
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
