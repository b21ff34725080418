//! Gets the records of a partition and the unfinished ones of its runs, gives the next records,
//! where runs are concurrent.
//!
//! It decides and does nothing: all that it knows it is told, the time too.

use super::lanes::{LaneId, Lanes, Queued};
use super::pace::Pace;
use crate::HandlerError;
use crate::base::backoff::{ceiling, jittered, later};
use crate::config::Order;
use crate::kafka::message::Message;
use crate::routing::order::Sharing;
use foldhash::quality::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
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

/// What came of writing a dead letter: its lane, what is left to do, and the bytes of what is done.
pub(crate) type PutAway = (LaneId, Option<Left>, usize);

/// Several transactions at once hide each other's commits; more would only make each
/// smaller. Without order by key they go one after the other: two of them would write the
/// rows of one key, and end in a deadlock.
const SHARED_RUNS: usize = 4;
/// Records of a run that is shared while the handler is quick, and about so many before other tasks of
/// the thread go first.
pub(crate) const MOST_QUICK: usize = 256;
/// The first and the longest delay of a lane that waits for something else than a retry.
pub(crate) const TROUBLE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// So many dead letters are written at once. They take no run's place, so that one that cannot be
/// written holds its own lane and nothing else.
const LETTERS: usize = 64;
/// What waits for longer than this for its retry lets go of librdkafka's memory.
const LONG: Duration = Duration::from_millis(50);
/// What stands in its lane for longer does so too.
const SWEPT_AFTER: Duration = Duration::from_secs(1);
/// With so many lanes ready no more is taken in: what is looked at just before it is handled is
/// still in the processor's cache.
const ENOUGH: usize = 256;
/// How long it has to be full before that is said, and again.
const SAID_AFTER: Duration = Duration::from_secs(1);
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What does not change while the partition is worked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) order: Order,
    pub(crate) sharing: Sharing,
    /// Of a run.
    pub(crate) records: usize,
    /// Of a run.
    pub(crate) time: Duration,
    /// The most records beyond the watermark.
    pub(crate) in_flight: usize,
    /// The most bytes of these.
    pub(crate) in_flight_bytes: usize,
}

/// What the worker has under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnderWay {
    pub(crate) runs: usize,
    pub(crate) letters: usize,
    /// It stands in line for a turn.
    pub(crate) in_line: bool,
}

/// What the worker does next.
pub(crate) enum Next {
    /// It has this dead letter written.
    Letter(LaneId, Item),
    /// It starts a run, if there is a turn.
    Run,
    Wait,
}

/// The worker's own: what it has, and how much may come.
pub(crate) struct Desk {
    terms: Terms,
    lanes: Lanes<Item>,
    pace: Pace,
    /// The most records of a run that is shared while the handler is quick.
    quick: usize,
    /// Lanes that Onceward's own work keeps from going on, and how often they tried.
    held: HashMap<LaneId, u32>,
    hasher: RandomState,
    /// Of all records here, in hand or not.
    bytes: usize,
    newest: i64,
    /// When the records up to which offset let go of librdkafka's memory.
    sweep: Option<(Instant, i64)>,
    full_since: Option<Instant>,
    full_said: Option<Instant>,
    keyless: u64,
}

