//! What other tools and people do to a topic and to a group's offsets, between the halves of the flights.

use crate::plan::Between;
use crate::run::Run;
use fastrand::Rng;
use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::future::ready;
use support::{PATIENCE, Signal, eventually};

/// How many partitions are added.
const MORE: usize = 4;

impl Run<'_> {
    /// Does it, and waits until it is done.
    pub(crate) async fn between(&mut self, between: Between, random: &mut Rng) {
        match between {
            Between::OffsetsCopiedWithMetadata => {
                for member in self.members.drain(..) {
                    member.program.signal(Signal::SIGKILL);
                }
                let back = random.i64(1..300);
                self.set_offsets(|element, oldest, _| {
                    let offset = element.offset().to_raw().filter(|offset| *offset >= 0)?;
                    Some(((offset - back).max(oldest), element.metadata().to_owned()))
                })
                .await;
                self.join(None);
            }
            Between::TopicMadeAgain { while_running } => {
                self.caught_up().await;
                if !while_running {
                    self.leave_all().await;
                }
                self.make_topic_again().await;
                if !while_running {
                    self.join(None);
                }
            }
            Between::PartitionsAdded => {
                self.caught_up().await;
                self.add_partitions().await;
            }
            Between::OffsetsResetBack => {
                self.caught_up().await;
                self.leave_all().await;
                self.set_offsets(|_, oldest, _| Some((oldest, String::new()))).await;
                self.join(None);
            }
            Between::OffsetsResetForward => {
                self.caught_up().await;
                self.leave_all().await;
                self.send_bad("skipped", 0..20).await;
                self.set_offsets(|_, _, end| Some((end, String::new()))).await;
                self.join(None);
            }
            Between::Nothing => {}
        }
    }

    async fn caught_up(&mut self) {
        self.all_work().await;
        self.flights.caught_up().await;
    }

    async fn leave_all(&mut self) {
        for member in std::mem::take(&mut self.members) {
            member.program.terminate().await;
        }
    }

    /// Commits other offsets for the group, once its members are gone.
    #[allow(clippy::disallowed_methods, reason = "as another tool does")]
    async fn set_offsets<F>(&self, offset: F)
    where
        F: Fn(&rdkafka::topic_partition_list::TopicPartitionListElem<'_>, i64, i64) -> Option<(i64, String)>
            + Send
            + Sync,
    {
        let stack = &self.servers.stack;
        let consumer: BaseConsumer =
            stack.client().set("group.id", &self.flights.group).create().expect("a consumer");
        let mut partitions = TopicPartitionList::new();
        for partition in 0..self.flights.partitions {
            partitions.add_partition(&self.flights.topic, partition);
        }
        eventually("the group is empty and takes other offsets", || {
            let Ok(committed) = consumer.committed_offsets(partitions.clone(), PATIENCE) else {
                return ready(false);
            };
            let mut changed = TopicPartitionList::new();
            for element in committed.elements() {
                let (oldest, end) = stack.watermarks(element.topic(), element.partition());
                if let Some((offset, metadata)) = offset(&element, oldest, end) {
                    let mut element = changed.add_partition(element.topic(), element.partition());
                    element.set_offset(Offset::Offset(offset)).expect("a legal offset");
                    element.set_metadata(metadata);
                }
            }
            ready(changed.count() == 0 || consumer.commit(&changed, CommitMode::Sync).is_ok())
        })
        .await;
    }

    async fn make_topic_again(&self) {
        let (admin, topic) = (self.servers.stack.admin(), &self.flights.topic);
        let deleted = admin.delete_topics(&[topic], &AdminOptions::new()).await.expect("Kafka answers");
        deleted.into_iter().for_each(|result| drop(result.expect("the topic is deleted")));
        eventually("the topic is made again", async || {
            let new = NewTopic::new(topic, self.flights.partitions, TopicReplication::Fixed(1));
            let made = admin.create_topics([&new], &AdminOptions::new()).await.expect("Kafka answers");
            made.into_iter().all(|result| result.is_ok())
        })
        .await;
    }

    async fn add_partitions(&mut self) {
        let all = usize::try_from(self.flights.partitions).expect("a count") + MORE;
        let admin = self.servers.stack.admin();
        let new = NewPartitions::new(&self.flights.topic, all);
        let added = admin.create_partitions([&new], &AdminOptions::new()).await.expect("Kafka answers");
        added.into_iter().for_each(|result| drop(result.expect("partitions are added")));
        self.flights.partitions = i32::try_from(all).expect("few");
    }
}
