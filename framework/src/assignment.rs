//! A side road: partitions that are assigned, revoked and lost.
//!
//! Runs on the poll thread, inside librdkafka's rebalance callback. A revoke waits
//! there for the work in flight: librdkafka pauses the whole assignment from
//! before the callback until the unassign, wherever that is called, so waiting
//! elsewhere would gain nothing and could miss the commit.

use crate::backoff::after;
use crate::commit::{Committed, Committer, add, commit_last};
use crate::config::{OutOfRange, Start};
use crate::contact::{ANSWERS_WITHIN, Contact};
use crate::dead_letter::Written;
use crate::drain::Drain;
use crate::health::{Health, Oldest};
use crate::inbox::Inbox;
use crate::memo::Memo;
use crate::partition::{Limits, Partition, PartitionWorker};
use crate::queue::{self, Keepalive, PartitionQueue};
use crate::read_lock::{Polling, ReadLock};
use crate::record::TopicPartition;
use crate::router::Router;
use crate::run::Source;
use crate::starts::{Notes, Suspects};
use crate::tail::{Tail, Tails};
use crate::wake::Wake;
use crate::{Error, fault, hooks::Hooks};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

/// The consumer of a group.
pub(crate) type Consumer = BaseConsumer<Assignment>;

/// What the group has committed for each partition, and noted beside it.
type CommittedBefore = HashMap<(String, i32), Option<(i64, Memo)>>;

/// How long the lookups of a new assignment may take; on a broker that answers
/// they take milliseconds.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

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
    contact: Arc<Contact>,
    read_lock: Arc<ReadLock>,
}

struct Owned {
    partitions: HashMap<(String, i32), OwnedPartition>,
    committer: Committer,
    tails: Tails,
    /// A partition that it has or has had.
    last_place: Option<(String, i32)>,
}

struct OwnedPartition {
    partition: Arc<Partition>,
    worker: JoinHandle<()>,
    committed: Committed,
    stopped: bool,
    /// librdkafka has no position for it; when to look for one.
    without_position: Option<Instant>,
}

impl Drop for OwnedPartition {
    fn drop(&mut self) {
        self.partition.inbox.clear();
    }
}

impl OwnedPartition {
    fn due(&self) -> Option<(i64, Memo)> {
        self.committed.due(&self.partition.offsets(), &self.partition.source.notes)
    }

    fn due_last(&self) -> Option<(i64, Memo)> {
        if self.partition.has_panicked() {
            // No clean end: the note of its start stands.
            return self.due();
        }
        self.committed.due_last(&self.partition.offsets(), &self.partition.source.notes)
    }

    /// What lies below is not handled here: the group was told to start behind it.
    fn start_at(&self, offset: i64) {
        self.partition.offsets().start_at(offset);
    }

    /// The next offset to deliver, as far as it is known.
    fn next(&self) -> Option<i64> {
        self.partition.offsets().delivered_to().or(self.committed.acknowledged())
    }

    /// Where it stands, if nothing is in flight and yet it is not at the end.
    fn tail(&self, consumer: &Consumer) -> Option<Tail> {
        let source = &self.partition.source.partition;
        let (oldest, end) = queue::known_watermarks(consumer, source.topic(), source.partition())?;
        let offsets = self.partition.offsets();
        let from = offsets.committable().or(self.committed.acknowledged()).unwrap_or(oldest);
        let lags = offsets.is_idle() && from < end && !self.stopped;
        lags.then(|| Tail { partition: self.partition.clone(), from })
    }
}

