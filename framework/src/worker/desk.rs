//! Gets the records of a partition and what runs have left of them, gives those that go next, where
//! runs go side by side.

use crate::HandlerError;
use crate::base::backoff::{after, ceiling, jittered};
use crate::base::sync::lock;
use crate::config::Order;
use crate::kafka::message::Message;
use crate::record::Record;
use crate::record::run::Fetched;
use crate::routing::order::Sharing;
use crate::worker::lanes::{LaneId, Lanes, Queued};
use crate::worker::pace::Pace;
use crate::worker::side_by_side::{Hands, MOST_QUICK, TROUBLE};
use foldhash::quality::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One record in memory.
pub(crate) struct Item {
    pub(crate) message: Message,
    pub(crate) attempt: u32,
    /// It was given up, and what is left to do is its dead letter.
    pub(crate) given_up: Option<HandlerError>,
}

impl Queued for Item {
    fn is_apart(&self) -> bool {
        self.given_up.is_some()
    }
}

/// A run that has ended.
pub(crate) struct Ended {
    /// Each record with what is left to do; each lane's together and in order.
    pub(crate) records: Vec<(LaneId, Option<Left>)>,
    pub(crate) finished: usize,
    /// What it did not finish waits, since Onceward's own work holds all of it.
    pub(crate) held: bool,
    /// Whether it had to wait for anything.
    pub(crate) waited: bool,
    pub(crate) bytes: usize,
    pub(crate) took: Duration,
}

/// What has left runs that go on.
pub(crate) type Early = Arc<Mutex<Vec<Ended>>>;

/// A record that is not done.
pub(crate) struct Left {
    pub(crate) item: Item,
    pub(crate) wait: Wait,
}

/// What a record waits for before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    Nothing,
    Time(Duration),
    /// What holds it, for as long as that asks for.
    Held(Option<Duration>),
}

/// What waits for longer than this for its retry lets go of librdkafka's memory.
const LONG: Duration = Duration::from_millis(50);
/// What stands in its lane for longer does so too.
const SWEPT_AFTER: Duration = Duration::from_secs(1);
/// With so many lanes ready no more is taken in: what is looked at just before it is handled is
/// still in the processor's cache.
const ENOUGH: usize = 256;

/// The worker's own: what it has, and how much may come.
pub(crate) struct Desk<'w> {
    pub(crate) hands: Hands<'w>,
    pub(crate) lanes: Lanes<Item>,
    pub(crate) pace: Pace,
    pub(crate) sharing: Sharing,
    /// The most records of a run that is shared while the handler is quick.
    pub(crate) quick: usize,
    pub(crate) early: Early,
    /// Lanes that Onceward's own work keeps from going on, and how often they tried.
    pub(crate) held: HashMap<LaneId, u32>,
    pub(crate) hasher: RandomState,
    /// Of all records here, in hand or not.
    pub(crate) bytes: usize,
    pub(crate) newest: i64,
    /// When the records up to which offset let go of librdkafka's memory.
    pub(crate) sweep: Option<(Instant, i64)>,
    pub(crate) full_since: Option<Instant>,
    pub(crate) full_said: Option<Instant>,
    pub(crate) keyless: u64,
}

impl<'w> Desk<'w> {
    pub(crate) fn new(hands: Hands<'w>) -> Self {
        let most = hands.router.max_run_records.unwrap_or(usize::MAX).min(hands.limits.records);
        Self {
            hands,
            lanes: Lanes::default(),
            pace: Pace::new(most, hands.limits.time),
            sharing: hands.router.sharing(),
            quick: 1,
            early: Early::default(),
            held: HashMap::new(),
            hasher: RandomState::default(),
            bytes: 0,
            newest: -1,
            sweep: None,
            full_since: None,
            full_said: None,
            keyless: 0,
        }
    }

    pub(crate) fn add(&mut self, fetched: Fetched) {
        let mut offsets = self.hands.partition.offsets();
        fetched.messages.iter().for_each(|message| offsets.note_key(message.offset(), message.key()));
        drop(offsets);
        for mut message in fetched.messages {
            self.newest = message.offset();
            self.bytes += message.size();
            let lane = self.lane(&message);
            if self.lanes.is_waiting(lane) {
                message.detach();
            }
            self.lanes.push(lane, Item { message, attempt: 1, given_up: None });
        }
        self.sweep.get_or_insert_with(|| (Instant::now() + SWEPT_AFTER, self.newest));
    }

