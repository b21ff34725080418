//! Workers of partitions with records in memory and a handler that is steered.

use crate::base::drain::Drain;
use crate::base::sync::lock;
use crate::base::wake::Wake;
use crate::config::{Guarantee, Order};
use crate::error::reason::{Decision, Reason};
use crate::error::trouble::Cause;
use crate::failure::dead_letter::DeadLetters;
use crate::failure::trials::Trial;
use crate::handler::Tombstones;
use crate::kafka::contact::Contact;
use crate::kafka::in_memory::InMemory;
use crate::kafka::message::OwnedMessage;
use crate::kafka::queue::Keepalive;
use crate::kafka::read_lock::ReadLock;
use crate::record::notes::{Note, Notes};
use crate::record::source::Source;
use crate::routing::bound_route::Handle;
use crate::routing::event_type::EventType;
use crate::routing::order::{Sharing, Turns};
use crate::routing::router::{EventRoute, Router, Unmatched};
use crate::telemetry::trace::Spans;
use crate::worker::inbox::Inbox;
use crate::worker::partition::{Limits, PartitionWorker};
use crate::worker::shared::Partition;
use crate::worker::starts::Suspects;
use crate::{Config, HandlerError, Outcome, Outcomes, Record, Run, TopicPartition};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);

/// What becomes of a record, by itself and why it was given up.
type Script = Box<dyn Fn(Record<'_>, Option<&HandlerError>) -> Outcome + Send + Sync>;

/// A handler that does what it is told, with the records up to the first that fails.
struct Scripted {
    script: Script,
    sharing: Sharing,
    /// Until then, a dead letter is under way.
    acknowledges: Option<Arc<AtomicBool>>,
    /// Offset and attempt of each record of partition 0 that the handler got.
    calls: Mutex<Vec<(i64, u32)>>,
}

impl Scripted {
    fn new(
        sharing: Sharing,
        script: impl Fn(Record<'_>, Option<&HandlerError>) -> Outcome + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { script: Box::new(script), sharing, acknowledges: None, calls: Mutex::default() })
    }

    fn calls_of(&self, offset: i64) -> Vec<u32> {
        lock(&self.calls).iter().filter(|(at, _)| *at == offset).map(|(_, attempt)| *attempt).collect()
    }
}

impl Handle for Scripted {
    fn handle<'a>(&'a self, run: Run<'a>) -> Pin<Box<dyn Future<Output = Outcomes> + Send + 'a>> {
        Box::pin(async move {
            let mut outcomes = Vec::new();
            while let (Some(acknowledges), Some(_)) = (&self.acknowledges, run.given_up())
                && !acknowledges.load(Ordering::Relaxed)
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for record in run.iter() {
                if run.given_up().is_none() && record.partition() == 0 {
                    lock(&self.calls).push((record.offset(), record.attempt()));
                }
                let outcome = (self.script)(record, run.given_up());
                let is_finished = outcome.is_finished();
                outcomes.push(outcome);
                if !is_finished {
                    break;
                }
            }
            Outcomes::new(outcomes).fit(run.len())
        })
    }

    fn sharing(&self) -> Sharing {
        self.sharing
    }

    fn identity(&self, _: Record<'_>) -> Option<u128> {
        None
    }
}

fn router(route: &Arc<Scripted>, order: Order, guarantee: Guarantee, concurrency: usize) -> Router {
    let config = Config { brokers: Some("127.0.0.1:1".to_owned()), ..Config::default() }.resolve().unwrap();
    Router {
        group: "g".into(),
        routes: vec![EventRoute { event: None, tombstones: Tombstones::Handle, route: route.clone() }],
        order,
        guarantee,
        turns: Turns::new(concurrency),
        max_run_records: None,
        max_starts: 3,
        event_type: EventType::default(),
        context: Arc::default(),
        unmatched: Unmatched::default(),
        letters: DeadLetters::new(&config, &Spans::new(config.trace)).unwrap().to(None, None),
        stop: tokio::sync::mpsc::unbounded_channel().0,
    }
}

/// A partition at work.
struct Working {
    partition: Arc<Partition>,
    worker: JoinHandle<()>,
}

impl Working {
    /// Works on records with these keys, from offset 0 on.
    fn on(keys: impl IntoIterator<Item = &'static str>, router: &Arc<Router>) -> Self {
        Self::after(None, 0, keys, router)
    }

    /// The same on the partition of this number, after a start that noted this.
    fn after(
        noted: Option<(i64, Note)>,
        number: i32,
        keys: impl IntoIterator<Item = &'static str>,
        router: &Arc<Router>,
    ) -> Self {
        Self::with(Arc::default(), noted, number, keys, router)
    }

    /// The same beside others of the process.
    fn with(
        suspects: Arc<Suspects>,
        noted: Option<(i64, Note)>,
        number: i32,
        keys: impl IntoIterator<Item = &'static str>,
        router: &Arc<Router>,
    ) -> Self {
        let message = |(offset, key): (i64, &str)| OwnedMessage {
            offset,
            key: Some(key.as_bytes().to_vec()),
            ..OwnedMessage::default()
        };
        let queue = Box::new(InMemory((0..).zip(keys).map(message).collect()));
        let drain: Arc<Drain> = Arc::default();
        let inbox = Inbox::new(queue, Arc::default(), drain.clone(), Keepalive::default());
        let mut source = Source::new(TopicPartition::new("t", number), "g".into());
        source.notes = Notes::starting_with(noted);
        let (read_lock, contact) = (Arc::<ReadLock>::default(), Arc::<Contact>::default());
        let wake = Arc::new(Wake::this_thread());
        let partition = Arc::new(Partition::new(source, inbox, drain, read_lock, contact, wake));
        let limits = Limits {
            records: 1000,
            bytes: 1 << 20,
            time: Duration::from_secs(1),
            in_flight: 1000,
            in_flight_bytes: 1 << 20,
        };
        let worker = PartitionWorker::new(partition.clone(), router.clone(), limits, suspects);
        let worker = tokio::spawn(worker.work());
        tokio::spawn(acknowledge_notes(partition.clone()));
        Self { partition, worker }
    }

    async fn until(&self, what: &str, mut is_so: impl FnMut(&Partition) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(&self.partition) {
            assert!(Instant::now() < until, "not yet: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until all below this offset is finished.
    async fn done_up_to(&self, offset: i64) {
        let is_done = |partition: &Partition| partition.offsets().committable() == Some(offset);
        self.until(&format!("done up to {offset}"), is_done).await;
    }

    /// Gives the partition away; gives how its worker ended.
    async fn end(self) -> Result<(), tokio::task::JoinError> {
        self.partition.begin_drain();
        tokio::time::timeout(PATIENCE, self.worker).await.expect("a worker can be stopped")
    }
}

/// Stands in for the poll thread, which commits notes.
async fn acknowledge_notes(partition: Arc<Partition>) {
    while !partition.has_ended() {
        if let Some((offset, note)) = partition.source.notes.wanted() {
            partition.source.notes.acknowledge(offset, note);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn given_up() -> Outcome {
    let mut error = HandlerError::new("bad").permanent();
    error.decide(Decision::PutAway(Trial::of(1).given_up(Reason::Permanent)));
    Outcome::Failed(error)
}

fn held(sentence: &str) -> Outcome {
    Outcome::Failed(HandlerError::held(Cause::Outage, sentence.to_owned()))
}

/// Gives up records whose key begins with "bad", and writes no dead letter until it may.
fn refusing_letters(sharing: Sharing, may: &Arc<AtomicBool>) -> Arc<Scripted> {
    let may = may.clone();
    Scripted::new(sharing, move |record, verdict| match verdict {
        Some(_) if may.load(Ordering::Relaxed) => Outcome::DeadLettered(Reason::Permanent),
        Some(_) => held("no copy"),
        None if record.key().is_some_and(|key| key.starts_with(b"bad")) => given_up(),
        None => Outcome::Completed,
    })
}

const KEYS: [&str; 16] = [
    "bad 1", "bad 2", "bad 3", "bad 4", "bad 5", "bad 6", "a", "b", "c", "d", "e", "f", "g", "bad 1", "a",
    "b",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_cannot_be_written_holds_its_own_lane_and_no_place_of_others() {
    for sharing in [Sharing::Always, Sharing::Never] {
        let may = Arc::<AtomicBool>::default();
        let route = refusing_letters(sharing, &may);
        let router = Arc::new(router(&route, Order::Key, Guarantee::AtLeastOnce, 2));
        let (one, other) = (Working::on(KEYS, &router), Working::after(None, 1, ["a", "b", "c"], &router));
        other.done_up_to(3).await;
        let good = [6, 7, 8, 9, 10, 11, 12, 14, 15];
        one.until("all other keys are done", |_| good.iter().all(|good| !route.calls_of(*good).is_empty()))
            .await;
        one.until("it says so", |partition| partition.source.troubles.current().is_some()).await;
        assert!(route.calls_of(13).is_empty(), "it stands behind another of its key");
        may.store(true, Ordering::Relaxed);
        one.done_up_to(16).await;
        for bad in [0, 1, 2, 3, 4, 5, 13] {
            assert_eq!(route.calls_of(bad).len(), 1, "{sharing:?}: what is given up is not handled again");
        }
        one.until("it says so", |partition| partition.source.troubles.current().is_none()).await;
        one.end().await.unwrap();
        other.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_not_acknowledged_takes_no_place_of_others_either() {
    for sharing in [Sharing::Always, Sharing::Never] {
        let acknowledges = Arc::<AtomicBool>::default();
        let mut route = refusing_letters(sharing, &acknowledges);
        Arc::get_mut(&mut route).unwrap().acknowledges = Some(acknowledges.clone());
        let router = Arc::new(router(&route, Order::Key, Guarantee::AtLeastOnce, 2));
        let (one, other) = (Working::on(KEYS, &router), Working::after(None, 1, ["a", "b", "c"], &router));
        other.done_up_to(3).await;
        one.until("all other keys are done", |_| !route.calls_of(15).is_empty()).await;
        acknowledges.store(true, Ordering::Relaxed);
        one.done_up_to(16).await;
        one.end().await.unwrap();
        other.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_partition_in_order_a_dead_letter_is_waited_for_and_its_handler_not_called_again() {
    let may = Arc::<AtomicBool>::default();
    let route = refusing_letters(Sharing::Always, &may);
    let router = Arc::new(router(&route, Order::Partition, Guarantee::AtLeastOnce, 1));
    let working = Working::on(["a", "bad", "b"], &router);
    working.until("it waits", |partition| partition.source.troubles.current().is_some()).await;
    assert_eq!(working.partition.offsets().committable(), Some(1));
    assert!(route.calls_of(2).is_empty(), "it stands behind the one that is given up");
    may.store(true, Ordering::Relaxed);
    working.done_up_to(3).await;
    assert_eq!(*lock(&route.calls), [(0, 1), (1, 1), (2, 1)]);
    working.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_charges_no_attempt_and_all_goes_on_after_it() {
    for (order, sharing) in
        [(Order::Partition, Sharing::Always), (Order::Key, Sharing::Always), (Order::Key, Sharing::Never)]
    {
        let away = Arc::new(AtomicUsize::new(12));
        let left = away.clone();
        let route = Scripted::new(sharing, move |_, _| {
            let is_away = |left: usize| left.checked_sub(1);
            match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_away) {
                Ok(_) => held("away"),
                Err(_) => Outcome::Completed,
            }
        });
        let router = Arc::new(router(&route, order, Guarantee::AtLeastOnce, 2));
        let working = Working::on(["a", "b", "c", "d", "a"], &router);
        working.until("it says so", |partition| partition.source.troubles.current().is_some()).await;
        working.until("it is tried again", |_| lock(&route.calls).len() >= 4).await;
        if sharing == Sharing::Always {
            let all = lock(&route.calls).clone();
            assert!(all.iter().all(|call| *call == (0, 1)), "tried together, not lane by lane: {all:?}");
        }
        // As if it were over.
        away.store(0, Ordering::Relaxed);
        working.done_up_to(5).await;
        assert!(lock(&route.calls).iter().all(|(_, attempt)| *attempt == 1), "{:?}", route.calls);
        assert!(working.partition.source.troubles.current().is_none());
        working.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_key_that_was_held_goes_on_all_others_try_at_once() {
    let away = Arc::new(AtomicBool::new(true));
    let is_away = away.clone();
    let route = Scripted::new(Sharing::Never, move |record, _| {
        let is_slow = record.key() == Some(b"slow");
        match (is_away.load(Ordering::Relaxed), is_slow) {
            (false, _) => Outcome::Completed,
            (true, false) => held("away"),
            (true, true) => {
                let hour = Duration::from_secs(60 * 60);
                Outcome::Failed(HandlerError::held(Cause::Outage, "away").retry_after(hour))
            }
        }
    });
    let router = Arc::new(router(&route, Order::Key, Guarantee::AtLeastOnce, 4));
    let working = Working::on(["slow", "quick"], &router);
    working.until("both are tried", |_| [0, 1].iter().all(|of| !route.calls_of(*of).is_empty())).await;
    away.store(false, Ordering::Relaxed);
    working.done_up_to(2).await;
    working.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_is_at_most_one_more_attempt_once_a_drain_has_begun() {
    let scripts: [fn() -> Outcome; 4] =
        [|| Outcome::Failed(HandlerError::new("bad")), || held("away"), given_up, || Outcome::NotReached];
    for script in scripts {
        // Not one that waits: it would be tried again without end.
        let route = Scripted::new(Sharing::Always, move |_, verdict| match verdict {
            Some(_) => held("no copy"),
            None => script(),
        });
        let guarantee = Guarantee::AtMostOnceLosingWorkInFlight;
        let router = Arc::new(router(&route, Order::Partition, guarantee, 1));
        let working = Working::on(["a", "b", "c"], &router);
        working.until("it is called", |_| !lock(&route.calls).is_empty()).await;
        let partition = working.partition.clone();
        partition.begin_drain();
        let before = [0, 1, 2].map(|offset| route.calls_of(offset).len());
        working.end().await.unwrap();
        for (offset, before) in (0..).zip(before) {
            let more = route.calls_of(offset).len() - before;
            // One may have begun just then.
            assert!(more <= 2, "{more} more calls of {offset} once the drain had begun");
        }
        assert_eq!(partition.offsets().committable(), Some(3), "all was committed before it was handled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_panics_leaves_the_note_of_its_start() {
    let route = Scripted::new(Sharing::Always, |_, _| panic!("a fault of Onceward's own"));
    let router = Arc::new(router(&route, Order::Partition, Guarantee::AtLeastOnce, 1));
    let working = Working::on(["a"], &router);
    working.until("it ends", Partition::has_ended).await;
    assert!(working.partition.has_panicked());
    assert_ne!(working.partition.source.notes.found().unwrap().1, Note::default());
    assert!(working.end().await.unwrap_err().is_panic());

    let route = Scripted::new(Sharing::Always, |_, _| Outcome::Completed);
    let router = Arc::new(self::router(&route, Order::Partition, Guarantee::AtLeastOnce, 1));
    let working = Working::on(["a"], &router);
    working.done_up_to(1).await;
    let partition = working.partition.clone();
    working.end().await.unwrap();
    assert!(partition.has_ended() && !partition.has_panicked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_ended_the_process_is_put_away_untried_and_in_no_others_way() {
    let may = Arc::<AtomicBool>::default();
    let route = refusing_letters(Sharing::Always, &may);
    let router = Arc::new(router(&route, Order::Key, Guarantee::AtLeastOnce, 1));
    let suspects = Suspects::default();
    let note = suspects.tried(suspects.tried(suspects.started(Note::default())));
    let working = Working::after(Some((0, note)), 0, ["a", "b"], &router);
    working.until("it waits", |partition| partition.source.troubles.current().is_some()).await;
    assert!(lock(&route.calls).is_empty(), "{:?}", route.calls);
    may.store(true, Ordering::Relaxed);
    working.done_up_to(2).await;
    assert_eq!(*lock(&route.calls), [(1, 1)]);
    working.end().await.unwrap();
}

/// While one suspect is tried, or waits for its next attempt, no other is noted as tried.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_is_noted_as_tried_only_while_it_is_and_alone() {
    let suspects = Arc::<Suspects>::default();
    let note = Suspects::default().started(Note::default());
    // Of each try: which partition, and which were noted as tried.
    let tried = Arc::<Mutex<Vec<(i32, Vec<i32>)>>>::default();
    let partitions = Arc::<Mutex<Vec<Arc<Partition>>>>::default();
    let (seen, all) = (tried.clone(), partitions.clone());
    let route = Scripted::new(Sharing::Always, move |record, _| {
        let noted = |source: &Source| source.notes.found().is_some_and(|(_, note)| note.trials > 0);
        let all = lock(&all);
        let sources = all.iter().map(|partition| &partition.source);
        let noted = sources.filter(|source| noted(source)).map(|source| source.partition.partition());
        lock(&seen).push((record.partition(), noted.collect()));
        held("away")
    });
    let router = Arc::new(router(&route, Order::Partition, Guarantee::AtLeastOnce, 1));
    let on = |number| {
        let working = Working::with(suspects.clone(), Some((0, note)), number, ["a"], &router);
        lock(&partitions).push(working.partition.clone());
        working
    };
    let both = [on(0), on(1)];
    let tries = |number| lock(&tried).iter().filter(|(of, _)| *of == number).count();
    both[0].until("both are tried in turn", |_| tries(0) > 3 && tries(1) > 3).await;
    let tried = lock(&tried).clone();
    // The first may come before the list is whole.
    assert!(tried[2..].iter().all(|(number, noted)| *noted == [*number]), "{tried:?}");
    for working in both {
        working.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_types_function_that_panics_rejects_that_record_alone() {
    let route = Scripted::new(Sharing::Never, |record, verdict| match verdict {
        Some(error) => {
            let given_up = error.given_up().unwrap();
            assert_eq!((record.offset(), given_up.reason), (1, Reason::Rejected));
            assert!(error.to_string().contains("event type's function panicked"), "{error}");
            Outcome::DeadLettered(given_up.reason)
        }
        None => Outcome::Completed,
    });
    for order in [Order::Partition, Order::Key, Order::None] {
        let mut router = router(&route, order, Guarantee::AtLeastOnce, 2);
        router.routes[0].event = Some("x".to_owned());
        router.event_type = EventType::function(|record| match record.key() {
            Some(b"bad") => panic!("no event type"),
            _ => Some("x".into()),
        });
        lock(&route.calls).clear();
        let working = Working::on(["a", "bad", "b"], &Arc::new(router));
        working.done_up_to(3).await;
        let mut calls = lock(&route.calls).clone();
        calls.sort_unstable();
        assert_eq!(calls, [(0, 1), (2, 1)]);
        working.end().await.unwrap();
    }
}
