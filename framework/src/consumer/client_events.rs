//! Gets the log lines and errors of a group's client, gives counted log lines and the group's
//! conditions.

use crate::base::sync::lock;
use crate::config::Resolved;
use crate::error::trouble::Rarely;
use crate::kafka::client::{RDKafkaErrorCode as Code, RDKafkaLogLevel};
use crate::kafka::client_config::ClientSettings as _;
use crate::telemetry::condition::{ConditionKind, Told};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lines that are told apart; librdkafka has few.
const LINES: usize = 256;

/// librdkafka's own lines.
#[derive(Debug, Default)]
pub(crate) struct ClientLog {
    lines: Mutex<HashMap<String, Rarely>>,
    /// Its reason for the error that `poll` returns next.
    reason: Mutex<Option<String>>,
}

impl ClientLog {
    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let Some(times) = self.count(facility, message) else { return };
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, times, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::info!(facility, times, "librdkafka: {message}");
            }
            _ => tracing::debug!(facility, times, "librdkafka: {message}"),
        }
    }

    /// How often a line came since it was last to be logged, if it is to be logged now. Numbers in it
    /// make no other line.
    fn count(&self, facility: &str, message: &str) -> Option<u64> {
        let words = message.chars().filter(|c| !c.is_ascii_digit());
        let line: String = facility.chars().chain(words).collect();
        let mut lines = lock(&self.lines);
        if lines.len() >= LINES && !lines.contains_key(&line) {
            lines.clear();
        }
        lines.entry(line).or_default().count()
    }

    /// Keeps what is said of an error for whoever gets the error itself from `poll`.
    pub(crate) fn keep_reason(&self, reason: &str) {
        *lock(&self.reason) = Some(reason.to_owned());
    }

    pub(crate) fn take_reason(&self) -> Option<String> {
        lock(&self.reason).take()
    }
}

/// An error that comes again and again is told for so long after the last time.
const RECURS_WITHIN: Duration = Duration::from_secs(20);

/// What keeps a group from being consumed, as far as librdkafka says so.
#[derive(Debug)]
pub(crate) struct GroupTroubles {
    group: String,
    /// Its `kafka.partition.assignment.strategy`.
    strategy: String,
    session_timeout: Duration,
    troubles: Vec<Recurring>,
    /// How often it was given partitions.
    joined: u64,
    /// Why a broker cannot be reached, as it was said last.
    unreachable: Option<String>,
}

#[derive(Debug)]
struct Recurring {
    kind: Option<ConditionKind>,
    sentence: String,
    since: Instant,
    last: Instant,
    rarely: Rarely,
}

impl GroupTroubles {
    pub(crate) fn new(config: &Resolved, group: &str) -> Self {
        let strategy =
            config.consumer(group).get("partition.assignment.strategy").unwrap_or_default().to_owned();
        let session_timeout = config.session_timeout().unwrap_or_default();
        Self {
            group: group.to_owned(),
            strategy,
            session_timeout,
            troubles: Vec::new(),
            joined: 0,
            unreachable: None,
        }
    }

    /// Notes an error that may pass, and logs it if it is a new one or lasts.
    pub(crate) fn note(&mut self, code: Option<Code>, reason: &str) {
        let (kind, sentence) = self.meaning(code, reason);
        if let Some(cause) = code.and_then(|code| unreachable(code, reason)) {
            self.unreachable = Some(cause);
        }
        let now = Instant::now();
        let known = self.troubles.iter().position(|trouble| trouble.sentence == sentence);
        let at = known.unwrap_or_else(|| {
            let rarely = Rarely::default();
            self.troubles.push(Recurring { kind, sentence, since: now, last: now, rarely });
            self.troubles.len() - 1
        });
        let trouble = &mut self.troubles[at];
        trouble.last = now;
        if let Some(times) = trouble.rarely.count() {
            match kind {
                Some(ConditionKind::Join) => {
                    tracing::error!(group = self.group, times, "{}", trouble.sentence)
                }
                _ => tracing::warn!(group = self.group, times, "{}", trouble.sentence),
            }
        }
    }

