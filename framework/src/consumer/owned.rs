//! A side road: a partition that this process owns, as its poll thread sees it.

use crate::consumer::commit::{Room, add};
use crate::consumer::committed::Committed;
use crate::consumer::memo::{MOST_BYTES, Memo, Place, Written};
use crate::consumer::tail::Tail;
use crate::error::trouble::Cause;
use crate::kafka::admin::{Described, Topic};
use crate::kafka::client::{BaseConsumer, ClientContext, ConsumerContext, TopicPartitionList};
use crate::kafka::offsets;
use crate::record::TopicPartition;
use crate::telemetry::condition::{ConditionKind, Told};
use crate::telemetry::group::Oldest;
use crate::worker::shared::Partition;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

pub(crate) struct OwnedPartition {
    pub(crate) partition: Arc<Partition>,
    pub(crate) worker: JoinHandle<()>,
    pub(crate) committed: Committed,
    /// To what its commits are bound: also to the topic in which its position is one.
    pub(crate) place: Place,
    /// Why it is stopped.
    pub(crate) stopped: Option<String>,
    /// librdkafka has no position for it; when to look for one.
    pub(crate) without_position: Option<Instant>,
    /// The topic that it begins with again, once its worker has ended, or time is up.
    pub(crate) made_anew: Option<(Described, Instant)>,
    /// It is given up, and nothing of it is under way any more.
    pub(crate) is_left: bool,
}

impl Drop for OwnedPartition {
    fn drop(&mut self) {
        self.partition.inbox.clear();
    }
}

impl OwnedPartition {
    pub(crate) fn due(&self) -> Option<(i64, Memo)> {
        self.committed.due(&self.partition.offsets(), &self.partition.source.notes)
    }

    pub(crate) fn due_last(&self) -> Option<(i64, Memo)> {
        if self.partition.has_panicked() {
            // No clean end: the note of its start stands.
            return self.due();
        }
        let (offsets, notes) = (self.partition.offsets(), &self.partition.source.notes);
        match self.is_left {
            true => self.committed.due_on_leaving(&offsets, notes),
            false => self.committed.due_last(&offsets, notes),
        }
    }

    /// Looks whether anything of it is under way, before its worker is stopped.
    pub(crate) fn leave(&mut self) {
        let has_ended = self.partition.has_ended() && !self.partition.has_panicked();
        let goes_on = self.stopped.is_none() && self.made_anew.is_none();
        self.is_left = has_ended && goes_on && self.partition.source.written.is_over();
    }

    /// What lies below is not handled here: the group was told to start behind it.
    pub(crate) fn start_at(&self, offset: i64) {
        self.partition.offsets().start_at(offset);
    }

    /// The next offset to deliver, as far as it is known.
    pub(crate) fn next(&self) -> Option<i64> {
        self.partition.offsets().delivered_to().or(self.committed.acknowledged())
    }

    /// Notes what the broker has taken, with the text beside it.
    pub(crate) fn acknowledge(&mut self, offset: i64, text: &str, room: Room) {
        let memo = match Written::parse(text) {
            // Sent before the topic was made anew.
            Some(written) if !written.is_of(&self.place.topic) => return,
            Some(written) => written.into_memo(),
            None => Memo::default(),
        };
        let notes = &self.partition.source.notes;
        self.committed.acknowledge(offset, memo.ahead);
        notes.acknowledge(offset, memo.note);
        if room.most_bytes() < MOST_BYTES
            && let Some((at, note)) = notes.wanted()
            && !self.place.has_room_for(at, note, room.most_bytes())
        {
            notes.without_room(offset);
        }
    }

    /// Reads no more, and says why for as long as it is owned.
    pub(crate) fn stop(&mut self, sentence: String) {
        self.partition.inbox.stop();
        self.stopped = Some(sentence);
        self.say_why_it_is_stopped();
    }

    /// Work that still goes well says that nothing is the matter.
    pub(crate) fn say_why_it_is_stopped(&self) {
        if let Some(sentence) = &self.stopped {
            self.partition.source.troubles.raise(Cause::Setup, sentence.clone());
        }
    }

    /// Its conditions.
    pub(crate) fn told(&self) -> Vec<Told> {
        let source = &self.partition.source;
        let (partition, group, troubles) = (&source.partition, &source.group, &source.troubles);
        let mut told: Vec<_> = self.partition.fetching.told(partition).into_iter().collect();
        if let Some((cause, sentence, lasts)) = troubles.current()
            && let Some(kind) = ConditionKind::of_work(cause)
        {
            let sentence = match sentence.starts_with(&partition.to_string()) {
                true => format!("in group {group}, {sentence}"),
                false => format!("{partition} waits in group {group}: {sentence}"),
            };
            let since = Instant::now().checked_sub(lasts).unwrap_or_else(Instant::now);
            told.push(Told::new(kind, sentence, since).of(partition.clone()));
        }
        told
    }

    /// Its oldest record that is not finished.
    pub(crate) fn oldest(&self) -> Option<(TopicPartition, Oldest)> {
        let (source, offsets) = (&self.partition.source, self.partition.offsets());
        let (offset, key) = (offsets.oldest()?, offsets.oldest_key());
        let waits_for = source.troubles.current().map(|(_, sentence, _)| sentence);
        Some((source.partition.clone(), Oldest::new(offset, key, waits_for)))
    }

    /// The topic's id before, if the topic is another now. Notes which one it is where that
    /// was not known.
    pub(crate) fn compare_topic(&mut self, now: &Topic) -> Option<Arc<str>> {
        match (&self.place.topic, now) {
            (Topic::Unknown, _) => self.place.topic = now.clone(),
            (Topic::Id(before), Topic::Id(id)) if before != id => return Some(before.clone()),
            _ => {}
        }
        None
    }

    /// Lets the worker finish what it holds, to begin once more after that, or after a time.
    pub(crate) fn begin_anew(&mut self, topic: Described, within: Duration) {
        self.partition.begin_drain();
        self.without_position = None;
        self.made_anew = Some((topic, Instant::now() + within));
    }

    /// Where it stands, if nothing is in flight and yet it is not at the end.
    pub(crate) fn tail<C>(&self, consumer: &BaseConsumer<C>) -> Option<Tail>
    where
        C: ClientContext + ConsumerContext,
    {
        let source = &self.partition.source.partition;
        let (oldest, end) = offsets::known_watermarks(consumer, source.topic(), source.partition())?;
        let offsets = self.partition.offsets();
        let from = offsets.committable().or(self.committed.acknowledged()).unwrap_or(oldest);
        // Behind records that cannot be read there is no hole.
        let is_read = !self.partition.fetching.is_failing();
        let goes_on = self.stopped.is_none() && self.made_anew.is_none() && is_read;
        let lags = offsets.is_idle() && from < end && goes_on;
        lags.then(|| Tail { partition: self.partition.clone(), from })
    }
}

/// The due commits of some partitions.
pub(crate) fn list<'o>(
    partitions: impl Iterator<Item = &'o OwnedPartition>,
    due: impl Fn(&OwnedPartition) -> Option<(i64, Memo)>,
    room: Room,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for owned in partitions {
        if let Some(due) = due(owned) {
            add(&mut list, &owned.partition.source.partition, &due, &owned.place, room);
        }
    }
    list
}

pub(crate) fn names_of(partitions: &[OwnedPartition]) -> Vec<TopicPartition> {
    partitions.iter().map(|owned| owned.partition.source.partition.clone()).collect()
}
