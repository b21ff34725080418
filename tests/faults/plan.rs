//! What is drawn for a run: how the service is set up, and what breaks when.

use fastrand::Rng;
use std::time::Duration;

/// Where the service can be made to end itself; see `framework/src/base/fault.rs`.
const POINTS: [(&str, u64); 6] = [
    ("after_claim", 25),
    ("before_commit", 25),
    ("after_commit", 25),
    ("before_offset_commit", 5),
    ("in_drain", 1),
    ("before_acknowledgement", 2),
];

/// How many faults strike while each half of the flights is produced.
const FAULTS: usize = 2;

/// What is drawn for a whole run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) order: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) batch: bool,
    pub(crate) dedupe_connections: usize,
    /// The flights come through a forwarder that copies the headers of another record.
    pub(crate) forwarded: bool,
    pub(crate) first: Vec<Fault>,
    pub(crate) between: Between,
    pub(crate) then: Vec<Fault>,
}

/// What breaks while the service runs.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
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
    /// Of the service's role, at PostgreSQL.
    Rights(Rights, Duration),
}

/// What an administrator takes from the service's role, and gives back.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rights {
    /// The password is another, and connections are closed.
    Password,
    /// The role may not log in, and connections are closed.
    Login,
    /// The database takes no connections, and those that were open are closed.
    Database,
    /// Onceward's tables may not be used.
    Tables,
}

/// What other tools and people do between the halves of the flights.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Between {
    /// All members are killed. A tool such as MirrorMaker copies the group's offsets, each with its metadata, to
    /// lower ones.
    OffsetsCopiedWithMetadata,
    /// The topic is deleted and made again, while the service runs or while it does not.
    TopicMadeAgain {
        while_running: bool,
    },
    /// The topic gets more partitions while the service runs.
    PartitionsAdded,
    /// The group's offsets are set back to the start, between two lives.
    OffsetsResetBack,
    /// The group's offsets are set to the end, between two lives: a skip of what came meanwhile.
    OffsetsResetForward,
    Nothing,
}

impl Plan {
    /// What a seed says. The first seeds differ in what happens between the halves.
    pub(crate) fn draw(seed: u64, random: &mut Rng) -> Self {
        let order = ["partition", "key", "none"][random.usize(..3)];
        // Ranges of completed offsets are written only where several lanes go on side by side.
        let between = Between::of(seed, random);
        let order = match (between, order) {
            (Between::OffsetsCopiedWithMetadata, "partition") => "key",
            (_, order) => order,
        };
        let rights = [Rights::Password, Rights::Login, Rights::Database, Rights::Tables];
        let rights = rights[usize::try_from(seed % 4).expect("less than four")];
        let rights = Fault::Rights(rights, Duration::from_millis(random.u64(1000..4000)));
        let mut faults: Vec<Fault> = (1..2 * FAULTS).map(|_| Fault::draw(random)).collect();
        faults.insert(random.usize(..2 * FAULTS), rights);
        let then = faults.split_off(FAULTS);
        Self {
            order,
            protocol: ["classic", "consumer"][random.usize(..2)],
            // That handler reads a row and writes it: two runs must not have one key.
            batch: order != "none" && random.bool(),
            dedupe_connections: random.usize(4..17),
            forwarded: random.bool(),
            first: faults,
            between,
            then,
        }
    }
}

impl Between {
    fn of(seed: u64, random: &mut Rng) -> Self {
        match seed % 6 {
            1 => Self::OffsetsCopiedWithMetadata,
            2 => Self::TopicMadeAgain { while_running: random.bool() },
            3 => Self::PartitionsAdded,
            4 => Self::OffsetsResetBack,
            5 => Self::OffsetsResetForward,
            _ => Self::Nothing,
        }
    }
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