    /// What is told of them. One that has not come again is over, and so is what kept it from joining
    /// once it was given partitions.
    pub(crate) fn told(&mut self, joined: u64) -> Vec<Told> {
        let group = &self.group;
        let has_joined = std::mem::replace(&mut self.joined, joined) != joined;
        self.troubles.retain(|trouble| {
            let is_joined = has_joined && trouble.kind == Some(ConditionKind::Join);
            let lasts = !is_joined && trouble.last.elapsed() < RECURS_WITHIN;
            if !lasts && trouble.kind.is_some() {
                tracing::info!(group, after = ?trouble.since.elapsed(), was = trouble.sentence, "the problem is over");
            }
            lasts
        });
        let told = |trouble: &Recurring| Some(Told::new(trouble.kind?, &*trouble.sentence, trouble.since));
        self.troubles.iter().filter_map(told).collect()
    }

    /// Why Kafka cannot be reached, as far as librdkafka has said so.
    pub(crate) fn unreachable(&self) -> Option<&str> {
        self.unreachable.as_deref()
    }

    fn meaning(&self, code: Option<Code>, reason: &str) -> (Option<ConditionKind>, String) {
        let cannot_join = |why: String| {
            (Some(ConditionKind::Join), format!("group {} cannot be joined: {why}", self.group))
        };
        match code {
            Some(Code::InconsistentGroupProtocol) => cannot_join(format!(
                "it has a member with another assignment protocol than this one's, which is \
                 `kafka.partition.assignment.strategy` = {}; set it to what the others have (Java's clients: `range`), or \
                 stop them, or take another `group`",
                self.strategy
            )),
            Some(Code::InvalidSessionTimeout) => cannot_join(format!(
                "`kafka.session.timeout.ms` = {} is outside of what the broker allows; set it to between its \
                 `group.min.session.timeout.ms` (6000 unless set) and `group.max.session.timeout.ms` (1800000 unless set)",
                self.session_timeout.as_millis()
            )),
            Some(Code::GroupMaxSizeReached) => cannot_join(
                "it has as many members as the broker's `group.max.size` allows; raise that, or run fewer instances".to_owned(),
            ),
            Some(Code::CoordinatorNotAvailable | Code::NotCoordinator | Code::CoordinatorLoadInProgress) => (
                Some(ConditionKind::Coordinator),
                format!("group {} has no coordinator at the moment: {reason}", self.group),
            ),
            _ if reason.starts_with("JoinGroup failed") || reason.starts_with("SyncGroup failed") => {
                cannot_join(reason.to_owned())
            }
            _ => (None, format!("Kafka; going on: {reason}")),
        }
    }
}

