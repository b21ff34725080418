//! A side road: gets assigned partitions, gives the offsets at which they begin.

use crate::config::{OutOfRange, Start};
use crate::consumer::memo::{Found, Memo, Place, Written};
use crate::kafka::admin::{Described, Teller, Topic};
use crate::kafka::client::{
    BaseConsumer, Consumer as _, ConsumerContext, KafkaResult, Offset, TopicPartitionList,
};
use crate::kafka::offsets;
use crate::record::TopicPartition;
use std::collections::{BTreeSet, HashMap, HashSet};

/// How long the lookups of a new assignment may take; on a broker that answers
/// they take milliseconds.
pub(crate) const LOOKUP_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// How a partition begins.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) partition: TopicPartition,
    pub(crate) place: Place,
    /// Where librdkafka begins to read.
    pub(crate) offset: Offset,
    /// What the group has committed, where that is an offset of this topic.
    pub(crate) committed: Option<i64>,
    /// The metadata beside it.
    pub(crate) memo: Memo,
    /// Whether somebody may have had it before.
    pub(crate) had_owner: bool,
    pub(crate) stopped: Option<Stopped>,
}

/// Why a partition does not begin.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// The offset at which it should.
    pub(crate) offset: i64,
    pub(crate) sentence: String,
}

impl Beginning {
    fn new(partition: TopicPartition, place: Place, offset: Offset) -> Self {
        let memo = Memo::default();
        Self { partition, place, offset, committed: None, memo, had_owner: false, stopped: None }
    }

    /// In a topic that was made anew, at this offset.
    pub(crate) fn made_anew(partition: TopicPartition, place: Place, offset: i64) -> Self {
        Self { had_owner: true, ..Self::new(partition, place, Offset::Offset(offset)) }
    }

    /// Not at all. What is read nonetheless is little.
    fn stopped(self, offset: i64, sentence: String) -> Self {
        Self { offset: Offset::End, stopped: Some(Stopped { offset, sentence }), ..self }
    }
}

/// Topics by name.
pub(crate) type Topics = HashMap<String, Described>;

/// Looks up where partitions begin.
pub(crate) struct Positions<'a, C: ConsumerContext> {
    pub(crate) consumer: &'a BaseConsumer<C>,
    pub(crate) teller: &'a Teller,
    pub(crate) group: &'a str,
    pub(crate) start: Start,
    pub(crate) out_of_range: OutOfRange,
    /// The topics of this group as this process had them first.
    pub(crate) had: &'a Topics,
}

