//! The health of a running application: whether it is ready, and which records stay unfinished.

use super::group::{Group, Oldest};
use crate::TopicPartition;
use crate::base::sync::lock;
use crate::telemetry::condition::{Condition, ConditionKind, Severity, Told};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The health of an application. [`App::health`](crate::App::health) returns it. Use it
/// anywhere, such as in a readiness probe.
///
/// A fault of this process or of its settings makes it not ready. An outage that all instances
/// share (PostgreSQL, Kafka, the schema registry) leaves it ready, but
/// [degraded](Self::degraded): if an orchestrator took all instances away, nothing would be
/// better. [`ConditionKind`] has the whole table.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

struct State {
    stuck_after: Duration,
    since: Instant,
    phase: Phase,
    /// How many groups the application consumes.
    expected: usize,
    groups: HashMap<Arc<str>, Group>,
    /// Why it ends.
    failed: Option<Told>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Started,
    Stopping,
}

impl Default for State {
    fn default() -> Self {
        Self {
            stuck_after: Duration::MAX,
            since: Instant::now(),
            phase: Phase::Starting,
            expected: 0,
            groups: HashMap::new(),
            failed: None,
        }
    }
}

/// The oldest record of a partition that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// Its consumer group.
    pub group: String,
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// How long it has been the oldest one.
    pub age: Duration,
    /// The hash of its key (FNV-1a, 32 bits), since keys may be personal data. `None` if it has
    /// no key or no worker has taken it yet.
    pub key_hash: Option<u32>,
    /// The group's handlers, one of which handles it.
    pub handlers: Vec<String>,
}

impl Health {
    /// Whether the application consumes and nothing is [wrong](Self::problems) with it.
    ///
    /// It stays ready in an outage that all instances share; then [`degraded`](Self::degraded)
    /// has a sentence.
    pub fn is_ready(&self) -> bool {
        self.problems().is_empty()
    }

    /// Whether the process works at all: each group's poll thread runs, and no error has ended
    /// the consuming. It never depends on whether a server can be reached.
    ///
    /// If it is false, a restart helps.
    pub fn is_alive(&self) -> bool {
        !self.conditions().iter().any(|condition| condition.kind.is_deadly())
    }

    /// Whether the start is over: all checks have passed, and each group's poll thread has run
    /// once. Stays true from then on.
    pub fn has_started(&self) -> bool {
        lock(&self.0).phase != Phase::Starting
    }

    /// The reasons why it is not ready: a sentence each, with the setting and what to do.
    pub fn problems(&self) -> Vec<String> {
        self.sentences(Severity::NotReady)
    }

    /// The outages that it waits for: a sentence each. It is ready meanwhile.
    pub fn degraded(&self) -> Vec<String> {
        self.sentences(Severity::Degraded)
    }

    fn sentences(&self, severity: Severity) -> Vec<String> {
        let conditions = self.conditions().into_iter();
        conditions.filter(|c| c.severity == severity).map(|condition| condition.sentence).collect()
    }

    /// Everything that is wrong, the worst first.
    pub fn conditions(&self) -> Vec<Condition> {
        let state = lock(&self.0);
        let mut conditions: Vec<Condition> = state.failed.iter().map(|told| told.condition(None)).collect();
        match state.phase {
            Phase::Starting => conditions.push(
                Told::new(
                    ConditionKind::Starting,
                    "not started: settings, topics and tables are being checked",
                    state.since,
                )
                .condition(None),
            ),
            Phase::Stopping => conditions.push(
                Told::new(ConditionKind::Stopping, "stopped: the application is shut down", state.since)
                    .condition(None),
            ),
            Phase::Started => {}
        }
        for (name, group) in &state.groups {
            conditions
                .extend(group.conditions(name, state.stuck_after).iter().map(|t| t.condition(Some(name))));
        }
        conditions.sort_by(|a, b| (a.severity, &a.sentence).cmp(&(b.severity, &b.sentence)));
        conditions
    }

