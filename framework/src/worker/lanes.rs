//! Gets a partition's records lane by lane, gives those that may be handled now.
//!
//! A lane is where order holds: a key, or one event. It has one run at a time, of its
//! oldest records, and exists only as long as it has any.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

/// A lane's number: the hash of what it is for. Two that collide share an order, which
/// costs time and harms nothing.
pub(crate) type LaneId = u64;

/// An entry of a lane.
pub(crate) trait Queued {
    /// Whether it goes in a run of its own, by [`Lanes::take_apart`].
    fn is_apart(&self) -> bool;
}

/// The lanes of one partition.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    lanes: HashMap<LaneId, Lane<T>, BuildHasherDefault<Same>>,
    /// Those with records that nobody has in hand, oldest first.
    ready: VecDeque<LaneId>,
    /// The same, of those whose oldest record goes apart.
    apart: VecDeque<LaneId>,
    /// Those that wait for a time. A lane that was woken before it stays here until then.
    waiting: BinaryHeap<Reverse<(Instant, LaneId)>>,
}

#[derive(Debug)]
struct Lane<T> {
    /// The oldest; most lanes have no other, and need no queue.
    first: Option<T>,
    rest: VecDeque<T>,
    state: State,
}

impl<T> Lane<T> {
    fn push_back(&mut self, record: T) {
        if self.first.is_none() && self.rest.is_empty() {
            self.first = Some(record);
        } else {
            self.rest.push_back(record);
        }
    }

    fn push_front(&mut self, record: T) {
        if let Some(second) = self.first.replace(record) {
            self.rest.push_front(second);
        }
    }

    fn peek(&self) -> Option<&T> {
        self.first.as_ref().or(self.rest.front())
    }

    fn pop(&mut self) -> Option<T> {
        self.first.take().or_else(|| self.rest.pop_front())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    InHand,
    Waiting(Instant),
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            lanes: HashMap::default(),
            ready: VecDeque::new(),
            apart: VecDeque::new(),
            waiting: BinaryHeap::new(),
        }
    }
}

impl<T: Queued> Lanes<T> {
    /// Adds the newest record of a lane, which does not go apart.
    pub(crate) fn push(&mut self, lane: LaneId, record: T) {
        match self.lanes.entry(lane) {
            Entry::Occupied(mut there) => there.get_mut().push_back(record),
            Entry::Vacant(free) => {
                free.insert(Lane { first: Some(record), rest: VecDeque::new(), state: State::Ready });
                self.ready.push_back(lane);
            }
        }
    }

    /// Takes the oldest records of the lane that is ready for longest, at most so many, and
    /// with `many` those of further lanes; each up to a record that goes apart.
    ///
    /// Each lane's records stand together. [`done`](Self::done) has to follow for each lane.
    pub(crate) fn take(&mut self, most: usize, many: bool) -> Vec<(LaneId, T)> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(id) = self.ready.pop_front()
        {
            let lane = self.lanes.get_mut(&id).expect("what is ready is there");
            while let Some(record) = lane.pop() {
                taken.push((id, record));
                if taken.len() == most || lane.peek().is_some_and(T::is_apart) {
                    break;
                }
            }
            lane.state = State::InHand;
            if !many {
                break;
            }
        }
        taken
    }

    /// Takes the oldest record that goes apart. [`done`](Self::done) has to follow.
    pub(crate) fn take_apart(&mut self) -> Option<(LaneId, T)> {
        let id = self.apart.pop_front()?;
        let lane = self.lanes.get_mut(&id).expect("what is ready is there");
        lane.state = State::InHand;
        lane.pop().map(|record| (id, record))
    }

    /// Gives a lane back with those of its records that are not done, which go first, and
    /// not before `until`.
    pub(crate) fn done(
        &mut self,
        id: LaneId,
        undone: impl DoubleEndedIterator<Item = T>,
        until: Option<Instant>,
    ) {
        let Entry::Occupied(mut entry) = self.lanes.entry(id) else { return };
        let lane = entry.get_mut();
        for record in undone.rev() {
            lane.push_front(record);
        }
        let Some(first) = lane.peek() else {
            entry.remove();
            return;
        };
        match until {
            None => {
                let queue = if first.is_apart() { &mut self.apart } else { &mut self.ready };
                lane.state = State::Ready;
                queue.push_back(id);
            }
            Some(until) => {
                lane.state = State::Waiting(until);
                self.waiting.push(Reverse((until, id)));
            }
        }
    }

    /// Makes the lanes ready whose time has come; gives the time of the next.
    pub(crate) fn wake(&mut self, now: Instant) -> Option<Instant> {
        while let Some(&Reverse((until, id))) = self.waiting.peek() {
            let is_waiting = self.lanes.get(&id).is_some_and(|lane| lane.state == State::Waiting(until));
            if is_waiting && until > now {
                return Some(until);
            }
            self.waiting.pop();
            if is_waiting {
                self.wake_lane(id);
            }
        }
        None
    }

    /// Makes a lane ready, if it waits.
    pub(crate) fn wake_lane(&mut self, id: LaneId) {
        let waits = |lane: &&mut Lane<T>| matches!(lane.state, State::Waiting(_));
        let Some(lane) = self.lanes.get_mut(&id).filter(waits) else { return };
        lane.state = State::Ready;
        // What has waited is older than what is ready.
        let queue = if lane.peek().is_some_and(T::is_apart) { &mut self.apart } else { &mut self.ready };
        queue.push_front(id);
    }

    pub(crate) fn is_waiting(&self, id: LaneId) -> bool {
        self.lanes.get(&id).is_some_and(|lane| matches!(lane.state, State::Waiting(_)))
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many lanes have records that nobody has in hand.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The records that nobody has in hand, to change.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.lanes.values_mut().flat_map(|lane| lane.first.iter_mut().chain(lane.rest.iter_mut()))
    }
}

