//! Gets the errors of a partition's fetches, gives a log line, a condition, or a new fetch.

use crate::TopicPartition;
use crate::base::backoff::Backoff;
use crate::base::sync::lock;
use crate::error::trouble::Rarely;
use crate::kafka::client::RDKafkaErrorCode as Code;
use crate::kafka::message::FetchError;
use crate::telemetry::condition::{ConditionKind, Told};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The condition, and a sentence that says what to do.
fn meaning(error: &FetchError, place: &TopicPartition) -> (ConditionKind, String) {
    let FetchError { code, offset, reason } = error;
    let batch = format!("{place} does not go on: its batch at offset {offset}");
    let meaning = match code {
        Code::NotImplemented => match codec(reason) {
            Some("zstd") => format!(
                "{batch} is compressed with zstd, which this build cannot read; build it with Onceward's feature `zstd`"
            ),
            Some(codec) => format!("{batch} is compressed with {codec}, which this build cannot read"),
            None => format!("{batch} has a format that this build does not know ({reason})"),
        },
        Code::BadMessage | Code::InvalidMessage | Code::BadCompression => format!(
            "{batch} is corrupt, and is neither delivered nor passed over ({reason}). If another replica has it \
             whole, move the partition's leader there. Else reset the group's offset to behind it, which gives its \
             records up, or have a batch delivered as it is, damaged, with `kafka.check.crcs` = false"
        ),
        Code::MessageSizeTooLarge => format!(
            "{batch} is larger than what this client takes in one answer; raise `kafka.receive.message.max.bytes` ({reason})"
        ),
        Code::TopicAuthorizationFailed => {
            format!(
                "{place} cannot be fetched: the user may not read it; an ACL with READ on the topic is missing"
            )
        }
        _ => {
            let sentence = format!("{place} cannot be fetched, and is tried again: {reason}");
            return (ConditionKind::BrokerFault, sentence);
        }
    };
    (ConditionKind::Fetch, meaning)
}

/// The codec that librdkafka's sentence has the number of.
fn codec(reason: &str) -> Option<&str> {
    let (_, number) = reason.split_once("codec 0x")?;
    Some(match number.chars().next()? {
        '1' => "gzip",
        '2' => "snappy",
        '3' => "lz4",
        '4' => "zstd",
        _ => "an unknown codec",
    })
}

/// librdkafka tries again several times a second, and says so each time.
const RECURS_WITHIN: Duration = Duration::from_secs(20);

/// What keeps one partition from being fetched.
#[derive(Debug, Default)]
pub(crate) struct Fetching {
    /// So that fetches that go well take no lock.
    is_failing: AtomicBool,
    failing: Mutex<Option<Failing>>,
}

#[derive(Debug)]
struct Failing {
    kind: ConditionKind,
    sentence: String,
    offset: i64,
    since: Instant,
    last: Instant,
    rarely: Rarely,
    /// When librdkafka is to go back to where it has passed over something, and how long after that
    /// again.
    restart_at: Option<Instant>,
    backoff: Backoff,
}

