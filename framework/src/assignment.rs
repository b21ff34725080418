//! A side road: partitions that are assigned, revoked and lost.
//!
//! Runs on the poll thread, inside librdkafka's rebalance callback. A revoke waits
//! there for the work in flight: librdkafka pauses the whole assignment from
//! before the callback until the unassign, wherever that is called, so waiting
//! elsewhere would gain nothing and could miss the commit.

use crate::backoff::after;
use crate::client_events::ClientLog;
use crate::commit::{Committed, Committer, Room, commit_last};
use crate::condition::Told;
use crate::config::{OutOfRange, Start};
use crate::contact::{ANSWERS_WITHIN, Contact};
use crate::dead_letter::Written;
use crate::drain::Drain;
use crate::health::Health;
use crate::inbox::Inbox;
use crate::owned::{OwnedPartition, list, names_of};
use crate::partition::{Limits, Partition, PartitionWorker};
use crate::admin::{Described, Teller};
use crate::positions::{self, Beginning, LOOKUP_LIMIT, Positions, Topics};
use crate::queue::{self, Keepalive, PartitionQueue};
use crate::read_lock::{Polling, ReadLock};
use crate::record::TopicPartition;
use crate::router::Router;
use crate::run::Source;
use crate::starts::{Notes, Suspects};
use crate::sync::lock;
use crate::tail::Tails;
use crate::topic_watch::TopicWatch;
use crate::trouble::Rarely;
use crate::wake::Wake;
use crate::{Error, fault, hooks::Hooks};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};
use std::collections::{BTreeSet, HashMap};
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

    /// Looks for partitions of which it is not known where they begin or go on.
    pub(crate) fn find_positions(&self) {
        let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) else { return };
        self.begin_those_that_wait(&consumer);
        self.compare_topics(&consumer);
        let now = Instant::now();
        let (mut without_position, mut made_anew) = (Vec::new(), Vec::new());
        for (name, owned) in &mut self.owned().partitions {
            if owned.partition.has_lost_position() {
                owned.without_position = Some(now);
            }
            let is_time = owned.without_position.is_none_or(|at| at <= now);
            match &owned.made_anew {
                Some((topic, until)) if is_time && (owned.partition.has_ended() || *until <= now) => {
                    made_anew.push((name.clone(), topic.clone()));
                }
                None if is_time && owned.without_position.is_some() && owned.stopped.is_none() => {
                    without_position.push(name.clone());
                }
                _ => continue,
            }
            owned.without_position = Some(now + AGAIN_AFTER);
        }
        for (topic, partition) in without_position {
            self.find_position(&consumer, &topic, partition);
        }
        for (name, topic) in made_anew {
            if let Err(error) = self.begin_anew(&consumer, &name, topic) {
                tracing::warn!(topic = name.0, partition = name.1, %error, "cannot look up where the partition begins; trying again");
            }
        }
    }

    /// Something looks as if a topic was deleted or made.
    pub(crate) fn topics_may_have_changed(&self) {
        self.owned().topics.hurry();
    }

    /// Looks whether topics were made anew.
    fn compare_topics(&self, consumer: &Arc<Consumer>) {
        let mut owned = self.owned();
        let Owned { partitions, topics, .. } = &mut *owned;
        let names = || {
            let names: BTreeSet<&String> = partitions.keys().map(|(topic, _)| topic).collect();
            names.into_iter().cloned().collect()
        };
        topics.look(consumer, &self.teller, &self.setup.runtime, names);
        let Some(now) = topics.answer() else { return };
        let mut to_stop = Vec::new();
        for ((topic, _), owned) in partitions.iter_mut() {
            let Some(now) = now.get(topic) else { continue };
            let Some(before) = owned.compare_topic(&now.topic) else { continue };
            if owned.stopped.is_some() || owned.made_anew.is_some() {
                continue;
            }
            let partition = owned.partition.source.partition.clone();
            let offset = owned.next().unwrap_or(0);
            let sentence = positions::made_anew(&partition, offset, &before, &now.topic);
            if self.setup.out_of_range == OutOfRange::Stop {
                to_stop.push((partition, offset, format!("{sentence}. {}", positions::MADE_ANEW_GOES_ON)));
                continue;
            }
            tracing::warn!("{sentence}. It goes on as `out_of_range` says");
            owned.begin_anew(now.clone(), self.setup.drain_deadline);
        }
        drop(owned);
        for (partition, offset, sentence) in to_stop {
            self.stop(&partition, offset, sentence);
        }
    }

    /// Begins with a topic that was made anew, where the work on the one before has ended.
    fn begin_anew(
        &self,
        consumer: &Arc<Consumer>,
        name: &(String, i32),
        topic: Described,
    ) -> KafkaResult<()> {
        let partition = TopicPartition::new(&*name.0, name.1);
        let Some(offset) = self.positions(consumer, &Topics::new()).out_of_range(&partition)? else {
            return Ok(());
        };
        let Some(before) = self.owned().partitions.remove(name) else { return Ok(()) };
        // What was not finished by now does not count: its offsets are none of this topic.
        before.worker.abort();
        let mut place = before.place.clone();
        (place.topic, place.first_count) = (topic.topic, Some(topic.partitions));
        drop(before);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&name.0, name.1, Offset::Offset(offset))?;
        self.begin(consumer, vec![Beginning::made_anew(partition.clone(), place, offset)]);
        tracing::warn!(%partition, offset, "the partition begins anew");
        self.restart_or_find(consumer, &list);
        Ok(())
    }

    /// Looks up again where partitions begin that wait for that.
    fn begin_those_that_wait(&self, consumer: &Arc<Consumer>) {
        let list = {
            let owned = self.owned();
            if owned.waiting.is_empty() || Instant::now() < owned.look_up_at {
                return;
            }
            let mut list = TopicPartitionList::new();
            owned.waiting.keys().for_each(|(topic, partition)| drop(list.add_partition(topic, *partition)));
            list
        };
        let Some(beginnings) = self.look_up(consumer, &list) else { return };
        self.owned().waiting.clear();
        let mut starts = TopicPartitionList::new();
        for beginning in &beginnings {
            let (topic, partition) = (beginning.partition.topic(), beginning.partition.partition());
            let added = starts.add_partition(topic, partition).set_offset(beginning.offset);
            debug_assert!(added.is_ok(), "{beginning:?}");
        }
        let names = self.begin(consumer, beginnings);
        self.restart_or_find(consumer, &starts);
        self.tell_assigned(&names);
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
            source.written = Written::after_another();
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
            let name = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
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
        let commit = |list: &_, limit| queue::commit_within(consumer, list, limit);
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

    /// librdkafka has no valid position: the broker has deleted the offset; or, after a
    /// rebalance, librdkafka forgot where a partition that stayed was.
    fn find_position(&self, consumer: &Arc<Consumer>, topic: &str, partition: i32) {
        let position = match self.position(consumer, topic, partition) {
            Ok(Some(offset)) => self.in_range(consumer, topic, partition, offset),
            // It begins at its first record, which has no number yet.
            Ok(None) => Ok(Some(Offset::Beginning)),
            Err(error) => Err(error),
        };
        let moved = position.and_then(|position| match position {
            Some(position) => {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(topic, partition, position)?;
                self.restart(consumer, &list)
            }
            None => Ok(()),
        });
        match moved {
            Ok(()) => {
                if let Some(owned) = self.owned().partitions.get_mut(&(topic.to_owned(), partition)) {
                    owned.without_position = None;
                    owned.partition.inbox.read_on();
                }
            }
            Err(error) => {
                tracing::warn!(topic, partition, %error, "cannot look up where the partition goes on; trying again");
            }
        }
    }

    /// Has librdkafka read partitions from new positions. What it has read before is dropped, and
    /// nobody reads meanwhile. It takes no seek where it has given a partition up ("erroneous
    /// state"), so they are assigned anew.
    fn restart(&self, consumer: &Consumer, starts: &TopicPartitionList) -> KafkaResult<()> {
        if let RebalanceProtocol::Cooperative = consumer.rebalance_protocol() {
            consumer.incremental_unassign(starts)?;
            return consumer.incremental_assign(starts);
        }
        let mut list = starts.clone();
        let owned = self.owned();
        // The others go on behind what they have delivered.
        for ((name, number), other) in &owned.partitions {
            if starts.find_partition(name, *number).is_none() {
                let next = other.next().map_or(Offset::Stored, Offset::Offset);
                list.add_partition_offset(name, *number, next)?;
            }
        }
        for (name, number) in owned.waiting.keys() {
            list.add_partition_offset(name, *number, Offset::End)?;
        }
        drop(owned);
        consumer.assign(&list)
    }

    /// The same; where it fails, it is tried again for each partition.
    fn restart_or_find(&self, consumer: &Consumer, starts: &TopicPartitionList) {
        let Err(error) = self.restart(consumer, starts) else { return self.rouse(starts) };
        tracing::warn!(%error, "cannot assign partitions anew; trying again");
        let mut owned = self.owned();
        for element in starts.elements() {
            let name = (element.topic().to_owned(), element.partition());
            if let Some(owned) = owned.partitions.get_mut(&name) {
                owned.without_position = Some(Instant::now());
            }
        }
    }

    /// The next offset that the partition has to deliver. `None` where none is committed.
    fn position(&self, consumer: &Consumer, topic: &str, partition: i32) -> KafkaResult<Option<i64>> {
        let known =
            self.owned().partitions.get(&(topic.to_owned(), partition)).and_then(OwnedPartition::next);
        if known.is_some() {
            return Ok(known);
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let committed = positions::committed(consumer, &list)?;
        Ok(committed.into_iter().find_map(|(_, committed)| committed).map(|(offset, _)| offset))
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
        let name = TopicPartition::new(topic, partition);
        let sentence = positions::offset_out_of_range(&name, offset, oldest, end);
        let goes_on_at = match self.setup.out_of_range {
            OutOfRange::Stop => {
                self.stop(&name, offset, format!("{sentence}. {}", positions::GOES_ON));
                return Ok(None);
            }
            OutOfRange::Earliest => oldest,
            OutOfRange::Latest => end,
        };
        tracing::warn!("{sentence}. It goes on at {goes_on_at}, as `out_of_range` says");
        if let Some(owned) = self.owned().partitions.get_mut(&(topic.to_owned(), partition)) {
            if goes_on_at < offset && !owned.partition.offsets().is_idle() {
                // The books on what is in flight know no way back.
                let first_count = owned.place.first_count.unwrap_or(i32::MAX);
                owned.begin_anew(
                    Described::new(owned.place.topic.clone(), first_count),
                    self.setup.drain_deadline,
                );
                return Ok(None);
            }
            owned.start_at(goes_on_at);
        }
        Ok(Some(Offset::Offset(goes_on_at)))
    }

    fn stop(&self, partition: &TopicPartition, offset: i64, sentence: String) {
        tracing::error!(group = &*self.setup.group, "{sentence}");
        let name = (partition.topic().to_owned(), partition.partition());
        if let Some(owned) = self.owned().partitions.get_mut(&name) {
            owned.stop(sentence);
        }
        self.setup.hooks.out_of_range(partition, offset);
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
                for (element, text) in offsets.elements().iter().zip(queue::metadata(offsets)) {
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

#[cfg(all(test, feature = "testing"))]
mod tests;