    /// One record pins the whole fetch that brought it, so what stands for long is copied.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let Some((_, up_to)) = self.sweep.filter(|(at, _)| *at <= now) else { return };
        let old = self.lanes.iter_mut().filter(|item| item.message.offset() <= up_to);
        old.for_each(|item| item.message.detach());
        self.sweep = (up_to < self.newest).then(|| (now + SWEPT_AFTER, self.newest));
    }

    fn lane(&mut self, message: &Message) -> LaneId {
        if self.hands.router.order == Order::Key {
            return match message.key() {
                Some(key) => self.hasher.hash_one(key),
                None => {
                    self.without_key(message);
                    0
                }
            };
        }
        let record = Record::new(message, &self.hands.partition.source, 1);
        match self.hands.router.identity(record) {
            Some(identity) => self.hasher.hash_one(identity),
            None => message.offset() as u64,
        }
    }

    fn without_key(&mut self, message: &Message) {
        self.keyless += 1;
        // At the first, and then ever more rarely.
        if self.keyless.is_power_of_two() && self.keyless.trailing_zeros().is_multiple_of(4) {
            tracing::warn!(
                source = %self.hands.partition.source.partition,
                offset = message.offset(),
                so_far = self.keyless,
                "`order = \"key\"`, but records have no key: these are handled one after the other"
            );
        }
    }

    pub(crate) fn fill(&mut self) {
        loop {
            let room = self.room();
            if room == 0 {
                return;
            }
            match self.hands.partition.try_take(room.min(self.at_once()), self.hands.limits.bytes) {
                Some(fetched) => self.add(fetched),
                None => return,
            }
        }
    }

    /// How many records come in at once. Runs that share a commit are the better the longer
    /// they are.
    pub(crate) fn at_once(&self) -> usize {
        if self.sharing == Sharing::Always { usize::MAX } else { ENOUGH }
    }

    /// How many records may come in.
    pub(crate) fn room(&mut self) -> usize {
        if self.lanes.ready() >= self.at_once() {
            self.full_since = None;
            return 0;
        }
        let limits = self.hands.limits;
        let beyond = self.hands.partition.offsets().beyond(self.newest);
        let room =
            if self.bytes >= limits.in_flight_bytes { 0 } else { limits.in_flight.saturating_sub(beyond) };
        match (room, self.full_since) {
            (0, None) => self.full_since = Some(Instant::now()),
            (0, Some(_)) => {}
            _ => self.full_since = None,
        }
        room
    }

    /// When to look again: at the time of the next lane that waits or of the next sweep, and
    /// while it is full. Says that it is.
    pub(crate) fn looks_at(&mut self, wakes: Option<Instant>) -> Option<Instant> {
        const SAID_AFTER: Duration = Duration::from_secs(1);
        const SAID_AGAIN_AFTER: Duration = Duration::from_secs(30);
        let wakes = wakes.into_iter().chain(self.sweep.map(|(at, _)| at)).min();
        let Some(since) = self.full_since else { return wakes };
        if since.elapsed() >= SAID_AFTER
            && self.full_said.is_none_or(|said| said.elapsed() >= SAID_AGAIN_AFTER)
        {
            self.full_said = Some(Instant::now());
            let partition = self.hands.partition;
            tracing::warn!(
                source = %partition.source.partition,
                oldest = partition.offsets().oldest(),
                full_for = ?since.elapsed(),
                "`max_in_flight` or `max_in_flight_bytes` is reached: the partition waits for its oldest unfinished record"
            );
        }
        let again = Instant::now() + SAID_AFTER;
        Some(wakes.map_or(again, |wakes| wakes.min(again)))
    }

    pub(crate) fn take(&mut self) -> Vec<(LaneId, Item)> {
        let most = self.pace.records();
        let (most, many) = match self.sharing {
            Sharing::Always => (most, true),
            Sharing::Never => (most, false),
            Sharing::WhileQuick => (most.min(self.quick.max(1)), self.quick > 1),
        };
        self.lanes.take(most, many)
    }

    pub(crate) fn settle_early(&mut self) {
        let early = std::mem::take(&mut *lock(&self.early));
        early.into_iter().for_each(|ended| self.settle(ended));
    }

    /// Takes back what a run has left.
    pub(crate) fn settle(&mut self, ended: Ended) {
        let Ended { mut records, finished, held, waited, bytes, took } = ended;
        self.bytes -= bytes;
        self.pace.went(finished, took);
        self.quick = if waited { 1 } else { (self.quick * 2).min(MOST_QUICK) };
        if finished < records.len() {
            self.pace.cut_short();
        }
        // They come back together, or each would ask a server that is away by itself.
        let held = held.then(|| {
            let tries = records.iter().filter_map(|(lane, _)| self.held.get(lane)).max();
            held_for(tries.copied().unwrap_or_default())
        });
        while let Some(&(lane, _)) = records.last() {
            let start = records.iter().rposition(|(other, _)| *other != lane).map_or(0, |place| place + 1);
            let mut wait = held.map_or(Wait::Nothing, |delay| Wait::Held(Some(delay)));
            let mut left = Vec::new();
            for Left { item, wait: own } in records.drain(start..).filter_map(|(_, left)| left) {
                wait = wait.max(own);
                left.push(item);
            }
            self.settle_lane(lane, left, wait);
        }
    }

    /// Takes back a record whose dead letter is written, or is not.
    pub(crate) fn put_away(&mut self, (lane, left, bytes): (LaneId, Option<Left>, usize)) {
        self.bytes -= bytes;
        let wait = left.as_ref().map_or(Wait::Nothing, |left| left.wait);
        self.settle_lane(lane, left.into_iter().map(|left| left.item).collect(), wait);
    }

    fn settle_lane(&mut self, lane: LaneId, mut left: Vec<Item>, wait: Wait) {
        let delay = match wait {
            Wait::Held(asked) if !left.is_empty() => {
                let tries = self.held.entry(lane).or_default();
                let delay = asked.unwrap_or_else(|| held_for(*tries));
                *tries = tries.saturating_add(1);
                delay
            }
            wait => {
                self.goes_on(lane);
                if let Wait::Time(delay) = wait { delay } else { Duration::ZERO }
            }
        };
        if delay > LONG {
            left.iter_mut().for_each(|item| item.message.detach());
        }
        let until = (!delay.is_zero()).then(|| after(delay));
        self.lanes.done(lane, left.into_iter(), until);
    }

    /// A lane that was held goes on, so others that are may do so too: they try at once.
    fn goes_on(&mut self, lane: LaneId) {
        if self.held.is_empty() || self.held.remove(&lane).is_none() {
            return;
        }
        self.held.keys().for_each(|other| self.lanes.wake_lane(*other));
        if self.held.is_empty() {
            self.hands.partition.goes_on();
        }
    }
}

/// How long a lane that is held waits after so many tries.
fn held_for(tries: u32) -> Duration {
    let (first, most) = TROUBLE;
    jittered(ceiling(first, most, tries))
}
