//! Gets a partition's records, gives them to runs that go side by side, each of one lane
//! or of several.

use crate::backoff::{ceiling, jittered};
use crate::error::Decision;
use crate::lanes::{LaneId, Lanes};
use crate::order::{Order, Sharing};
use crate::pace::Pace;
use crate::partition::{Limits, Partition};
use crate::read_lock::step_aside;
use crate::record::{Message, Record};
use crate::router::Router;
use crate::run::{Fetched, Progress, Run, RunClock};
use crate::{HandlerError, Outcome};
use foldhash::quality::RandomState;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::{Future, poll_fn};
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::SemaphorePermit;

/// What a run needs of its worker.
#[derive(Clone, Copy)]
pub(crate) struct Hands<'w> {
    pub(crate) partition: &'w Partition,
    pub(crate) router: &'w Router,
    pub(crate) limits: &'w Limits,
}

/// One record in memory.
struct Item {
    message: Message,
    attempt: u32,
    /// It was given up, and what is left to do is its dead letter.
    given_up: Option<HandlerError>,
}

/// A run that has ended.
struct Ended {
    /// Each record with what is left to do; each lane's together and in order.
    records: Vec<(LaneId, Option<Left>)>,
    finished: usize,
    /// Whether it had to wait for anything.
    waited: bool,
    bytes: usize,
    took: Duration,
}

/// What has left runs that go on.
type Early = Arc<Mutex<Vec<Ended>>>;

/// A record that is not done.
struct Left {
    item: Item,
    delay: Duration,
}

/// Several transactions at once hide each other's commits; more would only make each
/// smaller. Without order by key they go one after the other: two of them would write the
/// rows of one key, and end in a deadlock.
const SHARED_RUNS: usize = 4;
/// What waits for longer than this for its retry lets go of librdkafka's memory.
const LONG: Duration = Duration::from_millis(50);
/// What stands in its lane for longer does so too.
const SWEPT_AFTER: Duration = Duration::from_secs(1);
/// Records of a run that is shared while the handler is quick, and about so many before other tasks of
/// the thread go first.
const MOST_QUICK: usize = 256;
/// With so many lanes ready no more is taken in: what is looked at just before it is handled is
/// still in the processor's cache.
const ENOUGH: usize = 256;
const TROUBLE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Works one partition until it is given away.
pub(crate) async fn work(hands: Hands<'_>, first: Fetched) {
    // Dropped last: no message may outlive the client.
    let _client = first.client.clone();
    let mut desk = Desk::new(hands);
    let mut runs = FuturesUnordered::new();
    let drain = &hands.partition.drain;
    let most_runs = match (desk.sharing, hands.router.order) {
        (Sharing::Always, Order::Key) => SHARED_RUNS,
        (Sharing::Always, _) => 1,
        (Sharing::Never | Sharing::WhileQuick, _) => usize::MAX,
    };
    let early = desk.early.clone();
    let turns = &hands.router.turns;
    let _worker = turns.join();
    let mut acquiring = None;
    let mut in_a_row = 0;
    desk.add(first);
    while !drain.has_begun() {
        while let Some(ended) = next(&mut runs, &early, true).await {
            desk.settle(ended);
        }
        desk.settle_early();
        let now = Instant::now();
        let wakes = desk.lanes.wake(now);
        desk.sweep(now);
        desk.fill();
        let mut started = false;
        while !drain.has_begun()
            && desk.lanes.has_ready()
            && runs.len() < most_runs
            && acquiring.is_none()
            && let Ok(permit) = turns.permits.try_acquire()
        {
            let taken = desk.take();
            in_a_row += taken.len();
            runs.push(hands.run(taken, early.clone(), permit));
            started = true;
            // A quick one ends at once, while its records are still in the processor's cache.
            while let Some(ended) = next(&mut runs, &early, true).await {
                desk.settle(ended);
            }
            // There may always be more, and other workers share this thread.
            if in_a_row >= MOST_QUICK {
                in_a_row = 0;
                step_aside().await;
            }
        }
        if started {
            continue;
        }
        if acquiring.is_none() && desk.lanes.has_ready() && runs.len() < most_runs.min(turns.share()) {
            // Only a worker that has less than its share stands in line, before those that have
            // more. Kept until its turn comes: who asks anew stands last.
            acquiring = Some(Box::pin(turns.permits.acquire()));
        }
        let (room, wakes) = (desk.room(), desk.looks_at(wakes));
        tokio::select! {
            ended = next(&mut runs, &early, false) => ended.into_iter().for_each(|ended| desk.settle(ended)),
            fetched = hands.partition.take(room.min(desk.at_once()), hands.limits.bytes), if room > 0 => match fetched {
                Some(fetched) => desk.add(fetched),
                None => break,
            },
            Some(Ok(permit)) = poll_fn(|context| match &mut acquiring {
                Some(acquiring) => acquiring.as_mut().poll(context).map(Some),
                None => Poll::Ready(None),
            }) => {
                acquiring = None;
                if desk.lanes.has_ready() {
                    runs.push(hands.run(desk.take(), early.clone(), permit));
                }
            }
            () = tokio::time::sleep_until(wakes.unwrap_or_else(Instant::now).into()), if wakes.is_some() => {}
            () = drain.begun() => {}
        }
    }
    drop(acquiring);
    while let Some(ended) = runs.next().await {
        desk.settle(ended);
    }
}