impl Fetching {
    /// Notes an error, and logs it if it is a new one or lasts.
    pub(crate) fn failed(&self, place: &TopicPartition, error: &FetchError) {
        let (kind, sentence) = meaning(error, place);
        let now = Instant::now();
        let mut failing = lock(&self.failing);
        self.is_failing.store(true, Ordering::Relaxed);
        let failing = match &mut *failing {
            Some(failing) if failing.kind == kind && failing.offset == error.offset => failing,
            other => other.insert(Failing {
                kind,
                sentence: sentence.clone(),
                offset: error.offset,
                since: now,
                last: now,
                rarely: Rarely::default(),
                restart_at: None,
                backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(10)),
            }),
        };
        (failing.last, failing.sentence) = (now, sentence);
        if error.is_gap() && failing.restart_at.is_none() {
            failing.restart_at = Some(now + failing.backoff.delay());
        }
        if let Some(times) = failing.rarely.count() {
            match kind {
                ConditionKind::Fetch => tracing::error!(times, "{}", failing.sentence),
                _ => tracing::warn!(times, "{}", failing.sentence),
            }
        }
    }

    /// Notes a record that was fetched: at or behind the error, it is over.
    pub(crate) fn fetched(&self, offset: i64) {
        if self.is_failing() && lock(&self.failing).as_ref().is_some_and(|failing| failing.offset <= offset) {
            self.clear();
        }
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Whether it is time to fetch anew from the last record that was delivered. True once for each
    /// error that was passed over.
    pub(crate) fn is_to_restart(&self) -> bool {
        if !self.is_failing() {
            return false;
        }
        let mut failing = lock(&self.failing);
        let due = |failing: &mut Failing| failing.restart_at.take_if(|at| *at <= Instant::now());
        failing.as_mut().and_then(due).is_some()
    }

    /// The condition of it. An error that has not occurred again is over.
    pub(crate) fn told(&self, place: &TopicPartition) -> Option<Told> {
        if !self.is_failing() {
            return None;
        }
        let told = lock(&self.failing).as_ref().and_then(|failing| {
            // That one librdkafka says only once.
            let is_said_once = failing.kind == ConditionKind::Fetch && failing.sentence.contains("ACL");
            let lasts =
                failing.restart_at.is_some() || is_said_once || failing.last.elapsed() < RECURS_WITHIN;
            lasts.then(|| Told::new(failing.kind, &*failing.sentence, failing.since).of(place.clone()))
        });
        if told.is_none() {
            self.clear();
        }
        told
    }

    fn clear(&self) {
        self.is_failing.store(false, Ordering::Relaxed);
        if let Some(failing) = lock(&self.failing).take() {
            tracing::info!(after = ?failing.since.elapsed(), was = failing.sentence, "fetching goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Code, reason: &str) -> FetchError {
        FetchError { code, offset: 7, reason: reason.to_owned() }
    }

    #[test]
    fn each_error_of_a_fetch_says_what_to_do() {
        let place = TopicPartition::new("t", 1);
        let zstd = "Decompression (codec 0x4) of message at 7 of 99 bytes failed: Local: Not implemented";
        for (code, reason, kind, says) in [
            (Code::NotImplemented, zstd, ConditionKind::Fetch, "Onceward's feature `zstd`"),
            (
                Code::NotImplemented,
                "Unsupported Message(Set) MagicByte 9",
                ConditionKind::Fetch,
                "MagicByte 9",
            ),
            (Code::BadMessage, "failed CRC32C check", ConditionKind::Fetch, "`kafka.check.crcs` = false"),
            (Code::MessageSizeTooLarge, "x", ConditionKind::Fetch, "`kafka.receive.message.max.bytes`"),
            (Code::TopicAuthorizationFailed, "x", ConditionKind::Fetch, "an ACL with READ on the topic"),
            (Code::RequestTimedOut, "slow", ConditionKind::BrokerFault, "tried again: slow"),
        ] {
            let (found, sentence) = meaning(&error(code, reason), &place);
            assert_eq!(found, kind, "{code:?}");
            assert!(sentence.contains(says) && sentence.starts_with("t/1 "), "{sentence}");
        }
    }

    #[test]
    fn an_error_is_told_until_a_record_at_its_offset_comes() {
        let (fetching, place) = (Fetching::default(), TopicPartition::new("t", 1));
        fetching.failed(&place, &error(Code::NotImplemented, "codec 0x4"));
        fetching.fetched(6);
        assert!(fetching.told(&place).is_some(), "a record before it");
        assert!(!fetching.is_to_restart(), "librdkafka stands at it by itself");
        fetching.fetched(7);
        assert!(fetching.told(&place).is_none() && !fetching.is_failing());
    }

    #[test]
    fn an_error_that_does_not_come_again_is_over() {
        let (fetching, place) = (Fetching::default(), TopicPartition::new("t", 1));
        fetching.failed(&place, &error(Code::RequestTimedOut, "slow"));
        assert!(fetching.told(&place).is_some());
        lock(&fetching.failing).as_mut().unwrap().last -= RECURS_WITHIN;
        assert!(fetching.told(&place).is_none() && !fetching.is_failing());
    }

    #[test]
    fn a_batch_that_librdkafka_passes_over_is_fetched_anew_once_an_error() {
        let (fetching, place) = (Fetching::default(), TopicPartition::new("t", 1));
        let corrupt = error(Code::BadMessage, "failed CRC32C check");
        fetching.failed(&place, &corrupt);
        fetching.failed(&place, &corrupt);
        let at = lock(&fetching.failing).as_ref().unwrap().restart_at;
        assert!(at.is_some_and(|at| at <= Instant::now() + Duration::from_secs(1)));
        lock(&fetching.failing).as_mut().unwrap().restart_at = Some(Instant::now());
        assert!(fetching.is_to_restart() && !fetching.is_to_restart());
    }
}
