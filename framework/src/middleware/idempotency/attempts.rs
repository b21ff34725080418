//! Takes a run to its outcomes, by as many attempts at parts of it as needed.
//!
//! The first attempt is at the whole run. What fails without a known culprit is
//! tried with each record apart, or in halves, until the culprit is found, so that
//! all before it are done and only it is charged.

use crate::base::backoff::jittered;
use crate::dedupe::StoreError;
use crate::{HandlerError, Outcome, Outcomes, Run};
use std::future::Future;
use std::time::Duration;

/// One way of doing a part of a run.
pub(super) trait Attempts: Sync {
    /// Whether an attempt can keep its records apart and so find a culprit alone.
    const CAN_KEEP_APART: bool;

    /// Tries to do this part, all or nothing up to where its outcomes end.
    fn attempt<'a>(&'a self, part: Run<'a>, apart: bool) -> impl Future<Output = Attempt> + Send + 'a;
}

/// The result of an attempt.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is durable: one outcome a record, in order, from the first on. It may
    /// end early, after a failure or because time was up.
    Done(Vec<Outcome>),
    /// Nothing was done, because the record at this place failed.
    Culprit(usize, HandlerError),
    /// Nothing was done, because some record failed.
    Failed(HandlerError),
    /// Nothing was done, and no record is to blame.
    Blameless(StoreError),
}

impl From<StoreError> for Attempt {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Aborted | StoreError::NotOurs => Self::Failed(HandlerError::new(error)),
            StoreError::Other(source) => Self::Failed(HandlerError::new(source)),
            error => Self::Blameless(error),
        }
    }
}

/// So many deadlocks in a row of one record alone are its own failure.
const MOST_CONFLICTS: u32 = 20;
/// The longest pause after a deadlock, the only one within a run: all its attempts together are
/// over before anybody would notice.
const BETWEEN_CONFLICTS: Duration = Duration::from_millis(5);

pub(super) async fn drive<A: Attempts>(run: Run<'_>, attempts: &A) -> Outcomes {
    let mut outcomes = Vec::with_capacity(run.len());
    let mut plan = Plan::new(run.len());
    let mut conflicts = 0;
    while outcomes.len() < run.len() {
        let start = outcomes.len();
        if let Some(error) = plan.culprit_at(start) {
            outcomes.push(Outcome::Failed(error));
            break;
        }
        // Each attempt has its own time. What a failed one has used up, a timeout at the
        // worst, would else leave time for one record of those before the culprit.
        let clock = run.clock().again();
        let part = run.with(&run.records()[start..plan.end]).on(&clock);
        match attempts.attempt(part, plan.apart).await {
            Attempt::Done(done) => {
                let whole = done.len() == part.len() && done.iter().all(Outcome::is_finished);
                outcomes.extend(done);
                if !whole || run.is_cut() {
                    break;
                }
                conflicts = 0;
                plan.succeeded();
            }
            Attempt::Culprit(index, error) => plan.found(start + index, error),
            Attempt::Failed(error) if part.len() == 1 => plan.found(start, error),
            Attempt::Failed(_) => plan.failed(start, A::CAN_KEEP_APART),
            Attempt::Blameless(StoreError::Conflict) => {
                conflicts += 1;
                if part.len() == 1 && conflicts > MOST_CONFLICTS {
                    plan.found(start, HandlerError::new(StoreError::Conflict));
                } else {
                    plan.halve(start);
                    // The other side of a deadlock goes first.
                    run.wait(jittered(BETWEEN_CONFLICTS)).await;
                }
            }
            // Its worker waits, or its lane, and what can go on does.
            Attempt::Blameless(error) => {
                outcomes.push(Outcome::Failed(HandlerError::held(error.cause(), error)));
                break;
            }
        }
        if run.is_draining() && outcomes.len() == start {
            break;
        }
    }
    outcomes.resize_with(run.len(), || Outcome::NotReached);
    Outcomes::new(outcomes)
}

/// Which part of the run comes next, and how.
#[derive(Debug)]
struct Plan {
    len: usize,
    /// The next part ends here.
    end: usize,
    apart: bool,
    /// A culprit stands before this place.
    suspect: Option<usize>,
    culprit: Option<(usize, HandlerError)>,
}

impl Plan {
    fn new(len: usize) -> Self {
        Self { len, end: len, apart: false, suspect: None, culprit: None }
    }

    fn culprit_at(&mut self, place: usize) -> Option<HandlerError> {
        self.culprit.take_if(|(culprit, _)| *culprit == place).map(|(_, error)| error)
    }

    /// What stands before the culprit goes next.
    fn found(&mut self, place: usize, error: HandlerError) {
        self.culprit = Some((place, error));
        (self.end, self.apart, self.suspect) = (place, false, None);
    }