/// The next run that has ended. `None` where one has let go of records, and with `now` also
/// where none has ended yet.
async fn next<F: Future<Output = Ended>>(
    runs: &mut FuturesUnordered<F>,
    early: &Early,
    now: bool,
) -> Option<Ended> {
    poll_fn(|context| match runs.poll_next_unpin(context) {
        Poll::Ready(Some(ended)) => Poll::Ready(Some(ended)),
        _ if now || !lock(early).is_empty() => Poll::Ready(None),
        _ => Poll::Pending,
    })
    .await
}

fn lock(early: &Early) -> MutexGuard<'_, Vec<Ended>> {
    early.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'w> Hands<'w> {
    /// Handles some records, and gives back what is left of them.
    ///
    /// When the run has to wait for the first time, all but the lane in hand leave it: those
    /// before are done, and those behind go on in other runs.
    async fn run(self, taken: Vec<(LaneId, Item)>, early: Early, _permit: SemaphorePermit<'w>) -> Ended {
        let started = Instant::now();
        let source = &self.partition.source;
        let clock = RunClock::start(self.limits.time, self.partition.drain.clone());
        let mut order: Vec<usize> = (0..taken.len()).collect();
        order.sort_unstable_by_key(|place| taken[*place].1.message.offset());
        let record = |place: &usize| Record::new(&taken[*place].1.message, source, taken[*place].1.attempt);
        let records: Vec<Record<'_>> = order.iter().map(record).collect();
        let progress = Progress::default();
        let run = Run::new(&records, source, &clock).telling(&progress);
        let may_leave = taken.len() > 1 && self.router.sharing() == Sharing::WhileQuick;
        let (mut waited, mut stays) = (false, None);
        let outcomes = match &taken[0].1.given_up {
            Some(error) => self.router.give_up(run, error).await,
            None => {
                let mut handling = pin!(self.router.handle(run));
                poll_fn(|context| {
                    let polled = handling.as_mut().poll(context);
                    if polled.is_pending() && !std::mem::replace(&mut waited, true) && may_leave {
                        progress.cut();
                        stays = Some(self.leave(&taken, &order, progress.done(), started, &early));
                    }
                    polled
                })
                .await
            }
        };
        let finished = self.partition.finish(run, &outcomes);
        drop(records);
        let mut ends: Vec<Option<Outcome>> = Vec::new();
        ends.resize_with(taken.len(), || None);
        order.into_iter().zip(outcomes).for_each(|(place, outcome)| ends[place] = Some(outcome));
        let mut bytes = 0;
        let records =
            taken.into_iter().zip(ends).filter(|((lane, _), _)| stays.is_none_or(|stays| stays == *lane));
        let records = records.map(|((lane, item), end)| (lane, self.left(item, end, &mut bytes))).collect();
        Ended { records, finished, waited, bytes, took: started.elapsed() }
    }

    /// Lets all lanes leave but that of the record in hand, which stands behind `done`
    /// others; gives the one that stays.
    fn leave(
        self,
        taken: &[(LaneId, Item)],
        order: &[usize],
        done: usize,
        started: Instant,
        early: &Early,
    ) -> LaneId {
        let stays = taken[order[done.min(order.len() - 1)]].0;
        let mut is_done = vec![false; taken.len()];
        let mut offsets = self.partition.offsets();
        for &place in &order[..done] {
            is_done[place] = true;
            offsets.finish(taken[place].1.message.offset());
        }
        drop(offsets);
        let (mut bytes, mut finished) = (0, 0);
        let leaves = taken.iter().zip(is_done).filter(|((lane, _), _)| *lane != stays);
        let left = |((lane, item), is_done): (&(LaneId, Item), bool)| {
            if is_done {
                (bytes, finished) = (bytes + item.message.size(), finished + 1);
                return (*lane, None);
            }
            // The run goes on to borrow it.
            let item = Item { message: item.message.copy(), attempt: item.attempt, given_up: None };
            (*lane, Some(Left { item, delay: Duration::ZERO }))
        };
        let records = leaves.map(left).collect();
        let ended = Ended { records, finished, waited: true, bytes, took: started.elapsed() };
        lock(early).push(ended);
        stays
    }

    /// What is left to do of a record.
    fn left(self, mut item: Item, end: Option<Outcome>, bytes: &mut usize) -> Option<Left> {
        match end.unwrap_or(Outcome::NotReached) {
            Outcome::NotReached => Some(Left { item, delay: Duration::ZERO }),
            Outcome::Failed(error) => {
                let delay = self.delay(&item, &error);
                item.attempt = item.attempt.saturating_add(1);
                if let Some(Decision::PutAwayApart(_)) = error.decided() {
                    item.given_up = Some(error);
                }
                Some(Left { item, delay })
            }
            _ => {
                *bytes += item.message.size();
                None
            }
        }
    }

    /// When a failed record is tried again. One that no middleware dealt with is held, and
    /// its lane with it, where one can see it.
    fn delay(&self, item: &Item, error: &HandlerError) -> Duration {
        match error.decided() {
            Some(Decision::Again(delay)) => return delay,
            Some(Decision::PutAwayApart(_)) => return Duration::ZERO,
            Some(Decision::GiveUp(_)) | None => {}
        }
        let (first, most) = TROUBLE;
        let delay = error.delay().unwrap_or_else(|| jittered(ceiling(first, most, item.attempt.min(16))));
        tracing::error!(
            source = %self.partition.source.partition,
            offset = item.message.offset(),
            attempt = item.attempt,
            permanent = error.is_permanent(),
            ?delay,
            error = %error,
            "record failed; its lane waits for it"
        );
        delay
    }
}