/// What librdkafka's words say of a broker that it cannot reach.
fn unreachable(code: Code, reason: &str) -> Option<String> {
    let hint = match code {
        Code::Resolve => {
            "its name does not resolve; look at `brokers`, at the brokers' `advertised.listeners`, and at the DNS"
        }
        Code::SSL => "TLS fails; look at `kafka.ssl.*` and at the broker's certificate",
        Code::BrokerTransportFailure | Code::AllBrokersDown => {
            let has = |part: &str| reason.to_ascii_lowercase().contains(part);
            if has("refused") {
                "nothing listens at that address: the broker is down, or `brokers` names another port"
            } else if has("ssl") {
                "the broker seems to expect TLS; look at `kafka.security.protocol`"
            } else if has("resolve") {
                "its name does not resolve; look at `brokers`, at the brokers' `advertised.listeners`, and at the DNS"
            } else {
                return Some(reason.to_owned());
            }
        }
        _ => return None,
    };
    Some(format!("{hint} ({reason})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn troubles() -> GroupTroubles {
        GroupTroubles {
            group: "g".to_owned(),
            strategy: "cooperative-sticky".to_owned(),
            session_timeout: Duration::from_millis(500),
            troubles: Vec::new(),
            joined: 0,
            unreachable: None,
        }
    }

    #[test]
    fn each_reason_why_a_group_is_not_joined_names_its_setting() {
        for (code, reason, kind, says) in [
            (
                Code::InconsistentGroupProtocol,
                "JoinGroup failed: x",
                ConditionKind::Join,
                "`kafka.partition.assignment.strategy` = cooperative-sticky",
            ),
            (
                Code::InvalidSessionTimeout,
                "JoinGroup failed: x",
                ConditionKind::Join,
                "`kafka.session.timeout.ms` = 500 ",
            ),
            (Code::GroupMaxSizeReached, "JoinGroup failed: x", ConditionKind::Join, "`group.max.size`"),
            (Code::InvalidGroupId, "JoinGroup failed: bad", ConditionKind::Join, "JoinGroup failed: bad"),
            (
                Code::CoordinatorNotAvailable,
                "none",
                ConditionKind::Coordinator,
                "no coordinator at the moment: none",
            ),
        ] {
            let mut troubles = troubles();
            troubles.note(Some(code), reason);
            let told = troubles.told(0);
            assert_eq!(told[0].kind, kind, "{code:?}");
            assert!(told[0].sentence.starts_with("group g ") && told[0].sentence.contains(says), "{told:?}");
        }
    }

    #[test]
    fn an_error_is_told_for_as_long_as_it_comes_again() {
        let mut troubles = troubles();
        troubles.note(Some(Code::InvalidSessionTimeout), "JoinGroup failed: x");
        troubles.note(Some(Code::InvalidSessionTimeout), "JoinGroup failed: x");
        troubles.note(Some(Code::BrokerTransportFailure), "disconnected");
        assert_eq!(troubles.told(0).len(), 1, "a broker that is away is told by whether Kafka answers");
        for trouble in &mut troubles.troubles {
            trouble.last -= RECURS_WITHIN;
        }
        assert!(troubles.told(0).is_empty() && troubles.troubles.is_empty());
    }

    #[test]
    fn a_group_that_was_joined_could_be_joined() {
        let mut troubles = troubles();
        troubles.note(Some(Code::InvalidSessionTimeout), "JoinGroup failed: x");
        assert_eq!((troubles.told(0).len(), troubles.told(1).len()), (1, 0));
        troubles.note(Some(Code::InvalidSessionTimeout), "JoinGroup failed: x");
        assert_eq!(troubles.told(1).len(), 1);
    }

    #[test]
    fn why_a_broker_cannot_be_reached_is_said() {
        for (code, reason, says) in [
            (Code::Resolve, "x:1: Failed to resolve", "does not resolve"),
            (
                Code::BrokerTransportFailure,
                "Connect to ipv4#1.1.1.1:1 failed: Connection refused",
                "nothing listens",
            ),
            (
                Code::BrokerTransportFailure,
                "Disconnected: (connecting to a SSL listener?)",
                "`kafka.security.protocol`",
            ),
            (Code::AllBrokersDown, "1/1 brokers are down", "1/1 brokers are down"),
        ] {
            let mut troubles = troubles();
            troubles.note(Some(code), reason);
            let cause = troubles.unreachable().unwrap();
            assert!(cause.contains(says) && cause.contains(reason), "{cause}");
        }
    }

    #[test]
    fn a_line_of_librdkafka_is_logged_once_and_then_counted() {
        let log = ClientLog::default();
        assert_eq!(log.count("FAIL", "refused after 1023 ms"), Some(1));
        assert_eq!(log.count("FAIL", "refused after 7 ms"), None, "the same but for a number");
        assert_eq!(log.count("FAIL", "timed out after 7 ms"), Some(1));
        for n in 0..10_000 {
            log.count("X", &"x".repeat(n % 1000));
        }
        assert!(lock(&log.lines).len() <= LINES);
    }
}
