//! A side road: partitions that cannot go on at their position, because it is not known yet,
//! the broker does not have it, or the topic was created again.

use super::{AGAIN_AFTER, Assignment, Consumer, Owned};
use crate::config::OutOfRange;
use crate::consumer::owned::OwnedPartition;
use crate::consumer::positions::{self, Beginning, LOOKUP_LIMIT, Topics};
use crate::kafka::admin::Described;
use crate::kafka::client::{Consumer as _, KafkaResult, Offset, RebalanceProtocol, TopicPartitionList};
use crate::record::TopicPartition;
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Instant;

impl Assignment {
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
        tracing::warn!(%partition, offset, "the partition goes on in the new topic");
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
            for (topic, partition) in owned.waiting.keys() {
                list.add_partition(topic, *partition);
            }
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

    pub(super) fn stop(&self, partition: &TopicPartition, offset: i64, sentence: String) {
        tracing::error!(group = &*self.setup.group, "{sentence}");
        let name = (partition.topic().to_owned(), partition.partition());
        if let Some(owned) = self.owned().partitions.get_mut(&name) {
            owned.stop(sentence);
        }
        self.setup.hooks.out_of_range(partition, offset);
    }
}