    fn failed(&mut self, start: usize, can_keep_apart: bool) {
        if can_keep_apart && !self.apart && self.suspect.is_none() {
            self.apart = true;
        } else {
            self.apart = false;
            self.suspect = Some(self.end);
            self.halve(start);
        }
    }

    fn halve(&mut self, start: usize) {
        self.end =
            start + (self.end - start).div_ceil(2).min(self.end - start - usize::from(self.end - start > 1));
    }

    fn succeeded(&mut self) {
        self.apart = false;
        let start = self.end;
        // Behind a culprit nothing is done: it would overtake.
        let last = self.culprit.as_ref().map_or(self.len, |(culprit, _)| *culprit);
        match self.suspect.filter(|suspect| *suspect > start) {
            Some(suspect) => self.end = start + (suspect - start).div_ceil(2),
            None => (self.end, self.suspect) = (last, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::drain::Drain;
    use crate::kafka::message::{Message, OwnedMessage};
    use crate::record::run::RunClock;
    use crate::record::source::Source;
    use crate::{Record, TopicPartition};
    use std::sync::{Arc, Mutex};

    /// Fails at the records of these offsets, the way a kind of handler does.
    struct Scripted {
        bad: Vec<i64>,
        says_which: bool,
        done: Mutex<Vec<i64>>,
        attempts: Mutex<usize>,
    }

    impl Scripted {
        fn new(bad: &[i64], says_which: bool) -> Self {
            Self { bad: bad.to_vec(), says_which, done: Mutex::default(), attempts: Mutex::default() }
        }
    }

    impl Attempts for Scripted {
        const CAN_KEEP_APART: bool = false;

        async fn attempt<'a>(&'a self, part: Run<'a>, _: bool) -> Attempt {
            assert!(!part.is_empty());
            *self.attempts.lock().unwrap() += 1;
            if let Some(index) = part.iter().position(|record| self.bad.contains(&record.offset())) {
                let error = HandlerError::new("bad");
                return if self.says_which { Attempt::Culprit(index, error) } else { Attempt::Failed(error) };
            }
            self.done.lock().unwrap().extend(part.iter().map(|record| record.offset()));
            Attempt::Done(part.iter().map(|_| Outcome::Completed).collect())
        }
    }

    fn names(len: i64, scripted: &Scripted) -> Vec<&'static str> {
        names_from(0, len, scripted, &Arc::default())
    }

    /// What becomes of the records of these offsets, on a clock that does not wait.
    fn names_from(start: i64, end: i64, attempts: &impl Attempts, drain: &Arc<Drain>) -> Vec<&'static str> {
        driven(start, end, attempts, drain).0
    }

    /// The same, and for how long the run waited.
    fn driven(
        start: i64,
        end: i64,
        attempts: &impl Attempts,
        drain: &Arc<Drain>,
    ) -> (Vec<&'static str>, Duration) {
        let messages: Vec<_> = (start..end)
            .map(|offset| Message::Owned(Box::new(OwnedMessage { offset, ..Default::default() })))
            .collect();
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        let clock = RunClock::start(Duration::from_secs(60), drain.clone());
        let records: Vec<_> = messages.iter().map(|message| Record::new(message, &source, 1)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let (outcomes, waited) = runtime.unwrap().block_on(async {
            let start = tokio::time::Instant::now();
            (drive(Run::new(&records, &source, &clock), attempts).await, start.elapsed())
        });
        let name = |outcome: &Outcome| match outcome {
            Outcome::Failed(error) if error.held_by().is_some() => "held",
            outcome => outcome.name(),
        };
        (outcomes.iter().map(name).collect(), waited)
    }

    #[test]
    fn all_before_the_culprit_are_done_once_in_order_and_none_behind_it() {
        for says_which in [true, false] {
            for len in 1..40 {
                for bad in 0..len {
                    let scripted = Scripted::new(&[bad, (bad + 7) % len], says_which);
                    let first = bad.min((bad + 7) % len);
                    let names = names(len, &scripted);
                    let place = usize::try_from(first).unwrap();
                    assert_eq!(*scripted.done.lock().unwrap(), (0..first).collect::<Vec<_>>());
                    assert!(names[..place].iter().all(|name| *name == "completed"));
                    assert_eq!(names[place], "failed");
                    assert!(names[place + 1..].iter().all(|name| *name == "not_reached"));
                }
            }
        }
    }

    #[test]
    fn a_culprit_that_is_not_named_is_found_by_halving() {
        let scripted = Scripted::new(&[300], false);
        names(512, &scripted);
        assert!(*scripted.attempts.lock().unwrap() <= 20, "{:?}", scripted.attempts);
    }

    /// Meets deadlocks, outages, the end of its time and of its ownership at any attempt.
    struct Unlucky<const CAN_KEEP_APART: bool> {
        bad: Vec<i64>,
        random: Mutex<fastrand::Rng>,
        drain: Arc<Drain>,
        done: Mutex<Vec<i64>>,
    }

    impl<const CAN_KEEP_APART: bool> Attempts for Unlucky<CAN_KEEP_APART> {
        const CAN_KEEP_APART: bool = CAN_KEEP_APART;

        async fn attempt<'a>(&'a self, part: Run<'a>, apart: bool) -> Attempt {
            assert!(!part.is_empty() && (CAN_KEEP_APART || !apart));
            let mut random = self.random.lock().unwrap();
            match random.u8(..12) {
                0 => return Attempt::Blameless(StoreError::Conflict),
                1 => return Attempt::Blameless(StoreError::InProgress),
                2 if random.bool() => self.drain.begin(),
                _ => {}
            }
            let bad = part.iter().position(|record| self.bad.contains(&record.offset()));
            let fails = || HandlerError::new("bad");
            let until = match bad {
                Some(place) if apart => place,
                Some(place) if random.bool() => return Attempt::Culprit(place, fails()),
                Some(_) => return Attempt::Failed(fails()),
                None => part.len(),
            };
            // Time may be up after the first.
            let time = if random.u8(..6) == 0 { random.usize(1..=part.len()) } else { part.len() };
            let until = until.min(time);
            self.done.lock().unwrap().extend(part.iter().take(until).map(|record| record.offset()));
            let mut outcomes: Vec<_> = part.iter().take(until).map(|_| Outcome::Completed).collect();
            if bad == Some(until) {
                outcomes.push(Outcome::Failed(fails()));
            }
            Attempt::Done(outcomes)
        }
    }