    /// The oldest unfinished record of each partition that has one.
    pub fn oldest(&self) -> Vec<Unfinished> {
        let state = lock(&self.0);
        let of_group = |(name, group): (&Arc<str>, &Group)| {
            let unfinished = |(partition, oldest): (&TopicPartition, &Oldest)| Unfinished {
                group: name.to_string(),
                partition: partition.clone(),
                offset: oldest.offset,
                age: oldest.since.elapsed(),
                key_hash: oldest.key_hash,
                handlers: group.handlers.clone(),
            };
            group.oldest.iter().map(unfinished).collect::<Vec<_>>()
        };
        state.groups.iter().flat_map(of_group).collect()
    }

    /// Notes that so many groups will be consumed, and from when on a record is stuck.
    pub(crate) fn expect(&self, groups: usize, stuck_after: Duration) {
        let mut state = lock(&self.0);
        (state.expected, state.stuck_after) = (groups, stuck_after);
    }

    /// Notes what a poll thread sees, and says so once of each record that is stuck.
    pub(crate) fn note(
        &self,
        name: &Arc<str>,
        handlers: &[String],
        told: Vec<Told>,
        seen: impl Iterator<Item = (TopicPartition, Oldest)>,
    ) {
        let mut state = lock(&self.0);
        let stuck_after = state.stuck_after;
        let before = state.groups.remove(name).map(|group| group.oldest).unwrap_or_default();
        let mut oldest: HashMap<_, _> = seen.collect();
        for (partition, now) in &mut oldest {
            if let Some(before) = before.get(partition).filter(|before| before.offset == now.offset) {
                (now.since, now.is_said) = (before.since, before.is_said);
            }
            let age = now.since.elapsed();
            if age > stuck_after && !std::mem::replace(&mut now.is_said, true) {
                tracing::error!(
                    group = &**name,
                    source = %partition,
                    offset = now.offset,
                    key_hash = now.key_hash.map(|hash| format!("{hash:08x}")),
                    ?age,
                    ?handlers,
                    "a record is unfinished for longer than `stuck_after`"
                );
            }
        }
        let group = Group { handlers: handlers.to_vec(), polled: Instant::now(), told, oldest };
        state.groups.insert(name.clone(), group);
        if state.phase == Phase::Starting && state.groups.len() >= state.expected {
            state.phase = Phase::Started;
        }
    }

    /// Notes that a group's poll thread came round, and nothing else.
    pub(crate) fn polled(&self, name: &str) {
        if let Some(group) = lock(&self.0).groups.get_mut(name) {
            group.polled = Instant::now();
        }
    }

    /// Notes that a group is consumed no longer.
    pub(crate) fn ended(&self, name: &str) {
        let mut state = lock(&self.0);
        state.groups.remove(name);
        state.stop();
    }

    /// Notes that the application ends, and why if that is an error. The first one stays.
    pub(crate) fn ends(&self, error: Option<&crate::Error>) {
        let mut state = lock(&self.0);
        if let (Some(error), None) = (error, &state.failed) {
            let sentence = format!("failed, and the process ends: {error:?}");
            state.failed = Some(Told::new(ConditionKind::Failed, sentence, Instant::now()));
        }
        state.stop();
    }
}

