//! A side road: partitions that are assigned, revoked and lost.
//!
//! Runs on the poll thread, inside librdkafka's rebalance callback. A revoke waits
//! there for the work in flight: librdkafka pauses the whole assignment from
//! before the callback until the unassign, wherever that is called, so waiting
//! elsewhere would gain nothing and could miss the commit.

mod moved;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;

use crate::Error;
use crate::base::backoff::after;
use crate::base::drain::Drain;
use crate::base::fault;
use crate::base::sync::lock;
use crate::base::wake::Wake;
use crate::config::{OutOfRange, Start};
use crate::consumer::client_events::ClientLog;
use crate::consumer::commit::{Committed, Committer, Room, commit_last};
use crate::consumer::hooks::Hooks;
use crate::consumer::owned::{OwnedPartition, list, names_of};
use crate::consumer::positions::{Beginning, Positions, Topics};
use crate::consumer::tail::Tails;
use crate::consumer::topic_watch::TopicWatch;
use crate::error::trouble::Rarely;
use crate::failure::dead_letter;
use crate::kafka::admin::Teller;
use crate::kafka::client::{
    BaseConsumer, ClientContext, Consumer as _, ConsumerContext, KafkaError, KafkaResult, Offset,
    RDKafkaLogLevel, RDKafkaRespErr, RebalanceProtocol, Statistics, TopicPartitionList,
};
use crate::kafka::contact::{ANSWERS_WITHIN, Contact};
use crate::kafka::offsets;
use crate::kafka::queue::{Keepalive, PartitionQueue};
use crate::kafka::read_lock::{Polling, ReadLock};
use crate::record::TopicPartition;
use crate::record::notes::Notes;
use crate::record::source::Source;
use crate::routing::router::Router;
use crate::telemetry::condition::Told;
use crate::telemetry::health::Health;
use crate::worker::inbox::Inbox;
use crate::worker::partition::{Limits, Partition, PartitionWorker};
use crate::worker::starts::Suspects;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

/// The consumer of a group.
pub(crate) type Consumer = BaseConsumer<Assignment>;

/// How long it takes until a look-up that failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What does not change while the group is consumed.
pub(crate) struct Setup {
    pub(crate) group: Arc<str>,
    pub(crate) routers: Routers,
    pub(crate) limits: Limits,
    pub(crate) drain_deadline: Duration,
    pub(crate) start: Start,
    pub(crate) out_of_range: OutOfRange,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) health: Health,
    /// The names of the group's handlers.
    pub(crate) handlers: Vec<String>,
    pub(crate) suspects: Arc<Suspects>,
    pub(crate) runtime: Handle,
    /// Where a reason to stop the application goes.
    pub(crate) stop: UnboundedSender<Error>,
}

/// The router of each topic, found by name or made for a pattern's topic.
pub(crate) type Routers = Box<dyn Fn(&str) -> Option<Arc<Router>> + Send + Sync>;

/// The partitions that this process owns, and what to do when they change.
pub(crate) struct Assignment {
    setup: Setup,
    wake: Arc<Wake>,
    consumer: OnceLock<Weak<Consumer>>,
    owned: Mutex<Owned>,
    /// How many callbacks were served: `poll` says "nothing" after one.
    served: AtomicU64,
    /// How often it was given partitions, or none: it is in the group.
    joined: AtomicU64,
    contact: Arc<Contact>,
    teller: Arc<Teller>,
    read_lock: Arc<ReadLock>,
    pub(crate) log: ClientLog,
    /// One for each request of our own that is under way and keeps the client open.
    asking: Arc<()>,
}

struct Owned {
    partitions: HashMap<(String, i32), OwnedPartition>,
    /// Assigned, while it is not known yet where they begin. Nothing is read from them.
    waiting: HashMap<(String, i32), PartitionQueue<Assignment>>,
    look_up_at: Instant,
    looked_up_in_vain: Rarely,
    /// The group's topics as this process had them first.
    had: Topics,
    topics: TopicWatch,
    committer: Committer,
    tails: Tails,
    /// A partition that it has or has had.
    last_place: Option<(String, i32)>,
}

