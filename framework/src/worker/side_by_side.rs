//! Gets a partition's records, gives them to concurrent runs, each of one lane or of several.

use super::desk::{Desk, Ended, Item, Left, MOST_QUICK, Next, PutAway, TROUBLE, Terms, UnderWay, Wait};
use super::lanes::LaneId;
use super::partition::Limits;
use crate::base::backoff::{ceiling, jittered};
use crate::base::sync::lock;
use crate::error::reason::Decision;
use crate::error::text::capped;
use crate::kafka::message::Message;
use crate::kafka::read_lock::step_aside;
use crate::record::run::{Fetched, Progress, Run, RunClock};
use crate::routing::order::Sharing;
use crate::routing::router::Router;
use crate::worker::shared::Partition;
use crate::{HandlerError, Outcome, Record};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;
use tokio::sync::{AcquireError, SemaphorePermit};

/// What a run needs of its worker.
#[derive(Clone, Copy)]
pub(crate) struct Hands<'w> {
    pub(crate) partition: &'w Partition,
    pub(crate) router: &'w Router,
    pub(crate) limits: &'w Limits,
}

/// What has left runs that go on.
type Early = Arc<Mutex<Vec<Ended>>>;

/// Works one partition until it is given away.
pub(crate) async fn work(hands: Hands<'_>, first: Fetched) {
    // Dropped last: no message may outlive the client.
    let _client = first.client.clone();
    let (drain, turns, early) = (&hands.partition.drain, &hands.router.turns, Early::default());
    let _worker = turns.join();
    let mut desk = Desk::new(hands.terms());
    let mut running = Running::new(early.clone());
    let start_run = |taken, permit| hands.run(taken, early.clone(), permit);
    let start_letter = |lane, item| hands.put_away(lane, item);
    hands.add(&mut desk, first);
    while !drain.has_begun() {
        running.settle(&hands, &mut desk);
        let wakes = desk.wake(Instant::now());
        hands.fill(&mut desk);
        if running.start(&hands, &mut desk, start_run, start_letter).await {
            continue;
        }
        if desk.wants_turn(running.under_way(), turns.share()) {
            // Kept until its turn comes: who asks anew stands last.
            running.in_line = Some(Box::pin(turns.permits.acquire()));
        }
        let (room, wakes) = (hands.room(&mut desk), hands.looks_at(&mut desk, wakes));
        tokio::select! {
            ended = next(&mut running.runs, &early) => ended.into_iter().for_each(|ended| hands.settle(&mut desk, ended)),
            Some(ended) = running.letters.next() => hands.letter_ended(&mut desk, ended),
            fetched = hands.partition.take(room.min(desk.at_once()), hands.limits.bytes), if room > 0 => match fetched {
                Some(fetched) => hands.add(&mut desk, fetched),
                None => break,
            },
            Some(Ok(permit)) = turn(&mut running.in_line) => {
                running.in_line = None;
                if desk.has_next_run(0) {
                    running.runs.push(start_run(desk.take(), permit));
                }
            }
            () = tokio::time::sleep_until(wakes.unwrap_or_else(Instant::now).into()), if wakes.is_some() => {}
            () = drain.begun() => {}
        }
    }
    running.end(&hands, &mut desk).await;
}

/// What the worker has under way.
struct Running<'w, R, L> {
    runs: FuturesUnordered<R>,
    letters: FuturesUnordered<L>,
    /// What runs that go on have let go of.
    early: Early,
    in_line: Option<Turn<'w>>,
    /// Records that were handled since other tasks of the thread went first.
    in_a_row: usize,
}

type Turn<'w> = Pin<Box<dyn Future<Output = Result<SemaphorePermit<'w>, AcquireError>> + Send + 'w>>;

impl<'w, R: Future<Output = Ended>, L: Future<Output = PutAway>> Running<'w, R, L> {
    fn new(early: Early) -> Self {
        let (runs, letters) = (FuturesUnordered::new(), FuturesUnordered::new());
        Self { runs, letters, early, in_line: None, in_a_row: 0 }
    }

    fn under_way(&self) -> UnderWay {
        UnderWay { runs: self.runs.len(), letters: self.letters.len(), in_line: self.in_line.is_some() }
    }

    /// Takes back what has ended.
    fn settle(&mut self, hands: &Hands<'w>, desk: &mut Desk) {
        self.settle_runs(hands, desk);
        let early = std::mem::take(&mut *lock(&self.early));
        early.into_iter().for_each(|ended| hands.settle(desk, ended));
        while let Some(Some(ended)) = self.letters.next().now_or_never() {
            hands.letter_ended(desk, ended);
        }
    }

    fn settle_runs(&mut self, hands: &Hands<'w>, desk: &mut Desk) {
        while let Some(Some(ended)) = self.runs.next().now_or_never() {
            hands.settle(desk, ended);
        }
    }