    /// Runs of any length, one after the other, until all is done or a bad record is met.
    fn nobody_else_is_blamed<const CAN_KEEP_APART: bool>(seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let len = random.i64(1..60);
        let bad: Vec<i64> = (0..random.usize(..4)).map(|_| random.i64(0..len)).collect();
        let first = bad.iter().min().copied().unwrap_or(len);
        let mut unlucky = Unlucky::<CAN_KEEP_APART> {
            bad,
            random: Mutex::new(random.fork()),
            drain: Arc::default(),
            done: Mutex::default(),
        };
        let mut start = 0;
        loop {
            let end = random.i64(start + 1..=len);
            let names = names_from(start, end, &unlucky, &unlucky.drain);
            let done = names.iter().take_while(|name| **name == "completed").count();
            start += done as i64;
            assert_eq!(*unlucky.done.lock().unwrap(), (0..start).collect::<Vec<_>>(), "seed {seed}");
            let failed = names.get(done) == Some(&"failed");
            let held = names.get(done) == Some(&"held");
            assert!(!failed || start == first, "seed {seed}: {start} of {names:?} is blamed");
            assert!(names[done + usize::from(failed || held)..].iter().all(|name| *name == "not_reached"));
            if failed || start == len {
                break assert_eq!(start, first, "seed {seed}");
            }
            // The next owner.
            unlucky.drain = Arc::default();
        }
    }

    #[test]
    fn whatever_comes_between_all_before_the_culprit_is_done_once_and_it_alone_is_blamed() {
        for seed in 0..1000 {
            nobody_else_is_blamed::<true>(seed);
            nobody_else_is_blamed::<false>(seed);
        }
    }

    /// Its server is away.
    struct Away(StoreError);

    impl Attempts for Away {
        const CAN_KEEP_APART: bool = false;

        async fn attempt<'a>(&'a self, _: Run<'a>, _: bool) -> Attempt {
            Attempt::Blameless(match &self.0 {
                StoreError::Conflict => StoreError::Conflict,
                StoreError::InProgress => StoreError::InProgress,
                _ => StoreError::Outage("away".into()),
            })
        }
    }

    #[test]
    fn a_run_waits_neither_for_a_server_that_is_away_nor_for_another_owner() {
        for error in [StoreError::Outage("away".into()), StoreError::InProgress] {
            let (names, waited) = driven(0, 4, &Away(error), &Arc::default());
            assert_eq!(names, ["held", "not_reached", "not_reached", "not_reached"]);
            assert_eq!(waited, Duration::ZERO);
        }
        let (names, waited) = driven(0, 4, &Away(StoreError::Conflict), &Arc::default());
        assert_eq!(names, ["failed", "not_reached", "not_reached", "not_reached"]);
        assert!(waited < Duration::from_millis(200), "for deadlocks: {waited:?}");
    }
}