impl Assignment {
    pub(crate) fn new(setup: Setup, wake: Arc<Wake>, committer: Committer, tails: Tails) -> Self {
        let owned = Owned {
            partitions: HashMap::new(),
            waiting: HashMap::new(),
            look_up_at: Instant::now(),
            looked_up_in_vain: Rarely::default(),
            had: Topics::new(),
            topics: TopicWatch::new(wake.clone()),
            committer,
            tails,
            last_place: None,
        };
        Self {
            setup,
            wake,
            consumer: OnceLock::new(),
            owned: Mutex::new(owned),
            served: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            contact: Arc::default(),
            teller: Arc::default(),
            read_lock: Arc::default(),
            log: ClientLog::default(),
            asking: Arc::default(),
        }
    }

    /// Introduces the consumer whose callbacks these are.
    pub(crate) fn attach(&self, consumer: &Arc<Consumer>) {
        self.consumer.get_or_init(|| Arc::downgrade(consumer));
    }

    /// Keeps workers from reading, beside whom no rebalance may be served.
    pub(crate) fn polling(&self) -> Polling<'_> {
        self.read_lock.poll()
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    pub(crate) fn joined(&self) -> u64 {
        self.joined.load(Ordering::Relaxed)
    }

    /// Where these partitions begin; `None` where that can't be looked up now.
    fn look_up(&self, consumer: &Consumer, list: &TopicPartitionList) -> Option<Vec<Beginning>> {
        let had = self.owned().had.clone();
        let found = self.positions(consumer, &had).look_up(list);
        let mut owned = self.owned();
        match found {
            Ok((beginnings, topics)) => {
                for (name, topic) in topics {
                    owned.had.entry(name).or_insert(topic);
                }
                Some(beginnings)
            }
            Err(error) => {
                owned.look_up_at = Instant::now() + AGAIN_AFTER;
                if let Some(times) = owned.looked_up_in_vain.count() {
                    tracing::warn!(%error, times, "cannot look up where partitions begin; they wait, and it is tried again");
                }
                None
            }
        }
    }