impl<C: ConsumerContext> Positions<'_, C> {
    /// Gives where these partitions begin, and their topics as they are now.
    pub(crate) fn look_up(&self, list: &TopicPartitionList) -> KafkaResult<(Vec<Beginning>, Topics)> {
        if list.count() == 0 {
            return Ok((Vec::new(), Topics::new()));
        }
        let topics = self.describe(list);
        let cluster = self.consumer.client().fetch_cluster_id(LOOKUP_LIMIT);
        let mut beginnings = Vec::new();
        let mut fresh = HashMap::new();
        for (partition, committed) in committed(self.consumer, list)? {
            let (name, number) = (partition.topic(), partition.partition());
            let mut place = Place::new(cluster.as_deref(), self.group, name, number);
            if let Some(now) = topics.get(name) {
                (place.topic, place.first_count) = (now.topic.clone(), Some(now.partitions));
            }
            match committed {
                Some((offset, text)) => beginnings.push(self.committed(partition, place, offset, &text)?),
                None => drop(fresh.insert((name.to_owned(), number), (partition, place))),
            }
        }
        beginnings.extend(self.fresh(fresh, &topics)?);
        Ok((beginnings, topics))
    }

    /// The topics of these partitions, as far as the broker tells of them.
    fn describe(&self, list: &TopicPartitionList) -> Topics {
        let elements = list.elements();
        let names: BTreeSet<&str> = elements.iter().map(|element| element.topic()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        self.teller.topics(self.consumer, &names, LOOKUP_LIMIT).unwrap_or_else(|error| {
            tracing::warn!(
                %error,
                "the broker does not tell the topics' ids yet; what is noted beside committed offsets is not used"
            );
            Topics::new()
        })
    }

    /// Where a partition goes on for which the group has committed an offset.
    fn committed(
        &self,
        partition: TopicPartition,
        mut place: Place,
        offset: i64,
        text: &str,
    ) -> KafkaResult<Beginning> {
        let written = Written::parse(text);
        if let Some(written) = written.as_ref().filter(|written| written.is_for(&place)) {
            place.first_count = written.first_count().or(place.first_count);
        }
        let mut memo = Memo::default();
        match Found::beside(offset, written, &place) {
            Found::Here(here) => memo = here,
            Found::Foreign => {
                tracing::info!(%partition, offset, "the group's offset was not committed by Onceward; going on there");
            }
            Found::Moved { from } => {
                tracing::warn!(%partition, from, to = offset, "the group's offset was moved by another tool; going on there");
            }
            Found::Unverified { topic } => place.topic = topic.map_or(Topic::Unknown, Topic::Id),
            Found::MadeAnew { before } => return self.made_anew(partition, place, offset, &before),
        }
        let offset = (Offset::Offset(offset), Some(offset));
        let beginning = Beginning::new(partition, place, offset.0);
        Ok(Beginning { committed: offset.1, memo, had_owner: true, ..beginning })
    }

    /// The committed offset is one of a topic that is gone.
    fn made_anew(
        &self,
        partition: TopicPartition,
        mut place: Place,
        committed: i64,
        before: &str,
    ) -> KafkaResult<Beginning> {
        let sentence = made_anew(&partition, committed, before, &place.topic);
        match self.out_of_range(&partition)? {
            Some(offset) => {
                tracing::warn!("{sentence}. It goes on at {offset}, as `out_of_range` says");
                Ok(Beginning::made_anew(partition, place, offset))
            }
            // Found again at the next start.
            None => {
                place.topic = Topic::Id(before.into());
                let beginning = Beginning::new(partition, place, Offset::End);
                let beginning = Beginning { committed: Some(committed), had_owner: true, ..beginning };
                Ok(beginning.stopped(committed, format!("{sentence}. {MADE_ANEW_GOES_ON}")))
            }
        }
    }

    /// Where a partition goes on whose offset is not there, if it does.
    pub(crate) fn out_of_range(&self, partition: &TopicPartition) -> KafkaResult<Option<i64>> {
        if self.out_of_range == OutOfRange::Stop {
            return Ok(None);
        }
        let (name, number) = (partition.topic(), partition.partition());
        let (oldest, end) = self.consumer.fetch_watermarks(name, number, LOOKUP_LIMIT)?;
        Ok(Some(if self.out_of_range == OutOfRange::Latest { end } else { oldest }))
    }

    /// Where partitions begin for which the group has not committed anything.
    fn fresh(
        &self,
        mut fresh: HashMap<(String, i32), (TopicPartition, Place)>,
        topics: &Topics,
    ) -> KafkaResult<Vec<Beginning>> {
        let mut list = TopicPartitionList::new();
        for (name, number) in fresh.keys() {
            list.add_partition(name, *number);
        }
        let starts = self.starts(&list, topics)?;
        let mut beginnings = Vec::new();
        for element in starts.elements() {
            let name = (element.topic().to_owned(), element.partition());
            let Some((partition, place)) = fresh.remove(&name) else { continue };
            beginnings.push(Beginning::new(partition, place, element.offset()));
        }
        if let Start::Offset(offset) = self.start
            && !beginnings.is_empty()
        {
            self.check_range(&mut beginnings, &list, offset)?;
        }
        Ok(beginnings)
    }

    /// What `start` says may not be in each partition.
    fn check_range(
        &self,
        beginnings: &mut Vec<Beginning>,
        list: &TopicPartitionList,
        start: i64,
    ) -> KafkaResult<()> {
        let oldest = offsets_at(self.consumer, list, Offset::Beginning)?.to_topic_map();
        let ends = offsets_at(self.consumer, list, Offset::End)?.to_topic_map();
        let number = |of: &HashMap<(String, i32), Offset>, partition: &TopicPartition| match of
            .get(&(partition.topic().to_owned(), partition.partition()))
        {
            Some(Offset::Offset(offset)) => *offset,
            _ => 0,
        };
        for beginning in std::mem::take(beginnings) {
            let (oldest, end) = (number(&oldest, &beginning.partition), number(&ends, &beginning.partition));
            if beginning.offset != Offset::Offset(start) || (oldest..=end).contains(&start) {
                beginnings.push(beginning);
                continue;
            }
            let sentence = start_out_of_range(&beginning.partition, start, oldest, end);
            beginnings.push(match self.out_of_range {
                OutOfRange::Stop => beginning.stopped(start, format!("{sentence}. {START_GOES_ON}")),
                OutOfRange::Earliest => Beginning { offset: Offset::Offset(oldest), ..beginning },
                OutOfRange::Latest => Beginning { offset: Offset::Offset(end), ..beginning },
            });
        }
        Ok(())
    }

    /// Where partitions without a committed offset start. What has to be looked up is
    /// a number from then on: what comes in later must not move it.
    fn starts(&self, fresh: &TopicPartitionList, topics: &Topics) -> KafkaResult<TopicPartitionList> {
        let mut starts = fresh.clone();
        match self.start {
            _ if fresh.count() == 0 => {}
            Start::Earliest => starts.set_all_offsets(Offset::Beginning)?,
            Start::Offset(offset) => starts.set_all_offsets(Offset::Offset(offset))?,
            Start::Latest => starts = offsets_at(self.consumer, fresh, Offset::End)?,
            Start::Time(time) => {
                let ends = offsets_at(self.consumer, fresh, Offset::End)?.to_topic_map();
                for start in offsets_at(self.consumer, fresh, Offset::Offset(time))?.elements() {
                    let name = (start.topic().to_owned(), start.partition());
                    let none_is_that_late = start.offset() == Offset::End;
                    let offset = if none_is_that_late { ends.get(&name).copied() } else { None };
                    starts.set_partition_offset(&name.0, name.1, offset.unwrap_or(start.offset()))?;
                }
            }
        }
        if let Start::Latest | Start::Offset(_) = self.start {
            for (topic, partition) in self.added_later(fresh, topics)? {
                tracing::info!(
                    topic,
                    partition,
                    "the group has consumed this topic before it had this partition; it starts at its first record"
                );
                starts.set_partition_offset(&topic, partition, Offset::Beginning)?;
            }
        }
        Ok(starts)
    }

    /// Which of these partitions are new to a group that has consumed their topic: it has
    /// never told where it wants to start in them.
    fn added_later(
        &self,
        fresh: &TopicPartitionList,
        topics: &Topics,
    ) -> KafkaResult<HashSet<(String, i32)>> {
        let mut added = HashSet::new();
        let mut by_topic: HashMap<String, Vec<i32>> = HashMap::new();
        for element in fresh.elements() {
            by_topic.entry(element.topic().to_owned()).or_default().push(element.partition());
        }
        for (topic, partitions) in by_topic {
            let begun = Begun {
                here: self.had.get(&topic),
                now: topics.get(&topic),
                elsewhere: self.first_counts(&topic, topics)?,
            };
            let later = partitions.into_iter().filter(|partition| begun.before(*partition));
            added.extend(later.map(|partition| (topic.clone(), partition)));
        }
        Ok(added)
    }

    /// Of each partition of a topic for which the group has an offset: how many there were
    /// when it began with that one, if that is known.
    fn first_counts(&self, topic: &str, topics: &Topics) -> KafkaResult<Vec<Option<i32>>> {
        let count = match topics.get(topic) {
            Some(now) => now.partitions,
            None => {
                let metadata = self.consumer.fetch_metadata(Some(topic), LOOKUP_LIMIT)?;
                let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
                i32::try_from(count).unwrap_or(i32::MAX)
            }
        };
        let mut list = TopicPartitionList::new();
        for partition in 0..count {
            list.add_partition(topic, partition);
        }
        let cluster = self.consumer.client().fetch_cluster_id(LOOKUP_LIMIT);
        let committed = committed(self.consumer, &list)?.into_iter();
        let first_count = |(partition, committed): Committed| {
            let place = Place::new(cluster.as_deref(), self.group, topic, partition.partition());
            let written = Written::parse(&committed?.1).filter(|written| written.is_for(&place));
            Some(written.and_then(|written| written.first_count()))
        };
        Ok(committed.filter_map(first_count).collect())
    }
}