impl State {
    fn stop(&mut self) {
        if self.phase != Phase::Stopping {
            (self.phase, self.since) = (Phase::Stopping, Instant::now());
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Health({:?})", self.conditions())
    }
}

/// FNV-1a, which every language has in a few lines.
pub(crate) fn hash_of(key: &[u8]) -> u32 {
    key.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::group::POLLED_WITHIN;
    use std::iter::empty;

    fn group() -> Arc<str> {
        Arc::from("g")
    }

    fn started() -> Health {
        let health = Health::default();
        health.expect(1, Duration::from_secs(60));
        health.note(&group(), &[], Vec::new(), empty());
        assert!(health.is_ready() && health.is_alive() && health.has_started(), "{health:?}");
        health
    }

    /// The group's oldest record is older than `stuck_after`.
    fn make_old(health: &Health, place: &TopicPartition) {
        let mut state = lock(&health.0);
        state.groups.get_mut(&group()).unwrap().oldest.get_mut(place).unwrap().since -=
            Duration::from_secs(61);
    }

    #[test]
    fn it_is_ready_from_when_each_group_is_polled_until_it_is_shut_down() {
        let health = Health::default();
        assert_eq!(health.problems(), ["not started: settings, topics and tables are being checked"]);
        health.expect(2, Duration::from_secs(60));
        health.note(&group(), &[], Vec::new(), empty());
        assert!(!health.is_ready() && !health.has_started() && health.is_alive(), "{health:?}");
        health.note(&Arc::from("another"), &[], Vec::new(), empty());
        assert!(health.is_ready() && health.has_started(), "{health:?}");
        health.ended("g");
        assert_eq!(health.problems(), ["stopped: the application is shut down"]);
        assert!(health.has_started() && health.is_alive());
    }

    #[test]
    fn a_record_that_stands_for_long_makes_it_unready_until_it_is_done() {
        let (health, place) = (started(), TopicPartition::new("t", 0));
        let note = |offset| {
            let seen = std::iter::once((place.clone(), Oldest::new(offset, None, None)));
            health.note(&group(), &["totals".to_owned()], Vec::new(), seen);
        };
        note(7);
        assert!(health.is_ready(), "{health:?}");
        make_old(&health, &place);
        note(7);
        assert_eq!(
            health.problems(),
            [
                "t/0/7 is unfinished in group g for 1m 1s (`stuck_after` is 1m); its retries take that long, or a handler \
              (totals) does not return: set its `timeout`"
            ]
        );
        assert!(health.oldest()[0].age > Duration::from_secs(60));
        assert!(health.is_alive(), "a restart is no cure");
        note(8);
        assert!(health.is_ready(), "{health:?}");
    }

    #[test]
    fn a_record_that_waits_for_an_outage_to_end_leaves_it_ready() {
        let (health, place) = (started(), TopicPartition::new("t", 0));
        let note = |told: &[Told], waits_for: Option<&str>| {
            let seen = Oldest::new(7, None, waits_for.map(str::to_owned));
            health.note(&group(), &[], told.to_vec(), std::iter::once((place.clone(), seen)));
        };
        let outage =
            [Told::new(ConditionKind::Outage, "PostgreSQL is away", Instant::now()).of(place.clone())];
        note(&outage, None);
        make_old(&health, &place);
        note(&outage, None);
        assert!(health.is_ready(), "{health:?}");
        assert_eq!(health.degraded(), ["PostgreSQL is away"]);
        note(&[], Some("another owner has it"));
        assert!(health.problems()[0].ends_with(": another owner has it"), "{health:?}");
        assert!(health.degraded().is_empty());
    }

    #[test]
    fn what_passes_by_itself_is_not_told_before_it_lasts() {
        let (health, place) = (started(), TopicPartition::new("t", 0));
        let seen = Oldest::new(7, None, Some("another owner has it".to_owned()));
        health.note(&group(), &[], Vec::new(), std::iter::once((place, seen)));
        assert!(health.conditions().is_empty(), "{health:?}");
    }

    #[test]
    fn a_poll_thread_that_stands_and_an_error_that_ends_the_consuming_are_what_a_restart_mends() {
        let health = started();
        lock(&health.0).groups.get_mut(&group()).unwrap().polled -= POLLED_WITHIN + Duration::from_secs(1);
        assert!(!health.is_alive() && !health.is_ready(), "{health:?}");
        health.polled("g");
        assert!(health.is_alive() && health.is_ready(), "{health:?}");
        health.ends(Some(&crate::Error::config("x", "is wrong")));
        health.ends(None);
        assert!(!health.is_alive(), "{health:?}");
        assert_eq!(health.problems()[0], "failed, and the process ends: setting `x`: is wrong");
    }

    #[test]
    fn a_group_tells_since_when_and_where() {
        let (health, place) = (started(), TopicPartition::new("t", 3));
        // The two clocks are read one after the other.
        let before = std::time::SystemTime::now() - Duration::from_secs(1);
        let told = Told::new(ConditionKind::Fetch, "bad", Instant::now()).of(place.clone());
        health.note(&group(), &[], vec![told], empty());
        let condition = health.conditions().remove(0);
        assert_eq!((condition.group.as_deref(), condition.partition), (Some("g"), Some(place)));
        assert!(condition.since >= before && condition.severity == Severity::NotReady);
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(
            (hash_of(b""), hash_of(b"a"), hash_of(b"foobar")),
            (0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968)
        );
    }
}
