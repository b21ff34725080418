//! How one consumer group is, as its poll thread sees it.

use super::condition::{ConditionKind, Severity, Told};
use crate::TopicPartition;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// No poll thread may be away for longer: a drain, the longest, takes seconds.
pub(super) const POLLED_WITHIN: Duration = Duration::from_secs(15);

pub(super) struct Group {
    pub(super) handlers: Vec<String>,
    pub(super) polled: Instant,
    pub(super) told: Vec<Told>,
    pub(super) oldest: HashMap<TopicPartition, Oldest>,
}

/// What the poll thread sees of a partition.
#[derive(Debug, Clone)]
pub(crate) struct Oldest {
    pub(super) offset: i64,
    pub(super) key_hash: Option<u32>,
    /// The cause for which it waits, if it is expected to pass by itself.
    pub(super) waits_for: Option<String>,
    pub(super) since: Instant,
    pub(super) is_said: bool,
}

impl Oldest {
    pub(crate) fn new(offset: i64, key_hash: Option<u32>, waits_for: Option<String>) -> Self {
        Self { offset, key_hash, waits_for, since: Instant::now(), is_said: false }
    }
}

impl Group {
    pub(super) fn conditions(&self, name: &str, stuck_after: Duration) -> Vec<Told> {
        let mut conditions = Vec::new();
        if self.polled.elapsed() > POLLED_WITHIN {
            let sentence = format!(
                "group {name} was not polled for {}: its poll thread is blocked, or the process gets no CPU time",
                seconds(self.polled.elapsed())
            );
            conditions.push(Told::new(ConditionKind::NotPolled, sentence, self.polled));
        }
        conditions.extend(self.told.iter().cloned());
        for (partition, oldest) in &self.oldest {
            let is_outage = |told: &Told| {
                told.partition.as_ref() == Some(partition) && told.kind.severity() == Severity::Degraded
            };
            if oldest.since.elapsed() > stuck_after && !self.told.iter().any(is_outage) {
                let sentence = self.unfinished(name, partition, oldest, stuck_after);
                let told = Told::new(ConditionKind::Unfinished, sentence, oldest.since);
                conditions.push(told.of(partition.clone()));
            }
        }
        conditions
    }

    fn unfinished(
        &self,
        name: &str,
        partition: &TopicPartition,
        oldest: &Oldest,
        stuck_after: Duration,
    ) -> String {
        let why = match &oldest.waits_for {
            Some(waits_for) => format!(": {waits_for}"),
            None => format!(
                "; its retries take that long, or a handler ({}) does not return: set its `timeout`",
                self.handlers.join(", ")
            ),
        };
        format!(
            "{partition}/{} is unfinished in group {name} for {} (`stuck_after` is {}){why}",
            oldest.offset,
            seconds(oldest.since.elapsed()),
            humantime::format_duration(stuck_after),
        )
    }
}

/// A duration as a sentence has it.
pub(crate) fn seconds(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