    /// Starts all that can start now. `true` where that was a run.
    async fn start(
        &mut self,
        hands: &Hands<'w>,
        desk: &mut Desk,
        run: impl Fn(Vec<(LaneId, Item)>, SemaphorePermit<'w>) -> R,
        put_away: impl Fn(LaneId, Item) -> L,
    ) -> bool {
        let mut started = false;
        loop {
            match desk.next(self.under_way()) {
                Next::Letter(lane, item) => self.letters.push(put_away(lane, item)),
                Next::Run if !hands.partition.drain.has_begun() => {
                    let Ok(permit) = hands.router.turns.permits.try_acquire() else { return started };
                    let taken = desk.take();
                    self.in_a_row += taken.len();
                    self.runs.push(run(taken, permit));
                    started = true;
                    // A quick one ends at once, while its records are still in the processor's cache.
                    self.settle_runs(hands, desk);
                    // There may always be more, and other workers share this thread.
                    if self.in_a_row >= MOST_QUICK {
                        self.in_a_row = 0;
                        step_aside().await;
                    }
                }
                _ => return started,
            }
        }
    }

    /// Waits for what is under way.
    async fn end(mut self, hands: &Hands<'w>, desk: &mut Desk) {
        drop(self.in_line.take());
        while let Some(ended) = self.runs.next().await {
            hands.settle(desk, ended);
        }
        // Those that are under way may be acknowledged.
        while self.letters.next().await.is_some() {}
    }
}

/// The turn for which the worker stands in line, once it has come; `None` where it stands in none.
async fn turn<'w>(in_line: &mut Option<Turn<'w>>) -> Option<Result<SemaphorePermit<'w>, AcquireError>> {
    match in_line {
        Some(turn) => Some(turn.await),
        None => None,
    }
}

/// The next run that has ended. `None` where one has let go of records.
async fn next<F: Future<Output = Ended>>(runs: &mut FuturesUnordered<F>, early: &Early) -> Option<Ended> {
    poll_fn(|context| match runs.poll_next_unpin(context) {
        Poll::Ready(Some(ended)) => Poll::Ready(Some(ended)),
        _ if !lock(early).is_empty() => Poll::Ready(None),
        _ => Poll::Pending,
    })
    .await
}

impl<'w> Hands<'w> {
    fn terms(&self) -> Terms {
        Terms {
            order: self.router.order,
            sharing: self.router.sharing(),
            records: self.router.max_run_records.unwrap_or(usize::MAX).min(self.limits.records),
            time: self.limits.time,
            in_flight: self.limits.in_flight,
            in_flight_bytes: self.limits.in_flight_bytes,
        }
    }

    fn add(&self, desk: &mut Desk, fetched: Fetched) {
        let mut offsets = self.partition.offsets();
        fetched.messages.iter().for_each(|message| offsets.note_key(message.offset(), message.key()));
        drop(offsets);
        let source = &self.partition.source;
        let identity = |message: &Message| self.router.identity(Record::new(message, source, 1));
        for (offset, so_far) in desk.add(fetched.messages, Instant::now(), identity) {
            tracing::warn!(
                source = %source.partition,
                offset,
                so_far,
                "`order = \"key\"`, but records have no key: these are handled one after the other"
            );
        }
    }

    fn fill(&self, desk: &mut Desk) {
        loop {
            let room = self.room(desk);
            if room == 0 {
                return;
            }
            match self.partition.try_take(room.min(desk.at_once()), self.limits.bytes) {
                Some(fetched) => self.add(desk, fetched),
                None => return,
            }
        }
    }

    fn room(&self, desk: &mut Desk) -> usize {
        let newest = desk.newest();
        desk.room(|| self.partition.offsets().beyond(newest), Instant::now())
    }

    /// When to look again. Says that the partition is full.
    fn looks_at(&self, desk: &mut Desk, wakes: Option<Instant>) -> Option<Instant> {
        let now = Instant::now();
        if let Some(full_for) = desk.full_for(now) {
            tracing::warn!(
                source = %self.partition.source.partition,
                oldest = self.partition.offsets().oldest(),
                ?full_for,
                "`max_in_flight` or `max_in_flight_bytes` is reached: the partition waits for its oldest unfinished record"
            );
        }
        desk.looks_at(wakes, now)
    }

    fn settle(&self, desk: &mut Desk, ended: Ended) {
        if desk.settle(ended, Instant::now()) {
            self.partition.goes_on();
        }
    }

    fn letter_ended(&self, desk: &mut Desk, ended: PutAway) {
        if desk.put_away(ended, Instant::now()) {
            self.partition.goes_on();
        }
    }

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
    async fn put_away(self, lane: LaneId, item: Item) -> PutAway {
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