    fn positions<'a>(&'a self, consumer: &'a Consumer, had: &'a Topics) -> Positions<'a, Assignment> {
        let (start, out_of_range) = (self.setup.start, self.setup.out_of_range);
        Positions { consumer, teller: &self.teller, group: &self.setup.group, start, out_of_range, had }
    }

    pub(crate) fn commit_if_due(&self, consumer: &Consumer) -> Duration {
        let Owned { partitions, committer, .. } = &mut *self.owned();
        if partitions.values().any(|owned| owned.partition.source.notes.wanted().is_some()) {
            committer.hurry();
        }
        committer.commit(consumer, |room| list(partitions.values(), OwnedPartition::due, room));
        committer.wait()
    }

    /// Publishes how the group is, with what its poll thread tells of it; asks a broker that was not
    /// heard for long.
    pub(crate) fn look(&self, mut told: Vec<Told>) {
        let mut owned = self.owned();
        owned.partitions.values().for_each(OwnedPartition::say_why_it_is_stopped);
        told.extend(owned.partitions.values().flat_map(OwnedPartition::told));
        let seen = owned.partitions.values().filter_map(OwnedPartition::oldest);
        self.setup.health.note(&self.setup.group, &self.setup.handlers, told, seen);
        // A frozen broker costs the partitions soon, but is to be heard of again.
        let place = owned.partitions.keys().next().or(owned.last_place.as_ref()).cloned();
        owned.last_place = place.clone();
        drop(owned);
        if let Some((topic, partition)) = place.filter(|_| self.contact.is_to_be_asked()) {
            self.ask(topic, partition);
        }
    }

    /// Asks the broker for anything.
    fn ask(&self, topic: String, partition: i32) {
        let (consumer, contact) = (self.consumer.get().cloned(), self.contact.clone());
        let asking = self.asking.clone();
        self.setup.runtime.spawn_blocking(move || {
            let Some(consumer) = consumer.and_then(|consumer| consumer.upgrade()) else { return };
            let mut answer = consumer.fetch_watermarks(&topic, partition, ANSWERS_WITHIN).map(drop);
            // A partition that is being deleted has no leader to answer; then any broker may.
            if answer.is_err() {
                let metadata = consumer.fetch_metadata(Some(&topic), ANSWERS_WITHIN);
                answer = metadata.and_then(|metadata| {
                    let topic = metadata.topics().first().and_then(|topic| topic.error());
                    topic.map_or(answer, |error| Err(KafkaError::MetadataFetch(error.into())))
                });
            }
            contact.asked(answer);
            drop(asking);
        });
    }

    /// Since when Kafka has not answered.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        self.contact.silent_since()
    }

    /// Is held by a request of our own that keeps the client open.
    pub(crate) fn asking(&self) -> Arc<()> {
        self.asking.clone()
    }

    /// Whether there is such a request.
    pub(crate) fn is_asking(&self) -> bool {
        Arc::strong_count(&self.asking) > 1
    }

    pub(crate) fn health(&self) -> (&Health, &Arc<str>) {
        (&self.setup.health, &self.setup.group)
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.setup.runtime
    }

    /// Has the holes behind the last records closed.
    pub(crate) fn close_holes(&self, consumer: &Consumer) {
        let Owned { partitions, tails, .. } = &mut *self.owned();
        tails.look(|| partitions.values().filter_map(|owned| owned.tail(consumer)).collect());
    }

    /// Whether a worker ended that nobody asked to.
    pub(crate) fn has_dead_worker(&self) -> bool {
        self.owned()
            .partitions
            .values()
            .any(|owned| owned.partition.has_ended() && !owned.partition.drain.has_begun())
    }

    /// Lets all workers finish what they hold.
    pub(crate) fn begin_drain(&self) {
        fault::point("in_drain");
        self.owned().partitions.values().for_each(|owned| owned.partition.begin_drain());
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.owned().partitions.values().all(|owned| owned.partition.has_ended())
    }

    /// Commits what was done, gives up what was not. Says how many partitions had
    /// work left.
    pub(crate) fn end(&self, consumer: &Consumer, limit: Duration) -> usize {
        let waiting = std::mem::take(&mut self.owned().waiting);
        drop(waiting);
        let partitions: Vec<_> = self.owned().partitions.drain().map(|(_, owned)| owned).collect();
        let names = names_of(&partitions);
        let unfinished = self.commit_and_abandon(consumer, partitions, limit);
        if !names.is_empty() {
            self.setup.hooks.revoked(&names);
        }
        self.setup.health.ended(&self.setup.group);
        unfinished
    }

    fn owned(&self) -> MutexGuard<'_, Owned> {
        lock(&self.owned)
    }

    /// The group has forgotten this member: what it does now can be done by another
    /// too. The revoke will say so; until then nothing more is begun.
    fn membership_gone(&self) {
        tracing::warn!(
            group = &*self.setup.group,
            "the group has forgotten this member; stopping its work until it rejoins"
        );
        self.begin_drain();
    }

    fn assigned(&self, consumer: &Consumer, list: &mut TopicPartitionList) -> KafkaResult<()> {
        let Some(consumer) = &self.consumer.get().and_then(Weak::upgrade) else {
            // The last handle is being dropped: another member left just now, and what it
            // had goes back at once.
            return assign(consumer, list);
        };
        let mut names = Vec::new();
        if let Some(beginnings) = self.look_up(consumer, list) {
            for beginning in &beginnings {
                let (topic, partition) = (beginning.partition.topic(), beginning.partition.partition());
                list.set_partition_offset(topic, partition, beginning.offset)?;
            }
            names = self.begin(consumer, beginnings);
        } else {
            self.wait_with(consumer, list);
            // What is read nonetheless is little.
            list.set_all_offsets(Offset::End)?;
        }
        assign(consumer, list)?;
        self.rouse(list);
        self.tell_assigned(&names);
        Ok(())
    }

    fn tell_assigned(&self, names: &[TopicPartition]) {
        if !names.is_empty() {
            tracing::info!(group = &*self.setup.group, partitions = list_of(names), "assigned");
            self.setup.hooks.assigned(names);
        }
    }

    /// Keeps partitions until it can be looked up where they begin.
    fn wait_with(&self, consumer: &Arc<Consumer>, list: &TopicPartitionList) {
        let mut owned = self.owned();
        for element in list.elements() {
            // Else their records would come to the consumer's own queue.
            let queue =
                PartitionQueue::split(consumer, element.topic(), element.partition(), &Arc::default());
            let Some(queue) = queue else { continue };
            owned.waiting.insert((element.topic().to_owned(), element.partition()), queue);
        }
    }

    /// Begins the work on partitions; says on which. They are assigned after that: records
    /// that come earlier would stay on the consumer's own queue.
    fn begin(&self, consumer: &Arc<Consumer>, beginnings: Vec<Beginning>) -> Vec<TopicPartition> {
        let mut names = Vec::new();
        for mut beginning in beginnings {
            let (partition, stopped) = (beginning.partition.clone(), beginning.stopped.take());
            let Some(owned) = self.start_work(consumer, beginning) else {
                tracing::error!(%partition, "no handler takes this topic");
                continue;
            };
            let name = (partition.topic().to_owned(), partition.partition());
            self.owned().partitions.insert(name, owned);
            if let Some(stopped) = stopped {
                self.stop(&partition, stopped.offset, stopped.sentence);
            }
            names.push(partition);
        }
        names
    }

    fn start_work(&self, consumer: &Arc<Consumer>, beginning: Beginning) -> Option<OwnedPartition> {
        let Beginning { partition, place, offset, committed, memo, had_owner, .. } = beginning;
        let router = (self.setup.routers)(partition.topic())?;
        let mut source = Source::new(partition.clone(), self.setup.group.clone());
        if had_owner {
            source.written = dead_letter::after_another();
        }
        source.notes = Notes::starting_with(committed.map(|offset| (offset, memo.note)));
        let (arrived, drain) = (Arc::default(), Arc::<Drain>::default());
        let queue = PartitionQueue::split(consumer, partition.topic(), partition.partition(), &arrived)?;
        let inbox = Inbox::new(Box::new(queue), arrived, drain.clone(), Keepalive::of(consumer));
        let (read_lock, contact) = (self.read_lock.clone(), self.contact.clone());
        let shared = Arc::new(Partition::new(source, inbox, drain, read_lock, contact, self.wake.clone()));
        if !memo.ahead.is_empty() {
            tracing::info!(%partition, committed, ahead = memo.ahead.len(), "offsets ahead are done");
        }
        shared.offsets().remember(memo.ahead.clone());
        if let (None, Offset::Offset(start)) = (committed, offset) {
            shared.offsets().start_at(start);
        }
        let (limits, suspects) = (self.setup.limits.clone(), self.setup.suspects.clone());
        let worker = PartitionWorker::new(shared.clone(), router, limits, suspects);
        let worker = self.setup.runtime.spawn(worker.work());
        Some(OwnedPartition {
            partition: shared,
            worker,
            committed: Committed::starting_with(committed, memo.ahead),
            place,
            stopped: None,
            without_position: None,
            made_anew: None,
        })
    }

    fn revoked(&self, consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
        let lost = consumer.assignment_lost();
        let leaving: Vec<_> = {
            let mut owned = self.owned();
            let name = |element: &crate::kafka::client::TopicPartitionListElem<'_>| {
                (element.topic().to_owned(), element.partition())
            };
            for element in list.elements() {
                owned.waiting.remove(&name(&element));
            }
            list.elements().iter().filter_map(|element| owned.partitions.remove(&name(element))).collect()
        };
        let names = names_of(&leaving);
        leaving.iter().for_each(|owned| owned.partition.begin_drain());
        let started = Instant::now();
        if lost {
            self.owned().committer.membership_ended();
            // Another member may have them already: nothing is waited for or committed.
            for owned in &leaving {
                owned.worker.abort();
                self.setup.suspects.lost(&owned.partition.source);
            }
        } else {
            fault::point("in_drain");
            let left = |until: Instant| until.saturating_duration_since(Instant::now());
            let until = after(self.setup.drain_deadline);
            while !leaving.iter().all(|owned| owned.partition.has_ended()) && !left(until).is_zero() {
                self.wake.wait(left(until).min(Duration::from_millis(50)));
            }
            let unfinished = self.commit_and_abandon(consumer, leaving, self.setup.drain_deadline);
            if unfinished > 0 {
                tracing::warn!(
                    unfinished,
                    deadline = ?self.setup.drain_deadline,
                    "work in flight did not finish within `drain_deadline`; its partitions' new owner does it again"
                );
            }
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list)?,
            _ => consumer.unassign()?,
        }
        if !consumer.closed() {
            self.rouse(list);
        }
        if !names.is_empty() {
            tracing::info!(group = &*self.setup.group, partitions = list_of(&names), lost, took = ?started.elapsed(), "revoked");
            self.setup.hooks.revoked(&names);
        }
        Ok(())
    }

    fn commit_and_abandon(
        &self,
        consumer: &Consumer,
        leaving: Vec<OwnedPartition>,
        limit: Duration,
    ) -> usize {
        let unfinished = leaving.iter().filter(|owned| !owned.partition.has_ended()).count();
        leaving.iter().for_each(|owned| owned.worker.abort());
        let mut room: Room = *self.owned().committer.room();
        let due = |room| list(leaving.iter(), OwnedPartition::due_last, room);
        let commit = |list: &_, limit| offsets::commit_within(consumer, list, limit);
        let committed = commit_last(&mut room, due, limit, commit);
        *self.owned().committer.room() = room;
        if let Err(error) = committed {
            tracing::warn!(%error, "the last offsets of partitions given away are not committed; their records are delivered again");
        }
        unfinished
    }

    /// Wakes the thread of a partition's leader, again and again for a second: without it,
    /// partitions that stay often receive nothing for that long after a rebalance.
    /// librdkafka resumes them on a thread of its own, some time after this call, and its
    /// leader threads sleep for up to a second (`rkb_blocking_max_ms`).
    fn rouse(&self, list: &TopicPartitionList) {
        const TIMES: usize = 40;
        const APART: Duration = Duration::from_millis(25);
        let elements = list.elements();
        let (Some(element), Some(consumer)) = (elements.first(), self.consumer.get().cloned()) else {
            return;
        };
        let (topic, partition) = (element.topic().to_owned(), element.partition());
        self.setup.runtime.spawn_blocking(move || {
            let wake = Wake::this_thread();
            for _ in 0..TIMES {
                {
                    let open = consumer.upgrade().filter(|consumer| !consumer.closed());
                    let Some(consumer) = open else { return };
                    // Whether it answers does not matter.
                    drop(consumer.fetch_watermarks(&topic, partition, Duration::from_millis(200)));
                }
                wake.wait(APART);
            }
        });
    }
}