impl Desk {
    pub(crate) fn new(terms: Terms) -> Self {
        Self {
            terms,
            lanes: Lanes::default(),
            pace: Pace::new(terms.records, terms.time),
            quick: 1,
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

    /// The offset of its newest record.
    pub(crate) fn newest(&self) -> i64 {
        self.newest
    }

    /// Adds records, in order. `identity` gives what copies of one share, where that counts. Gives the
    /// offsets of records without a key that are to be told of, and how many there were up to each.
    pub(crate) fn add(
        &mut self,
        messages: Vec<Message>,
        now: Instant,
        identity: impl Fn(&Message) -> Option<u128>,
    ) -> Vec<(i64, u64)> {
        let mut keyless = Vec::new();
        for mut message in messages {
            self.newest = message.offset();
            self.bytes += message.size();
            let lane = match (self.terms.order, message.key()) {
                (Order::Key, Some(key)) => self.hasher.hash_one(key),
                (Order::Key, None) => {
                    keyless.extend(self.without_key(&message));
                    0
                }
                _ => identity(&message).map_or(message.offset() as u64, |own| self.hasher.hash_one(own)),
            };
            if self.lanes.is_waiting(lane) {
                message.detach();
            }
            self.lanes.push(lane, Item { message, attempt: 1, given_up: None });
        }
        self.sweep.get_or_insert_with(|| (now + SWEPT_AFTER, self.newest));
        keyless
    }

    fn without_key(&mut self, message: &Message) -> Option<(i64, u64)> {
        self.keyless += 1;
        // At the first, and then ever more rarely.
        let is_told = self.keyless.is_power_of_two() && self.keyless.trailing_zeros().is_multiple_of(4);
        is_told.then(|| (message.offset(), self.keyless))
    }

    /// Makes the lanes ready whose time has come; gives the time of the next. One record pins the whole
    /// fetch that brought it, so what stands for long is copied.
    pub(crate) fn wake(&mut self, now: Instant) -> Option<Instant> {
        let next = self.lanes.wake(now);
        if let Some((_, up_to)) = self.sweep.filter(|(at, _)| *at <= now) {
            let old = self.lanes.iter_mut().filter(|item| item.message.offset() <= up_to);
            old.for_each(|item| item.message.detach());
            self.sweep = (up_to < self.newest).then(|| (now + SWEPT_AFTER, self.newest));
        }
        next
    }

    /// How many records come in at once. Runs that share a commit are the better the longer
    /// they are.
    pub(crate) fn at_once(&self) -> usize {
        if self.terms.sharing == Sharing::Always { usize::MAX } else { ENOUGH }
    }

    /// How many records may come in, where `beyond` of those that came stand at or behind the watermark.
    pub(crate) fn room(&mut self, beyond: impl FnOnce() -> usize, now: Instant) -> usize {
        if self.lanes.ready() >= self.at_once() {
            self.full_since = None;
            return 0;
        }
        let is_full = self.bytes >= self.terms.in_flight_bytes;
        let room = if is_full { 0 } else { self.terms.in_flight.saturating_sub(beyond()) };
        match (room, self.full_since) {
            (0, None) => self.full_since = Some(now),
            (0, Some(_)) => {}
            _ => self.full_since = None,
        }
        room
    }

    /// For how long it has been full, if that is to be said now.
    pub(crate) fn full_for(&mut self, now: Instant) -> Option<Duration> {
        let full_for = now.saturating_duration_since(self.full_since?);
        let is_said = |said| now.saturating_duration_since(said) < SAID_AGAIN_AFTER;
        if full_for < SAID_AFTER || self.full_said.is_some_and(is_said) {
            return None;
        }
        self.full_said = Some(now);
        Some(full_for)
    }

    /// When to look again: at the time of the next lane that waits or of the next sweep, and
    /// while it is full.
    pub(crate) fn looks_at(&self, wakes: Option<Instant>, now: Instant) -> Option<Instant> {
        let full = self.full_since.map(|_| now + SAID_AFTER);
        wakes.into_iter().chain(self.sweep.map(|(at, _)| at)).chain(full).min()
    }

    /// What comes next.
    pub(crate) fn next(&mut self, under_way: UnderWay) -> Next {
        if under_way.letters < LETTERS
            && let Some((lane, item)) = self.lanes.take_apart()
        {
            return Next::Letter(lane, item);
        }
        if !under_way.in_line && self.has_next_run(under_way.runs) { Next::Run } else { Next::Wait }
    }

    /// Whether to stand in line for a turn: only a worker that has less than its share does, before
    /// those that have more.
    pub(crate) fn wants_turn(&self, under_way: UnderWay, share: usize) -> bool {
        !under_way.in_line && under_way.runs < share && self.has_next_run(under_way.runs)
    }

    /// Whether a run can start beside so many.
    pub(crate) fn has_next_run(&self, runs: usize) -> bool {
        let most = match (self.terms.sharing, self.terms.order) {
            (Sharing::Always, Order::Key) => SHARED_RUNS,
            (Sharing::Always, _) => 1,
            (Sharing::Never | Sharing::WhileQuick, _) => usize::MAX,
        };
        runs < most && self.lanes.has_ready()
    }

    /// Takes the records of the next run. Each comes back, by [`settle`](Self::settle).
    pub(crate) fn take(&mut self) -> Vec<(LaneId, Item)> {
        let most = self.pace.records();
        let (most, many) = match self.terms.sharing {
            Sharing::Always => (most, true),
            Sharing::Never => (most, false),
            Sharing::WhileQuick => (most.min(self.quick.max(1)), self.quick > 1),
        };
        self.lanes.take(most, many)
    }

    /// Takes back what a run has left. `true` where nothing is held any more.
    pub(crate) fn settle(&mut self, ended: Ended, now: Instant) -> bool {
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
        let mut goes_on = false;
        while let Some(&(lane, _)) = records.last() {
            let start = records.iter().rposition(|(other, _)| *other != lane).map_or(0, |place| place + 1);
            let mut wait = held.map_or(Wait::Nothing, |delay| Wait::Held(Some(delay)));
            let mut left = Vec::new();
            for Left { item, wait: own } in records.drain(start..).filter_map(|(_, left)| left) {
                wait = wait.max(own);
                left.push(item);
            }
            goes_on |= self.settle_lane(lane, left, wait, now);
        }
        goes_on
    }

    /// Takes back a record whose dead letter is written, or is not. `true` where nothing is held any more.
    pub(crate) fn put_away(&mut self, (lane, left, bytes): PutAway, now: Instant) -> bool {
        self.bytes -= bytes;
        let wait = left.as_ref().map_or(Wait::Nothing, |left| left.wait);
        self.settle_lane(lane, left.into_iter().map(|left| left.item).collect(), wait, now)
    }

    fn settle_lane(&mut self, lane: LaneId, mut left: Vec<Item>, wait: Wait, now: Instant) -> bool {
        let mut goes_on = false;
        let delay = match wait {
            Wait::Held(asked) if !left.is_empty() => {
                let tries = self.held.entry(lane).or_default();
                let delay = asked.unwrap_or_else(|| held_for(*tries));
                *tries = tries.saturating_add(1);
                delay
            }
            wait => {
                goes_on = self.goes_on(lane);
                if let Wait::Time(delay) = wait { delay } else { Duration::ZERO }
            }
        };
        if delay > LONG {
            left.iter_mut().for_each(|item| item.message.detach());
        }
        let until = (!delay.is_zero()).then(|| later(now, delay));
        self.lanes.done(lane, left.into_iter(), until);
        goes_on
    }

    /// A lane that was held goes on, so others that are may do so too: they try at once.
    fn goes_on(&mut self, lane: LaneId) -> bool {
        if self.held.is_empty() || self.held.remove(&lane).is_none() {
            return false;
        }
        self.held.keys().for_each(|other| self.lanes.wake_lane(*other));
        self.held.is_empty()
    }
}

/// How long a lane that is held waits after so many tries.
fn held_for(tries: u32) -> Duration {
    let (first, most) = TROUBLE;
    jittered(ceiling(first, most, tries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::message::OwnedMessage;
    use std::collections::{BTreeMap, BTreeSet};

    fn terms(order: Order, sharing: Sharing) -> Terms {
        let time = Duration::from_secs(1);
        Terms { order, sharing, records: 10, time, in_flight: 30, in_flight_bytes: 10_000 }
    }

    fn message(offset: i64, key: Option<u8>) -> Message {
        let key = key.map(|key| vec![key]);
        Message::Owned(Box::new(OwnedMessage {
            offset,
            key,
            payload: Some(vec![0; 9]),
            ..Default::default()
        }))
    }

    const NOTHING: UnderWay = UnderWay { runs: 0, letters: 0, in_line: false };

    fn held(lane: LaneId, item: Item) -> (LaneId, Option<Left>) {
        (lane, Some(Left { item, wait: Wait::Held(None) }))
    }

    fn ended(records: Vec<(LaneId, Option<Left>)>, bytes: usize, waited: bool) -> Ended {
        let finished = records.iter().filter(|(_, left)| left.is_none()).count();
        Ended { records, finished, held: false, waited, bytes, took: Duration::from_millis(1) }
    }

    /// A worker whose handler ends as chance has it.
    struct World {
        random: fastrand::Rng,
        terms: Terms,
        desk: Desk,
        now: Instant,
        delivered: i64,
        unfinished: BTreeSet<i64>,
        runs: Vec<Vec<(LaneId, Item)>>,
        letters: Vec<(LaneId, Item)>,
        /// The offsets that are done, by key.
        done: BTreeMap<Option<u8>, Vec<i64>>,
    }

    const TOTAL: i64 = 150;

    impl World {
        fn new(seed: u64) -> Self {
            let mut random = fastrand::Rng::with_seed(seed);
            let order = [Order::Key, Order::None][random.usize(..2)];
            let sharing = [Sharing::Always, Sharing::Never, Sharing::WhileQuick][random.usize(..3)];
            let terms = Terms { records: random.usize(1..20), ..terms(order, sharing) };
            Self {
                random,
                terms,
                desk: Desk::new(terms),
                now: Instant::now(),
                delivered: 0,
                unfinished: BTreeSet::new(),
                runs: Vec::new(),
                letters: Vec::new(),
                done: BTreeMap::new(),
            }
        }

        fn beyond(&self) -> usize {
            let oldest = self.unfinished.first().copied().unwrap_or(self.delivered);
            usize::try_from(self.delivered - oldest).unwrap()
        }

        fn take_in(&mut self) {
            let beyond = self.beyond();
            let room = self.desk.room(|| beyond, self.now).min(self.random.usize(..7));
            let count = (room as i64).min(TOTAL - self.delivered);
            let messages: Vec<_> = (self.delivered..self.delivered + count)
                .map(|offset| message(offset, [None, Some(1), Some(2), Some(3)][self.random.usize(..4)]))
                .collect();
            self.unfinished.extend(messages.iter().map(Message::offset));
            self.delivered += count;
            self.desk.add(messages, self.now, |_| None);
            assert!(self.beyond() <= self.terms.in_flight, "`max_in_flight` holds");
        }

        fn start(&mut self) {
            loop {
                let under_way =
                    UnderWay { runs: self.runs.len(), letters: self.letters.len(), in_line: false };
                match self.desk.next(under_way) {
                    Next::Letter(lane, item) => {
                        assert!(item.given_up.is_some() && self.is_free(lane));
                        self.letters.push((lane, item));
                    }
                    Next::Run if self.random.u8(..4) > 0 => {
                        let taken = self.desk.take();
                        assert!((1..=self.terms.records).contains(&taken.len()));
                        assert!(
                            taken.iter().all(|(lane, item)| item.given_up.is_none() && self.is_free(*lane))
                        );
                        self.runs.push(taken);
                        assert!(self.terms.sharing != Sharing::Always || self.runs.len() <= SHARED_RUNS);
                    }
                    _ => return,
                }
            }
        }

        /// Whether nobody has a record of this lane in hand.
        fn is_free(&self, lane: LaneId) -> bool {
            !self.runs.iter().flatten().chain(&self.letters).any(|(other, _)| *other == lane)
        }

        fn finish(&mut self, item: &Item) -> usize {
            let key = item.message.key().map(|key| key[0]);
            assert!(self.unfinished.remove(&item.message.offset()), "each is done once");
            self.done.entry(key).or_default().push(item.message.offset());
            item.message.size()
        }

        fn end_a_run(&mut self) {
            if self.runs.is_empty() {
                return;
            }
            let run = self.runs.swap_remove(self.random.usize(..self.runs.len()));
            let (mut records, mut bytes, mut fails) = (Vec::new(), 0, None);
            for (lane, mut item) in run {
                // What stands behind one that failed is not reached, or of another lane.
                let is_behind = fails == Some(lane);
                if !is_behind && self.random.u8(..4) > 0 {
                    bytes += self.finish(&item);
                    records.push((lane, None));
                    continue;
                }
                fails = Some(lane);
                let wait = match self.random.u8(..5) {
                    _ if is_behind => Wait::Nothing,
                    0 => Wait::Nothing,
                    1 => Wait::Held(None),
                    2 => {
                        item.given_up = Some(HandlerError::new("given up"));
                        Wait::Nothing
                    }
                    _ => Wait::Time(Duration::from_millis(self.random.u64(..200))),
                };
                records.push((lane, Some(Left { item, wait })));
            }
            let ended = ended(records, bytes, self.random.bool());
            self.desk.settle(ended, self.now);
        }

        fn end_a_letter(&mut self) {
            if self.letters.is_empty() {
                return;
            }
            let (lane, item) = self.letters.swap_remove(self.random.usize(..self.letters.len()));
            if self.random.bool() {
                let bytes = self.finish(&item);
                self.desk.put_away((lane, None, bytes), self.now);
            } else {
                let (lane, left) = held(lane, item);
                self.desk.put_away((lane, left, 0), self.now);
            }
        }

        fn go_on(&mut self) {
            let wakes = self.desk.wake(self.now);
            let is_idle = self.runs.is_empty() && self.letters.is_empty() && !self.desk.has_next_run(0);
            let soon = self.now + Duration::from_millis(self.random.u64(1..20));
            self.now = wakes.filter(|_| is_idle).unwrap_or(soon).max(soon);
            self.take_in();
            self.start();
            self.end_a_run();
            self.end_a_letter();
        }
    }

    #[test]
    fn whatever_fails_or_waits_each_record_is_done_once_and_behind_those_of_its_key() {
        for seed in 0..500 {
            let mut world = World::new(seed);
            for round in 0.. {
                assert!(round < 100_000, "seed {seed}: it goes on without end");
                world.go_on();
                if world.delivered == TOTAL && world.unfinished.is_empty() {
                    break;
                }
            }
            let World { terms, desk, done, .. } = world;
            assert_eq!(done.values().map(Vec::len).sum::<usize>(), TOTAL as usize, "seed {seed}");
            let is_in_order = done.values().all(|offsets| offsets.is_sorted());
            assert!(is_in_order || terms.order == Order::None, "seed {seed}: {done:?}");
            assert_eq!((desk.bytes, desk.held.len(), desk.lanes.ready()), (0, 0, 0), "seed {seed}");
        }
    }

    #[test]
    fn a_lane_that_goes_on_has_all_that_are_held_try_at_once() {
        let (mut desk, now) = (Desk::new(terms(Order::Key, Sharing::Never)), Instant::now());
        desk.add(vec![message(0, Some(1)), message(1, Some(2))], now, |_| None);
        let (one, other) = (desk.take().remove(0), desk.take().remove(0));
        assert!(!desk.settle(ended(vec![held(one.0, one.1)], 0, true), now));
        let wait = Wait::Held(Some(Duration::from_secs(60 * 60)));
        let left = vec![(other.0, Some(Left { item: other.1, wait }))];
        assert!(!desk.settle(ended(left, 0, true), now));
        let later = now + Duration::from_secs(1);
        desk.wake(later);
        let (lane, item) = desk.take().remove(0);
        assert!(!desk.has_next_run(0), "the other waits");
        assert!(
            !desk.settle(ended(vec![(lane, None)], item.message.size(), true), later),
            "it is held still"
        );
        assert!(desk.has_next_run(0), "and tries at once");
        let (lane, item) = desk.take().remove(0);
        assert!(desk.settle(ended(vec![(lane, None)], item.message.size(), true), later));
    }

    #[test]
    fn only_who_has_less_than_its_share_stands_in_line_and_only_once() {
        let (mut desk, now) = (Desk::new(terms(Order::Key, Sharing::Never)), Instant::now());
        assert!(!desk.wants_turn(NOTHING, 2), "it has nothing to do");
        desk.add(vec![message(0, Some(1))], now, |_| None);
        assert!(desk.wants_turn(UnderWay { runs: 1, ..NOTHING }, 2));
        assert!(!desk.wants_turn(UnderWay { runs: 2, ..NOTHING }, 2));
        assert!(!desk.wants_turn(UnderWay { in_line: true, ..NOTHING }, 2));
        assert!(matches!(desk.next(UnderWay { in_line: true, ..NOTHING }), Next::Wait));
    }

    #[test]
    fn a_partition_that_stays_full_is_told_of_now_and_then() {
        let (mut desk, now) = (Desk::new(terms(Order::Key, Sharing::Never)), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!((desk.room(|| 30, now), desk.full_for(now)), (0, None));
        assert_eq!(desk.looks_at(None, now), Some(at(1)));
        assert_eq!(desk.full_for(at(1)), Some(Duration::from_secs(1)));
        assert_eq!(desk.full_for(at(30)), None);
        assert_eq!(desk.full_for(at(31)), Some(Duration::from_secs(31)));
        assert_eq!((desk.room(|| 29, at(32)), desk.full_for(at(99))), (1, None));
    }

    #[test]
    fn records_without_a_key_are_one_lane_and_told_of_ever_more_rarely() {
        let (mut desk, now) = (Desk::new(terms(Order::Key, Sharing::Always)), Instant::now());
        let told = desk.add((0..300).map(|offset| message(offset, None)).collect(), now, |_| None);
        assert_eq!(told, [(0, 1), (15, 16), (255, 256)]);
        assert_eq!(desk.lanes.ready(), 1);
    }
}