impl Assignment {
    pub(crate) fn new(setup: Setup, wake: Arc<Wake>, committer: Committer, tails: Tails) -> Self {
        Self {
            setup,
            wake,
            consumer: OnceLock::new(),
            owned: Mutex::new(Owned { partitions: HashMap::new(), committer, tails, last_place: None }),
            served: AtomicU64::new(0),
            contact: Arc::default(),
            read_lock: Arc::default(),
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

    /// Looks for partitions for which librdkafka has no position.
    pub(crate) fn find_positions(&self) {
        let mut without_position = Vec::new();
        for (name, owned) in &mut self.owned().partitions {
            if owned.partition.has_lost_position() {
                owned.without_position = Some(Instant::now());
            }
            if owned.without_position.is_some_and(|at| at <= Instant::now()) && !owned.stopped {
                owned.without_position = Some(Instant::now() + Duration::from_secs(1));
                without_position.push(name.clone());
            }
        }
        for (topic, partition) in without_position {
            self.find_position(&topic, partition);
        }
    }

    pub(crate) fn commit_if_due(&self, consumer: &Consumer) -> Duration {
        let Owned { partitions, committer, .. } = &mut *self.owned();
        if partitions.values().any(|owned| owned.partition.source.notes.wanted().is_some()) {
            committer.hurry();
        }
        committer.commit(consumer, || list(partitions.values(), OwnedPartition::due));
        committer.wait()
    }

    /// Looks how the group is, for who asks; asks a broker that was not heard for long.
    pub(crate) fn look(&self) {
        let oldest = |owned: &OwnedPartition| {
            let offsets = owned.partition.offsets();
            let oldest = Oldest::new(offsets.oldest()?, offsets.oldest_key());
            Some((owned.partition.source.partition.clone(), oldest))
        };
        let silent_for = self.contact.silent_for();
        let mut owned = self.owned();
        let seen = owned.partitions.values().filter_map(oldest);
        self.setup.health.note(&self.setup.group, &self.setup.handlers, silent_for, seen);
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
        self.setup.runtime.spawn_blocking(move || {
            let Some(consumer) = consumer.and_then(|consumer| consumer.upgrade()) else { return };
            let answer = consumer.fetch_watermarks(&topic, partition, ANSWERS_WITHIN);
            contact.asked(answer.map(drop));
        });
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
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut committed = self.set_positions(consumer, list)?;
        let mut names = Vec::new();
        for element in list.elements() {
            let name = (element.topic().to_owned(), element.partition());
            let committed = committed.remove(&name).flatten();
            match self.start_work(consumer, &name.0, name.1, committed) {
                Some(owned) => {
                    if let (None, Offset::Offset(start)) = (owned.committed.acknowledged(), element.offset())
                    {
                        owned.start_at(start);
                    }
                    names.push(owned.partition.source.partition.clone());
                    self.owned().partitions.insert(name, owned);
                }
                None => tracing::error!(topic = name.0, partition = name.1, "no handler takes this topic"),
            }
        }
        assign(consumer, list)?;
        self.rouse(list);
        if !names.is_empty() {
            tracing::info!(group = &*self.setup.group, partitions = list_of(&names), "assigned");
            self.setup.hooks.assigned(&names);
        }
        Ok(())
    }

    fn start_work(
        &self,
        consumer: &Arc<Consumer>,
        topic: &str,
        partition: i32,
        committed: Option<(i64, Memo)>,
    ) -> Option<OwnedPartition> {
        let router = (self.setup.routers)(topic)?;
        let mut source = Source::new(TopicPartition::new(topic, partition), self.setup.group.clone());
        let (offset, memo) = committed.map_or((None, Memo::default()), |(offset, memo)| (Some(offset), memo));
        if offset.is_some() {
            source.written = Written::after_another();
        }
        source.notes = Notes::starting_with(offset.map(|offset| (offset, memo.note)));
        // Before the partition is assigned: records that come earlier would stay on
        // the consumer's own queue.
        let (arrived, drain) = (Arc::default(), Arc::<Drain>::default());
        let queue = PartitionQueue::split(consumer, topic, partition, &arrived)?;
        let inbox = Inbox::new(Box::new(queue), arrived, drain.clone(), Keepalive::of(consumer));
        let (read_lock, contact) = (self.read_lock.clone(), self.contact.clone());
        let shared = Arc::new(Partition::new(source, inbox, drain, read_lock, contact, self.wake.clone()));
        if !memo.ahead.is_empty() {
            tracing::info!(topic, partition, offset, ahead = memo.ahead.len(), "offsets ahead are done");
        }
        shared.offsets().remember(memo.ahead.clone());
        let (limits, suspects) = (self.setup.limits.clone(), self.setup.suspects.clone());
        let worker = PartitionWorker::new(shared.clone(), router, limits, suspects);
        let worker = self.setup.runtime.spawn(worker.work());
        Some(OwnedPartition {
            partition: shared,
            worker,
            committed: Committed::starting_with(offset, memo.ahead),
            stopped: false,
            without_position: None,
        })
    }

    /// Sets where each partition starts; gives what the group has committed, and noted
    /// beside it.
    fn set_positions(
        &self,
        consumer: &Consumer,
        list: &mut TopicPartitionList,
    ) -> KafkaResult<CommittedBefore> {
        if list.count() == 0 {
            return Ok(HashMap::new());
        }
        let committed = match consumer.committed_offsets(list.clone(), LOOKUP_LIMIT).and_then(complete) {
            Ok(committed) => committed,
            // librdkafka looks them up itself then, for as long as it takes. A
            // partition that has none says so by an error on its queue.
            Err(error) => {
                tracing::warn!(%error, "cannot look up committed offsets yet");
                return Ok(HashMap::new());
            }
        };
        let mut found = HashMap::new();
        let mut fresh = TopicPartitionList::new();
        for element in committed.elements() {
            let name = (element.topic().to_owned(), element.partition());
            let offset = match element.offset() {
                Offset::Offset(offset) => Some((offset, Memo::parse(element.metadata(), offset))),
                _ => None,
            };
            match &offset {
                Some((offset, _)) => list.set_partition_offset(&name.0, name.1, Offset::Offset(*offset))?,
                None => {
                    fresh.add_partition(&name.0, name.1);
                }
            }
            found.insert(name, offset);
        }
        match self.starts(consumer, &fresh) {
            Ok(starts) => {
                for start in starts.elements() {
                    list.set_partition_offset(start.topic(), start.partition(), start.offset())?;
                }
            }
            // As above: librdkafka says that they have no position.
            Err(error) => tracing::warn!(%error, "cannot look up where partitions start yet"),
        }
        Ok(found)
    }

    /// Where partitions without a committed offset start. What has to be looked up is
    /// a number from then on: what comes in later must not move it.
    fn starts(&self, consumer: &Consumer, fresh: &TopicPartitionList) -> KafkaResult<TopicPartitionList> {
        let mut starts = fresh.clone();
        match self.setup.start {
            _ if fresh.count() == 0 => {}
            Start::Earliest => starts.set_all_offsets(Offset::Beginning)?,
            Start::Offset(offset) => starts.set_all_offsets(Offset::Offset(offset))?,
            Start::Latest => starts = offsets_at(consumer, fresh, Offset::End)?,
            Start::Time(time) => {
                let ends = offsets_at(consumer, fresh, Offset::End)?.to_topic_map();
                for start in offsets_at(consumer, fresh, Offset::Offset(time))?.elements() {
                    let name = (start.topic().to_owned(), start.partition());
                    let none_is_that_late = start.offset() == Offset::End;
                    let offset = if none_is_that_late { ends.get(&name).copied() } else { None };
                    starts.set_partition_offset(&name.0, name.1, offset.unwrap_or(start.offset()))?;
                }
            }
        }
        Ok(starts)
    }

    fn revoked(&self, consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
        let lost = consumer.assignment_lost();
        let leaving: Vec<_> = {
            let mut owned = self.owned();
            let name = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
                (element.topic().to_owned(), element.partition())
            };
            list.elements().iter().filter_map(|element| owned.partitions.remove(&name(element))).collect()
        };
        let names = names_of(&leaving);
        leaving.iter().for_each(|owned| owned.partition.begin_drain());
        let started = Instant::now();
        if lost {
            self.owned().committer.membership_ended();
            // Another member may have them already: nothing is waited for or committed.
            leaving.iter().for_each(|owned| owned.worker.abort());
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
        if let Err(error) = commit_last(consumer, &list(leaving.iter(), OwnedPartition::due_last), limit) {
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

    /// librdkafka has no valid position: there is no committed offset and the lookup of
    /// the assignment failed; or the broker has deleted the offset; or, after a
    /// rebalance, it forgot where a partition that stayed was.
    fn find_position(&self, topic: &str, partition: i32) {
        let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) else { return };
        let position = match self.position(&consumer, topic, partition) {
            Ok(Some(offset)) => self.in_range(&consumer, topic, partition, offset),
            Ok(None) => self.start_of(&consumer, topic, partition),
            Err(error) => Err(error),
        };
        let moved = position.and_then(|position| match position {
            Some(position) => self.restart(&consumer, topic, partition, position),
            None => Ok(()),
        });
        match moved {
            Ok(()) => {
                if let Some(owned) = self.owned().partitions.get_mut(&(topic.to_owned(), partition)) {
                    owned.without_position = None;
                }
            }
            Err(error) => {
                tracing::warn!(topic, partition, %error, "cannot look up where the partition goes on; trying again");
            }
        }
    }

    /// Has librdkafka fetch a partition again that it has given up. It takes no seek
    /// then ("erroneous state"), so the partition is assigned anew.
    fn restart(&self, consumer: &Consumer, topic: &str, partition: i32, position: Offset) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, position)?;
        if let RebalanceProtocol::Cooperative = consumer.rebalance_protocol() {
            consumer.incremental_unassign(&list)?;
            return consumer.incremental_assign(&list);
        }
        // The others go on behind what they have delivered.
        for ((name, number), other) in &self.owned().partitions {
            if (&**name, *number) != (topic, partition) {
                let next = other.next().map_or(Offset::Stored, Offset::Offset);
                list.add_partition_offset(name, *number, next)?;
            }
        }
        consumer.assign(&list)
    }

    /// The next offset that the partition has to deliver.
    fn position(&self, consumer: &Consumer, topic: &str, partition: i32) -> KafkaResult<Option<i64>> {
        let known =
            self.owned().partitions.get(&(topic.to_owned(), partition)).and_then(OwnedPartition::next);
        if known.is_some() {
            return Ok(known);
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let committed = complete(consumer.committed_offsets(list, LOOKUP_LIMIT)?)?;
        Ok(match committed.elements_for_topic(topic).first().map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        })
    }

    fn in_range(
        &self,
        consumer: &Consumer,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> KafkaResult<Option<Offset>> {
        let (oldest, end) = consumer.fetch_watermarks(topic, partition, LOOKUP_LIMIT)?;
        if (oldest..=end).contains(&offset) {
            return Ok(Some(Offset::Offset(offset)));
        }
        let goes_on_at = match self.setup.out_of_range {
            OutOfRange::Stop => {
                self.stop(topic, partition, offset);
                return Ok(None);
            }
            OutOfRange::Earliest => oldest,
            OutOfRange::Latest => end,
        };
        tracing::warn!(
            topic,
            partition,
            offset,
            goes_on_at,
            "the broker does not have this offset; going on as `out_of_range` says"
        );
        if let Some(owned) = self.owned().partitions.get(&(topic.to_owned(), partition)) {
            owned.start_at(goes_on_at);
        }
        Ok(Some(Offset::Offset(goes_on_at)))
    }

    fn start_of(&self, consumer: &Consumer, topic: &str, partition: i32) -> KafkaResult<Option<Offset>> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let starts = self.starts(consumer, &list)?;
        let start = starts.elements().first().map(|element| element.offset());
        if let (Some(Offset::Offset(start)), Some(owned)) =
            (start, self.owned().partitions.get(&(topic.to_owned(), partition)))
        {
            owned.start_at(start);
        }
        Ok(start)
    }

    fn stop(&self, topic: &str, partition: i32, offset: i64) {
        if let Some(owned) = self.owned().partitions.get_mut(&(topic.to_owned(), partition)) {
            owned.stopped = true;
            owned.partition.inbox.stop();
        }
        tracing::error!(
            topic,
            partition,
            offset,
            group = &*self.setup.group,
            "the broker does not have this offset, which is the next one of the group: records between it and \
             the oldest one were deleted unhandled, or the topic was made anew. The partition is stopped. To go \
             on, set `out_of_range = \"earliest\"` or `\"latest\"`, or reset the group's offset"
        );
        self.setup.hooks.out_of_range(&TopicPartition::new(topic, partition), offset);
    }
}

/// The first offsets at or after a time, or the ends.
fn offsets_at(
    consumer: &Consumer,
    partitions: &TopicPartitionList,
    time: Offset,
) -> KafkaResult<TopicPartitionList> {
    let mut times = partitions.clone();
    times.set_all_offsets(time)?;
    complete(consumer.offsets_for_times(times, LOOKUP_LIMIT)?)
}

/// The answer, if it holds for every partition: an error stands beside the offset, and
/// would look like none.
fn complete(answer: TopicPartitionList) -> KafkaResult<TopicPartitionList> {
    answer.elements().iter().try_for_each(|element| element.error())?;
    Ok(answer)
}

fn assign(consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
}

fn list<'o>(
    partitions: impl Iterator<Item = &'o OwnedPartition>,
    due: impl Fn(&OwnedPartition) -> Option<(i64, Memo)>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for owned in partitions {
        if let Some(due) = due(owned) {
            let source = &owned.partition.source.partition;
            add(&mut list, source.topic(), source.partition(), &due);
        }
    }
    list
}

fn names_of(partitions: &[OwnedPartition]) -> Vec<TopicPartition> {
    partitions.iter().map(|owned| owned.partition.source.partition.clone()).collect()
}

fn list_of(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl ConsumerContext for Assignment {
    fn rebalance(&self, consumer: &Consumer, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.served.fetch_add(1, Ordering::Relaxed);
        let result = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, list),
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
                for element in offsets.elements() {
                    let owned = partitions.get_mut(&(element.topic().to_owned(), element.partition()));
                    if let (Some(owned), Offset::Offset(offset), Ok(())) =
                        (owned, element.offset(), element.error())
                    {
                        let memo = Memo::parse(element.metadata(), offset);
                        owned.committed.acknowledge(offset, memo.ahead);
                        owned.partition.source.notes.acknowledge(offset, memo.note);
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
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::info!(facility, "librdkafka: {message}")
            }
            _ => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.served.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, reason, "librdkafka");
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assignment({})", self.setup.group)
    }
}