/// When a group began with a topic.
struct Begun<'a> {
    /// The topic as this process had it first.
    here: Option<&'a Described>,
    now: Option<&'a Described>,
    /// How many partitions there were when the group began with each that it has an offset
    /// for; `None` where that is not known.
    elsewhere: Vec<Option<i32>>,
}

impl Begun<'_> {
    /// Whether that was before the topic had this partition. Partitions are numbered as they
    /// come. Where it is not known, it was: a record too many is handled rather than one too few.
    fn before(&self, partition: i32) -> bool {
        let is_another = self.here.zip(self.now).is_some_and(|(here, now)| here.topic != now.topic);
        is_another
            || self.here.is_some_and(|here| here.partitions <= partition)
            || self.elsewhere.iter().any(|count| count.is_none_or(|count| count <= partition))
    }
}

/// A partition, the offset that the group has committed for it, and the text beside that.
type Committed = (TopicPartition, Option<(i64, String)>);

/// What the group has committed for each partition.
pub(crate) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
) -> KafkaResult<Vec<Committed>> {
    let committed = complete(consumer.committed_offsets(list.clone(), LOOKUP_LIMIT)?)?;
    let texts = offsets::metadata(&committed);
    let elements = committed.elements();
    let found = elements.iter().zip(texts).map(|(element, text)| {
        let offset = match element.offset() {
            Offset::Offset(offset) => Some((offset, text)),
            _ => None,
        };
        (TopicPartition::new(element.topic(), element.partition()), offset)
    });
    Ok(found.collect())
}