/// A lane's number is a hash already.
#[derive(Debug, Default)]
pub(crate) struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers of lanes are hashed");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    impl Queued for u32 {
        fn is_apart(&self) -> bool {
            self % 17 == 16
        }
    }

    #[test]
    fn a_lane_in_hand_gives_nothing_more_and_its_undone_go_first() {
        let mut lanes = Lanes::default();
        [(1, 10), (2, 20), (1, 11), (1, 12)].into_iter().for_each(|(lane, record)| lanes.push(lane, record));
        assert_eq!(lanes.take(2, false), [(1, 10), (1, 11)]);
        assert_eq!(lanes.take(9, false), [(2, 20)]);
        assert!(lanes.take(9, false).is_empty(), "12 stands behind 10 and 11");
        lanes.done(1, [11].into_iter(), None);
        assert_eq!(lanes.take(9, false), [(1, 11), (1, 12)]);
    }

    #[test]
    fn a_record_that_goes_apart_is_in_no_run_of_others_and_its_successors_wait_for_it() {
        let mut lanes = Lanes::default();
        [(1, 10), (2, 19), (3, 30)].into_iter().for_each(|(lane, record)| lanes.push(lane, record));
        assert_eq!(lanes.take(9, true), [(1, 10), (2, 19), (3, 30)]);
        assert_eq!(lanes.take_apart(), None);
        // 16 and 33 were given up.
        lanes.done(1, [16, 17].into_iter(), None);
        lanes.done(2, [19, 33, 34].into_iter(), None);
        lanes.done(3, [30].into_iter(), None);
        assert_eq!(lanes.take(9, true), [(2, 19), (3, 30)], "34 stands behind 33");
        assert_eq!(lanes.take_apart(), Some((1, 16)));
        assert_eq!(lanes.take_apart(), None);
        lanes.done(1, [].into_iter(), None);
        lanes.done(2, [].into_iter(), None);
        assert_eq!(lanes.take(9, true), [(1, 17)]);
        assert_eq!(lanes.take_apart(), Some((2, 33)));
        lanes.done(2, [33].into_iter(), Some(Instant::now()));
        lanes.wake(Instant::now());
        assert_eq!((lanes.take(9, true), lanes.take_apart()), (vec![], Some((2, 33))));
    }

    #[test]
    fn a_lane_that_is_woken_before_its_time_goes_once() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        lanes.push(1, 10);
        lanes.take(1, true);
        lanes.done(1, [10].into_iter(), Some(later));
        lanes.wake_lane(1);
        lanes.wake_lane(1);
        lanes.wake_lane(2);
        assert_eq!(lanes.take(9, true), [(1, 10)]);
        lanes.done(1, [10].into_iter(), Some(soon));
        assert_eq!((lanes.wake(soon), lanes.wake(later)), (None, None));
        assert_eq!(lanes.take(9, true), [(1, 10)]);
        lanes.done(1, [].into_iter(), None);
        assert_eq!(lanes.wake(later), None);
        assert!(lanes.lanes.is_empty() && lanes.ready.is_empty() && lanes.waiting.is_empty());
    }

    #[test]
    fn a_run_of_many_lanes_has_no_more_than_the_most() {
        let mut lanes = Lanes::default();
        [(1, 10), (1, 11), (2, 20), (2, 21), (3, 30)]
            .into_iter()
            .for_each(|(lane, record)| lanes.push(lane, record));
        assert_eq!(lanes.take(3, true), [(1, 10), (1, 11), (2, 20)]);
        assert_eq!(lanes.take(3, true), [(3, 30)], "21 stands behind 20");
    }

    #[test]
    fn it_says_what_is_ready_and_what_waits_and_gives_what_nobody_has_in_hand() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        assert!(!lanes.has_ready());
        [(1, 10), (2, 20), (2, 21), (3, 30)].into_iter().for_each(|(lane, record)| lanes.push(lane, record));
        assert_eq!((lanes.has_ready(), lanes.ready()), (true, 3));
        lanes.take(1, false);
        lanes.take(1, false);
        lanes.done(1, [10].into_iter(), Some(now + Duration::from_secs(1)));
        assert_eq!([1, 2, 3, 4].map(|lane| lanes.is_waiting(lane)), [true, false, false, false]);
        assert_eq!(lanes.ready(), 1);
        let mut here: Vec<u32> = lanes.iter_mut().map(|record| *record).collect();
        here.sort_unstable();
        assert_eq!(here, [10, 21, 30]);
    }

    #[test]
    fn a_lane_that_waits_is_ready_again_at_its_time_and_an_idle_one_is_forgotten() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        lanes.push(1, 10);
        lanes.take(1, true);
        lanes.done(1, [10].into_iter(), Some(later));
        lanes.push(1, 11);
        assert!(lanes.is_waiting(1) && lanes.take(9, true).is_empty());
        assert_eq!(lanes.wake(now), Some(later));
        assert_eq!(lanes.wake(later), None);
        assert_eq!(lanes.take(9, true), [(1, 10), (1, 11)]);
        lanes.done(1, [].into_iter(), None);
        assert!(lanes.lanes.is_empty());
    }

    /// Any interleaving of arrivals, runs, failures and waits handles each lane's records
    /// once and in order, and leaves nothing behind.
    #[test]
    fn no_record_overtakes_one_of_its_lane_whatever_happens() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut lanes = Lanes::default();
            let (mut next, mut now) = (0_u32, Instant::now());
            let mut done: BTreeMap<LaneId, Vec<u32>> = BTreeMap::new();
            let mut running: Vec<Vec<(LaneId, u32)>> = Vec::new();
            let total = 200;
            while next < total || !lanes.lanes.is_empty() || !running.is_empty() {
                now += Duration::from_millis(1);
                lanes.wake(now);
                match random.u8(..4) {
                    0 if next < total => {
                        lanes.push(u64::from(random.u8(..5)), next);
                        next += 1;
                    }
                    1 | 2 => {
                        let taken = lanes.take(random.usize(1..6), random.bool());
                        running.extend((!taken.is_empty()).then_some(taken));
                        running.extend(lanes.take_apart().map(|taken| vec![taken]));
                        lanes.wake_lane(u64::from(random.u8(..5)));
                    }
                    _ if !running.is_empty() => {
                        let run = running.swap_remove(random.usize(..running.len()));
                        let mut by_lane: BTreeMap<LaneId, Vec<u32>> = BTreeMap::new();
                        run.into_iter()
                            .for_each(|(lane, record)| by_lane.entry(lane).or_default().push(record));
                        for (lane, records) in by_lane {
                            let finished = random.usize(..=records.len());
                            done.entry(lane).or_default().extend(&records[..finished]);
                            let until = random.bool().then(|| now + Duration::from_millis(random.u64(..20)));
                            lanes.done(lane, records[finished..].iter().copied(), until);
                        }
                    }
                    _ => {}
                }
            }
            lanes.wake(now + Duration::from_secs(1));
            assert!(done.values().all(|records| records.is_sorted()), "seed {seed}: {done:?}");
            assert_eq!(done.values().map(Vec::len).sum::<usize>(), total as usize, "seed {seed}");
            assert!(
                lanes.lanes.is_empty() && lanes.ready.is_empty() && lanes.waiting.is_empty(),
                "seed {seed}"
            );
        }
    }
}