/// The worker's own: what it has, and how much may come.
struct Desk<'w> {
    hands: Hands<'w>,
    lanes: Lanes<Item>,
    pace: Pace,
    sharing: Sharing,
    /// The most records of a run that is shared while the handler is quick.
    quick: usize,
    early: Early,
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

impl<'w> Desk<'w> {
    fn new(hands: Hands<'w>) -> Self {
        let most = hands.router.max_run_records.unwrap_or(usize::MAX).min(hands.limits.records);
        Self {
            hands,
            lanes: Lanes::default(),
            pace: Pace::new(most, hands.limits.time),
            sharing: hands.router.sharing(),
            quick: 1,
            early: Early::default(),
            hasher: RandomState::default(),
            bytes: 0,
            newest: -1,
            sweep: None,
            full_since: None,
            full_said: None,
            keyless: 0,
        }
    }

    fn add(&mut self, fetched: Fetched) {
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
    fn sweep(&mut self, now: Instant) {
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

    fn fill(&mut self) {
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
    fn at_once(&self) -> usize {
        if self.sharing == Sharing::Always { usize::MAX } else { ENOUGH }
    }

    /// How many records may come in.
    fn room(&mut self) -> usize {
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
    fn looks_at(&mut self, wakes: Option<Instant>) -> Option<Instant> {
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

    fn take(&mut self) -> Vec<(LaneId, Item)> {
        let most = self.pace.records();
        let (most, many) = match self.sharing {
            Sharing::Always => (most, true),
            Sharing::Never => (most, false),
            Sharing::WhileQuick => (most.min(self.quick.max(1)), self.quick > 1),
        };
        self.lanes.take(most, many, |item| item.given_up.is_some())
    }

    fn settle_early(&mut self) {
        let early = std::mem::take(&mut *lock(&self.early));
        early.into_iter().for_each(|ended| self.settle(ended));
    }

    /// Takes back what a run has left.
    fn settle(&mut self, ended: Ended) {
        let Ended { mut records, finished, waited, bytes, took } = ended;
        self.bytes -= bytes;
        self.pace.went(finished, took);
        self.quick = if waited { 1 } else { (self.quick * 2).min(MOST_QUICK) };
        if finished < records.len() {
            self.pace.cut_short();
        }
        while let Some(&(lane, _)) = records.last() {
            let start = records.iter().rposition(|(other, _)| *other != lane).map_or(0, |place| place + 1);
            let (mut delay, mut left) = (Duration::ZERO, Vec::new());
            for Left { item, delay: own } in records.drain(start..).filter_map(|(_, left)| left) {
                delay = delay.max(own);
                left.push(item);
            }
            if delay > LONG {
                left.iter_mut().for_each(|item| item.message.detach());
            }
            let until = (!delay.is_zero()).then(|| Instant::now() + delay);
            self.lanes.done(lane, left.into_iter(), until);
        }
    }
}