/// The first offsets at or after a time, or the ends.
fn offsets_at<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
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

/// What to do about a partition whose topic was made anew.
pub(crate) const MADE_ANEW_GOES_ON: &str = "The partition is stopped. To go on, set `out_of_range = \"earliest\"`, which handles all records of the \
     new topic, or `\"latest\"`, or reset the group's offset";

/// What to do about a partition that does not have the group's offset.
pub(crate) const GOES_ON: &str = "The partition is stopped. To go on, set `out_of_range = \"earliest\"` or `\"latest\"`, or reset the group's offset";

const START_GOES_ON: &str = "The partition is stopped. To go on, set `start` to an offset that each partition has, or to \"earliest\" or \
     \"latest\", or set `out_of_range`";

/// Says that a topic was made anew.
pub(crate) fn made_anew(partition: &TopicPartition, offset: i64, before: &str, now: &Topic) -> String {
    let now = if let Topic::Id(now) = now { now } else { "unknown" };
    format!(
        "{partition}: the topic was deleted and made again under its name (its id was {before} and is {now}), so the \
         group's offset {offset} says nothing of the records that are there now"
    )
}

/// Says that the group's offset is not in a partition.
pub(crate) fn offset_out_of_range(partition: &TopicPartition, offset: i64, oldest: i64, end: i64) -> String {
    format!(
        "{partition}: the group's next offset is {offset}, and the partition begins at {oldest} and ends at {end}: records \
         were deleted before they were handled, or the group's offset was set by hand, or the topic was made anew"
    )
}

fn start_out_of_range(partition: &TopicPartition, start: i64, oldest: i64, end: i64) -> String {
    format!(
        "{partition}: `start` says \"offset:{start}\", and the partition begins at {oldest} and ends at {end}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: &str, partitions: i32) -> Described {
        Described { topic: Topic::Id(id.into()), partitions }
    }

    #[test]
    fn a_partition_is_new_to_a_group_that_began_before_the_topic_had_it() {
        let now = topic("a", 4);
        let begun =
            |here, elsewhere: &[Option<i32>]| Begun { here, now: Some(&now), elsewhere: elsewhere.into() };
        assert!(!begun(None, &[]).before(3), "a new group");
        assert!(!begun(None, &[Some(4), Some(4)]).before(3), "the other members were quicker");
        assert!(begun(None, &[Some(4), Some(3)]).before(3), "the group had three");
        assert!(!begun(None, &[Some(4), Some(3)]).before(2));
        assert!(begun(None, &[None]).before(0), "by another tool");
        let (three, four, another) = (topic("a", 3), topic("a", 4), topic("b", 4));
        assert!(begun(Some(&three), &[]).before(3));
        assert!(!begun(Some(&four), &[]).before(3), "it was given back before anything was committed");
        assert!(begun(Some(&another), &[]).before(0), "made anew while this process had it");
    }
}
