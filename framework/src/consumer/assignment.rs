//! A side road: partitions that are assigned, revoked and lost.
//!
//! Runs on the poll thread, inside librdkafka's rebalance callback. A revoke waits
//! there for the work in flight: librdkafka pauses the whole assignment from
//! before the callback until the unassign, wherever that is called, so waiting
//! elsewhere would gain nothing and could miss the commit.

mod callbacks;
mod moved;
mod rebalance;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;

use crate::Error;
use crate::base::fault;
use crate::base::sync::lock;
use crate::base::wake::Wake;
use crate::config::{OutOfRange, Start};
use crate::consumer::client_events::ClientLog;
use crate::consumer::commit::Committer;
use crate::consumer::hooks::Hooks;
use crate::consumer::owned::{OwnedPartition, list, names_of};
use crate::consumer::positions::{Beginning, Positions, Topics};
use crate::consumer::tail::Tails;
use crate::consumer::topic_watch::TopicWatch;
use crate::error::trouble::Rarely;
use crate::kafka::admin::Teller;
use crate::kafka::client::{BaseConsumer, Consumer as _, KafkaError, TopicPartitionList};
use crate::kafka::contact::{ANSWERS_WITHIN, Contact};
use crate::kafka::queue::PartitionQueue;
use crate::kafka::read_lock::{Polling, ReadLock};
use crate::record::notes::Notes;
use crate::routing::router::Router;
use crate::telemetry::condition::Told;
use crate::telemetry::health::Health;
use crate::worker::partition::Limits;
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

/// The parts that do not change while the group is consumed.
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
        let is_urgent = |notes: &Notes| notes.wanted().is_some() || notes.to_go().is_some();
        if partitions.values().any(|owned| is_urgent(&owned.partition.source.notes)) {
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
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assignment({})", self.setup.group)
    }
}
