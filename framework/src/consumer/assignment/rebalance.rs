//! What becomes of partitions that are assigned and revoked, in librdkafka's rebalance callback.

use super::{Assignment, Consumer};
use crate::base::backoff::after;
use crate::base::drain::Drain;
use crate::base::fault;
use crate::base::wake::Wake;
use crate::consumer::commit::{Room, commit_last};
use crate::consumer::committed::Committed;
use crate::consumer::owned::{OwnedPartition, list, names_of};
use crate::consumer::positions::Beginning;
use crate::failure::dead_letter;
use crate::kafka::client::{
    Consumer as _, KafkaResult, Offset, RebalanceProtocol, TopicPartitionList, TopicPartitionListElem,
};
use crate::kafka::offsets;
use crate::kafka::queue::{Keepalive, PartitionQueue};
use crate::record::TopicPartition;
use crate::record::notes::Notes;
use crate::record::source::Source;
use crate::worker::inbox::Inbox;
use crate::worker::partition::PartitionWorker;
use crate::worker::shared::Partition;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

impl Assignment {
    pub(super) fn assigned(&self, consumer: &Consumer, list: &mut TopicPartitionList) -> KafkaResult<()> {
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

    pub(super) fn tell_assigned(&self, names: &[TopicPartition]) {
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
    pub(super) fn begin(&self, consumer: &Arc<Consumer>, beginnings: Vec<Beginning>) -> Vec<TopicPartition> {
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
        // The note that the owner before has left holds until this one begins: see `Notes::has_left`.
        if had_owner && !memo.note.left {
            source.written = dead_letter::after_another();
        }
        source.notes = Notes::starting_with(committed.map(|offset| (offset, memo.note)));
        let (arrived, drain) = (Arc::default(), Arc::<Drain>::default());
        let queue = PartitionQueue::split(consumer, partition.topic(), partition.partition(), &arrived)?;
        let inbox = Inbox::new(Box::new(queue), arrived, drain.clone(), Keepalive::of(consumer));
        let (read_lock, contact) = (self.read_lock.clone(), self.contact.clone());
        let shared = Arc::new(Partition::new(source, inbox, drain, read_lock, contact, self.wake.clone()));
        if !memo.ahead.is_empty() {
            tracing::info!(%partition, committed, ahead = memo.ahead.len(), "records behind the committed offset were finished before; they are not handled again");
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
            is_left: false,
        })
    }

    pub(super) fn revoked(&self, consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
        let lost = consumer.assignment_lost();
        let leaving: Vec<_> = {
            let mut owned = self.owned();
            let name =
                |element: &TopicPartitionListElem<'_>| (element.topic().to_owned(), element.partition());
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

    pub(super) fn commit_and_abandon(
        &self,
        consumer: &Consumer,
        mut leaving: Vec<OwnedPartition>,
        limit: Duration,
    ) -> usize {
        leaving.iter_mut().for_each(OwnedPartition::leave);
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
    pub(super) fn rouse(&self, list: &TopicPartitionList) {
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

pub(super) fn assign(consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
}

pub(super) fn list_of(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
