//! Gets a partition's records, gives them to runs that go side by side, each of one lane
//! or of several.

use crate::base::backoff::{ceiling, jittered};
use crate::base::sync::lock;
use crate::config::Order;
use crate::error::reason::Decision;
use crate::error::text::capped;
use crate::kafka::read_lock::step_aside;
use crate::record::Record;
use crate::record::run::{Fetched, Progress, Run, RunClock};
use crate::routing::order::Sharing;
use crate::routing::router::Router;
use crate::worker::desk::{Desk, Early, Ended, Item, Left, Wait};
use crate::worker::lanes::LaneId;
use crate::worker::partition::{Limits, Partition};
use crate::{HandlerError, Outcome};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::future::{Future, poll_fn};
use std::pin::pin;
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
    let mut letters = FuturesUnordered::new();
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
        while let Some(Some(ended)) = letters.next().now_or_never() {
            desk.put_away(ended);
        }
        let now = Instant::now();
        let wakes = desk.lanes.wake(now);
        desk.sweep(now);
        desk.fill();
        while letters.len() < LETTERS
            && let Some((lane, item)) = desk.lanes.take_apart()
        {
            letters.push(hands.put_away(lane, item));
        }
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
            Some(ended) = letters.next() => desk.put_away(ended),
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
    // Those that are under way may be acknowledged.
    while letters.next().await.is_some() {}
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
        let outcomes = {
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
        };
        let finished = self.partition.finish(run, &outcomes);
        // What they share holds all of them.
        let held = self.router.sharing() == Sharing::Always && outcomes.iter().any(is_held);
        drop(records);
        let mut ends: Vec<Option<Outcome>> = Vec::new();
        ends.resize_with(taken.len(), || None);
        order.into_iter().zip(outcomes).for_each(|(place, outcome)| ends[place] = Some(outcome));
        let mut bytes = 0;
        let records =
            taken.into_iter().zip(ends).filter(|((lane, _), _)| stays.is_none_or(|stays| stays == *lane));
        let records = records.map(|((lane, item), end)| (lane, self.left(item, end, &mut bytes))).collect();
        Ended { records, finished, held, waited, bytes, took: started.elapsed() }
    }

    /// Has the dead letter of a record written that was given up.
    async fn put_away(self, lane: LaneId, item: Item) -> (LaneId, Option<Left>, usize) {
        let source = &self.partition.source;
        let clock = RunClock::start(self.limits.time, self.partition.drain.clone());
        let record = [Record::new(&item.message, source, item.attempt)];
        let run = Run::new(&record, source, &clock).given_up_by(item.given_up.as_ref());
        let outcomes = self.router.handle(run).await;
        self.partition.finish(run, &outcomes);
        let mut bytes = 0;
        let left = self.left(item, outcomes.into_iter().next(), &mut bytes);
        (lane, left, bytes)
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
            (*lane, Some(Left { item, wait: Wait::Nothing }))
        };
        let records = leaves.map(left).collect();
        let ended = Ended { records, finished, held: false, waited: true, bytes, took: started.elapsed() };
        lock(early).push(ended);
        stays
    }

    /// What is left to do of a record.
    fn left(self, mut item: Item, end: Option<Outcome>, bytes: &mut usize) -> Option<Left> {
        match end.unwrap_or(Outcome::NotReached) {
            Outcome::NotReached => Some(Left { item, wait: Wait::Nothing }),
            Outcome::Failed(error) => {
                let wait = self.wait(&item, &error);
                if error.held_by().is_none() {
                    item.attempt = item.attempt.saturating_add(1);
                }
                if error.is_to_be_put_away() && item.given_up.is_none() {
                    item.given_up = Some(error);
                }
                Some(Left { item, wait })
            }
            _ => {
                *bytes += item.message.size();
                None
            }
        }
    }

    /// What a record that failed waits for. One that no middleware dealt with is held, and
    /// its lane with it, where one can see it.
    fn wait(&self, item: &Item, error: &HandlerError) -> Wait {
        if let Some(held) = error.held_by() {
            let record = Record::new(&item.message, &self.partition.source, item.attempt);
            self.partition.held(record, held);
            return Wait::Held(error.delay());
        }
        match error.decided() {
            Some(Decision::Again(delay)) => return Wait::Time(delay),
            Some(Decision::PutAway(_)) => return Wait::Nothing,
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
            error = capped(error),
            "record failed; its lane waits for it"
        );
        Wait::Time(delay)
    }
}

fn is_held(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(error) if error.held_by().is_some())
}