fn assign(consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
}

fn list_of(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl ConsumerContext for Assignment {
    fn rebalance(&self, consumer: &Consumer, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.served.fetch_add(1, Ordering::Relaxed);
        let result = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.joined.fetch_add(1, Ordering::Relaxed);
                self.assigned(consumer, list)
            }
            // Also while the last handle is being dropped, which waits for the unassign.
            _ => self.revoked(consumer, list),
        };
        if let Err(error) = result {
            let error = Error::Internal { what: "a rebalance".to_owned(), source: error.into() };
            // Nobody listens only if the application is stopping already.
            let _ = self.setup.stop.send(error);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.served.fetch_add(1, Ordering::Relaxed);
        let gone = {
            let Owned { partitions, committer, .. } = &mut *self.owned();
            if result.is_ok() {
                self.contact.heard();
                for (element, text) in offsets.elements().iter().zip(offsets::metadata(offsets)) {
                    let owned = partitions.get_mut(&(element.topic().to_owned(), element.partition()));
                    if let (Some(owned), Offset::Offset(offset), Ok(())) =
                        (owned, element.offset(), element.error())
                    {
                        owned.acknowledge(offset, &text, *committer.room());
                    }
                }
            }
            committer.result(&result)
        };
        if gone {
            self.membership_gone();
        }
    }
}

impl ClientContext for Assignment {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.log.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    fn error(&self, _: KafkaError, reason: &str) {
        self.served.fetch_add(1, Ordering::Relaxed);
        // `poll` gives the error itself next, and whoever polls says it.
        self.log.keep_reason(reason);
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assignment({})", self.setup.group)
    }
}
