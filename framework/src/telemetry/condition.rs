//! The one table of conditions: what can be wrong with an application, and whether it is ready
//! meanwhile.

use crate::TopicPartition;
use crate::error::trouble::Cause;
use std::fmt;
use std::time::{Instant, SystemTime};

/// Something that is wrong with the application.
/// [`Health::conditions`](crate::Health::conditions) returns them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Condition {
    /// Its kind.
    pub kind: ConditionKind,
    /// Whether the application is ready meanwhile.
    pub severity: Severity,
    /// What is wrong, where, the setting, and what to do.
    pub sentence: String,
    /// When it began.
    pub since: SystemTime,
    /// The consumer group that it is about.
    pub group: Option<String>,
    /// The partition that it is about.
    pub partition: Option<TopicPartition>,
}

/// Whether an application is ready while a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// A fault of this process or of its settings: not ready.
    NotReady,
    /// An outage that all instances share: ready.
    Degraded,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "not ready",
            Self::Degraded => "degraded",
        })
    }
}

/// Makes the kinds and their table from one list.
macro_rules! kinds {
    ($($name:ident, $text:literal, $severity:ident, $meaning:literal;)+) => {
        /// The kind of a condition.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ConditionKind {
            $(#[doc = $meaning] $name,)+
        }

        impl ConditionKind {
            #[cfg(test)]
            const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its name, for programs.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// Whether an application is ready meanwhile.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity),+ }
            }

            #[cfg(test)]
            fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning),+ }
            }
        }
    };
}

// docs/operations.md has the same table.
kinds! {
    Starting, "starting", NotReady, "The start is not over: settings, topics and tables are being checked.";
    Stopping, "stopping", NotReady, "The application shuts down, or has ended.";
    Failed, "failed", NotReady, "An error has ended the consuming, and the process ends: the login is refused, a permission is missing, a worker died. Not alive.";
    NotPolled, "not_polled", NotReady, "The poll thread of a group has not come round for 15 s. Not alive.";
    Join, "join", NotReady, "The group cannot be joined: another member's protocol, a session timeout that the broker refuses, a group that is full.";
    NoTopic, "no_topic", NotReady, "A pattern matches no topic, or a topic is not there any more.";
    Fetch, "fetch", NotReady, "A partition's records cannot be read: a codec that is not built in, a checksum that is wrong, a batch that is too large, a permission that is missing.";
    Partition, "partition", NotReady, "A partition does not go on until someone acts: it is stopped, or a topic, a table, a login or a permission that its work needs is missing.";
    Unfinished, "unfinished", NotReady, "A record is unfinished for longer than `stuck_after`, and no outage is why.";
    Broker, "broker", Degraded, "Kafka does not answer.";
    Coordinator, "coordinator", Degraded, "The group has no coordinator at the moment.";
    BrokerFault, "broker_fault", Degraded, "A broker answers the fetches of a partition with an error of its own.";
    Outage, "outage", Degraded, "A partition's work waits for PostgreSQL, Kafka or the schema registry.";
}

impl ConditionKind {
    /// Whether nothing but a restart helps.
    pub(crate) fn is_deadly(self) -> bool {
        matches!(self, Self::Failed | Self::NotPolled)
    }

    /// What a trouble of a partition's work is.
    pub(crate) fn of_work(cause: Cause) -> Option<Self> {
        match cause {
            Cause::Setup => Some(Self::Partition),
            Cause::Outage => Some(Self::Outage),
            // It is the reason of a record that is unfinished for long, and nothing before.
            Cause::Passing => None,
        }
    }
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A condition of a group, as its poll thread tells it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) kind: ConditionKind,
    pub(crate) sentence: String,
    pub(crate) partition: Option<TopicPartition>,
    since: Instant,
}

impl Told {
    pub(crate) fn new(kind: ConditionKind, sentence: impl Into<String>, since: Instant) -> Self {
        Self { kind, sentence: sentence.into(), partition: None, since }
    }

    /// The same, of one partition.
    pub(crate) fn of(self, partition: TopicPartition) -> Self {
        Self { partition: Some(partition), ..self }
    }

    pub(crate) fn condition(&self, group: Option<&str>) -> Condition {
        Condition {
            kind: self.kind,
            severity: self.kind.severity(),
            sentence: self.sentence.clone(),
            since: SystemTime::now().checked_sub(self.since.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH),
            group: group.map(str::to_owned),
            partition: self.partition.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_the_same_table() {
        let guide = include_str!("../../../docs/operations.md");
        for kind in ConditionKind::ALL {
            let row = format!("| `{kind}` | {} | {} |", kind.severity(), kind.meaning());
            assert!(guide.contains(&row), "docs/operations.md lacks: {row}");
        }
        let rows =
            guide.lines().filter(|line| line.contains("| not ready |") || line.contains("| degraded |"));
        assert_eq!(rows.count(), ConditionKind::ALL.len(), "docs/operations.md has another row");
    }

    #[test]
    fn a_fault_of_this_process_is_not_ready_and_a_shared_outage_is_degraded() {
        let severity = |cause| ConditionKind::of_work(cause).map(ConditionKind::severity);
        assert_eq!(severity(Cause::Setup), Some(Severity::NotReady));
        assert_eq!(severity(Cause::Outage), Some(Severity::Degraded));
        assert_eq!(severity(Cause::Passing), None);
        assert_eq!(ConditionKind::Broker.severity(), Severity::Degraded);
        let deadly: Vec<_> = ConditionKind::ALL.iter().filter(|kind| kind.is_deadly()).collect();
        assert_eq!(deadly, [&ConditionKind::Failed, &ConditionKind::NotPolled]);
    }
}
