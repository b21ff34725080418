//! What one can ask of a running application: whether it is ready, and what stands for long.

use crate::TopicPartition;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How an application is. [`App::health`](crate::App::health) gives it; ask it from wherever,
/// such as a readiness probe.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    stuck_after: Duration,
    groups: HashMap<Arc<str>, Group>,
}

struct Group {
    handlers: Vec<String>,
    polled: Instant,
    silent_for: Option<Duration>,
    oldest: HashMap<TopicPartition, Oldest>,
}

/// What the poll thread sees of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Oldest {
    pub(crate) offset: i64,
    pub(crate) key_hash: Option<u32>,
    since: Instant,
    is_said: bool,
}

impl Oldest {
    pub(crate) fn new(offset: i64, key_hash: Option<u32>) -> Self {
        Self { offset, key_hash, since: Instant::now(), is_said: false }
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
    /// For how long it has been the oldest one.
    pub age: Duration,
    /// The hash of its key (FNV-1a, 32 bits), since keys may be personal data. `None` where it
    /// has no key or no worker has taken it yet.
    pub key_hash: Option<u32>,
    /// The group's handlers, one of which has it.
    pub handlers: Vec<String>,
}

/// No poll thread may be away for longer: a drain, the longest, takes seconds.
const POLLED_WITHIN: Duration = Duration::from_secs(15);

impl Health {
    /// Whether the application consumes and nothing is [wrong](Self::problems).
    pub fn is_ready(&self) -> bool {
        self.problems().is_empty()
    }

    /// What keeps it from being ready, a sentence each: it has not started, Kafka does not
    /// answer, a poll thread stands, a record is unfinished for longer than `stuck_after`.
    pub fn problems(&self) -> Vec<String> {
        let state = self.lock();
        if state.groups.is_empty() {
            return vec!["it does not consume".to_owned()];
        }
        let mut problems = Vec::new();
        for (name, group) in &state.groups {
            if group.polled.elapsed() > POLLED_WITHIN {
                problems.push(format!("group {name} was not polled for {:?}", group.polled.elapsed()));
            }
            if let Some(silent_for) = group.silent_for {
                problems.push(format!("Kafka does not answer group {name} for {silent_for:?}"));
            }
            for (partition, oldest) in &group.oldest {
                let age = oldest.since.elapsed();
                if age > state.stuck_after {
                    let offset = oldest.offset;
                    problems.push(format!("{partition}/{offset} is unfinished in group {name} for {age:?}"));
                }
            }
        }
        problems
    }

    /// The oldest unfinished record of each partition that has one.
    pub fn oldest(&self) -> Vec<Unfinished> {
        let state = self.lock();
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

    pub(crate) fn set_stuck_after(&self, limit: Duration) {
        self.lock().stuck_after = limit;
    }

    /// Notes what a poll thread sees, and says so once of each record that is stuck.
    pub(crate) fn note(
        &self,
        name: &Arc<str>,
        handlers: &[String],
        silent_for: Option<Duration>,
        seen: impl Iterator<Item = (TopicPartition, Oldest)>,
    ) {
        let mut state = self.lock();
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
        let group = Group { handlers: handlers.to_vec(), polled: Instant::now(), silent_for, oldest };
        state.groups.insert(name.clone(), group);
    }

    /// Notes that a group is consumed no longer.
    pub(crate) fn ended(&self, name: &str) {
        self.lock().groups.remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Health({:?})", self.problems())
    }
}

/// FNV-1a, which every language has in a few lines.
pub(crate) fn hash_of(key: &[u8]) -> u32 {
    key.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_stands_for_long_makes_it_unready_until_it_is_done() {
        let (health, group, place) = (Health::default(), Arc::from("g"), TopicPartition::new("t", 0));
        assert_eq!(health.problems(), ["it does not consume"]);
        health.set_stuck_after(Duration::from_secs(60));
        let note = |offset| {
            health.note(&group, &[], None, std::iter::once((place.clone(), Oldest::new(offset, None))))
        };
        note(7);
        assert!(health.is_ready(), "{health:?}");
        health.lock().groups.get_mut(&group).unwrap().oldest.get_mut(&place).unwrap().since -=
            Duration::from_secs(61);
        note(7);
        assert!(health.problems()[0].starts_with("t/0/7 is unfinished in group g"), "{health:?}");
        assert!(health.oldest()[0].age > Duration::from_secs(60));
        note(8);
        assert!(health.is_ready(), "{health:?}");
        health.note(&group, &[], Some(Duration::from_secs(9)), std::iter::empty());
        assert_eq!(health.problems(), ["Kafka does not answer group g for 9s"]);
        health.ended("g");
        assert!(!health.is_ready());
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(
            (hash_of(b""), hash_of(b"a"), hash_of(b"foobar")),
            (0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968)
        );
    }
}
