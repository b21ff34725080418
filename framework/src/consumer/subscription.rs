//! Gets the topics and patterns of a group's handlers, gives the names that its consumer subscribes to.
//!
//! Patterns are matched here, not by librdkafka, whose regular expressions are those of the platform's C
//! library, or the broker's with KIP-848. So a pattern means the same everywhere, dead-letter topics
//! can be left out, and it is known when one matches nothing.

use crate::Error;
use crate::base::sync::lock;
use crate::config::Resolved;
use crate::consumer::assignment::Consumer;
use crate::handler::NO_DEAD_LETTERS;
use crate::kafka::client::{Consumer as _, KafkaError};
use crate::kafka::client_config::ClientSettings as _;
use crate::kafka::pattern::{Letters, is_pattern, regex};
use crate::kafka::topics::{self, REQUEST};
use crate::routing::route::Routes;
use crate::telemetry::condition::{ConditionKind, Told};
use regex::bytes::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Kafka's own topics, which no pattern reads.
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// The dead-letter topics that handlers name.
pub(crate) fn letters_of<'r>(routes: impl Iterator<Item = &'r Routes>) -> Letters {
    let settings = routes.flatten().map(|route| route.settings());
    let named = settings.flat_map(|settings| settings.dead_letter.iter().chain(&settings.rejected));
    Letters(Arc::new(named.filter(|topic| *topic != NO_DEAD_LETTERS).cloned().collect()))
}

/// A pattern of a group's handlers.
#[derive(Debug)]
struct Pattern {
    text: String,
    regex: Regex,
    handlers: Vec<String>,
}

/// The names of all topics.
type Found = Result<Vec<String>, KafkaError>;

/// What the consumer of a group subscribes to.
#[derive(Debug)]
pub(crate) struct Subscription {
    names: BTreeSet<String>,
    patterns: Vec<Pattern>,
    letters: Letters,
    /// How often it is looked for new topics; `None` for never.
    interval: Option<Duration>,
    look_at: Option<Instant>,
    looking: bool,
    found: Arc<Mutex<Option<Found>>>,
    subscribed: BTreeSet<String>,
    /// Topics that were there and are not listed any more, and since how many looks.
    absent: BTreeMap<String, u32>,
    left_out: BTreeSet<String>,
    /// The missing names and patterns, and since when they are missing.
    missing: BTreeMap<String, Instant>,
}

/// How often it is looked while a topic is missing.
const MISSING_EVERY: Duration = Duration::from_secs(5);
/// A topic is taken for deleted when so many looks do not find it: a broker may be behind another one.
const DELETED_AFTER: u32 = 2;

impl Subscription {
    /// Of a group's handlers, each of whose patterns has been checked.
    pub(crate) fn new(config: &Resolved, routes: &Routes, letters: Letters) -> Result<Self, Error> {
        let (mut names, mut patterns) = (BTreeSet::new(), BTreeMap::<String, Vec<String>>::new());
        for settings in routes.iter().map(|route| route.settings()) {
            for topic in &settings.topics {
                if is_pattern(topic) {
                    patterns.entry(topic.clone()).or_default().push(settings.name.clone());
                } else {
                    names.insert(topic.clone());
                }
            }
        }
        let pattern = |(text, handlers): (String, Vec<String>)| {
            let regex = regex(&text).map_err(|error| Error::handler(&*handlers[0], error.to_string()))?;
            Ok(Pattern { text, regex, handlers })
        };
        let patterns = patterns.into_iter().map(pattern).collect::<Result<_, Error>>()?;
        Ok(Self::to(names, patterns, letters, config.metadata_refresh()?))
    }

    fn to(
        names: BTreeSet<String>,
        patterns: Vec<Pattern>,
        letters: Letters,
        interval: Option<Duration>,
    ) -> Self {
        Self {
            names,
            patterns,
            letters,
            interval,
            look_at: None,
            looking: false,
            found: Arc::default(),
            subscribed: BTreeSet::new(),
            absent: BTreeMap::new(),
            left_out: BTreeSet::new(),
            missing: BTreeMap::new(),
        }
    }

    /// The topics that handlers name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.names.iter()
    }

    /// The patterns that handlers name.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|pattern| &*pattern.text)
    }

    /// Subscribes for the first time.
    pub(crate) fn begin(&mut self, consumer: &Consumer) -> Result<(), Error> {
        if !self.patterns.is_empty() {
            // Without waiting for the first look, so that a broker that is away keeps no thread.
            self.look_at = Some(Instant::now());
        }
        self.subscribe(consumer, self.names.clone())
    }

    /// Looks at the topics soon: one of them is missing.
    pub(crate) fn look_soon(&mut self) {
        self.look_at = Some(Instant::now());
    }

    /// Looks for topics where it is time to, and subscribes to what a look has found.
    pub(crate) fn refresh(&mut self, consumer: &Arc<Consumer>) -> Result<(), Error> {
        let found = if self.looking { lock(&self.found).take() } else { None };
        if let Some(found) = found {
            self.looking = false;
            self.take(consumer, found)?;
        }
        if !self.looking && self.look_at.is_some_and(|at| at <= Instant::now()) {
            self.looking = true;
            let (consumer, found) = (consumer.clone(), self.found.clone());
            let asking = consumer.context().asking();
            consumer.context().runtime().clone().spawn_blocking(move || {
                let topics = consumer.fetch_metadata(None, REQUEST).map(|metadata| topics::names(&metadata));
                *lock(&found) = Some(topics);
                // In this order: whoever waits for the client sees what it waits for.
                drop(consumer);
                drop(asking);
            });
        }
        Ok(())
    }

    fn take(&mut self, consumer: &Consumer, found: Found) -> Result<(), Error> {
        match found {
            Ok(topics) => {
                let wanted = self.resolve(topics.into_iter().collect());
                self.subscribe(consumer, wanted)?;
            }
            Err(error) => tracing::debug!(%error, "the topics cannot be looked up; trying again"),
        }
        let is_short = !self.missing.is_empty() || (self.subscribed.is_empty() && !self.patterns.is_empty());
        let interval = if is_short { Some(MISSING_EVERY) } else { self.interval };
        let looks_on = is_short || !self.patterns.is_empty();
        self.look_at = interval.filter(|_| looks_on).map(|interval| Instant::now() + interval);
        Ok(())
    }

    /// The names to subscribe to, of the topics that are there.
    fn resolve(&mut self, there: BTreeSet<String>) -> BTreeSet<String> {
        let is_kafkas = |topic: &String| INTERNAL.contains(&&**topic);
        let mut matched = BTreeSet::new();
        let mut missing = BTreeSet::new();
        for Pattern { text, regex, .. } in &self.patterns {
            let before = matched.len();
            let of_pattern =
                there.iter().filter(|topic| !is_kafkas(topic) && regex.is_match(topic.as_bytes()));
            let (left_out, read): (Vec<_>, Vec<_>) =
                of_pattern.cloned().partition(|topic| self.letters.has(topic));
            let known = &self.left_out;
            let is_new = |topic: &String| !known.contains(topic) && !self.names.contains(topic);
            let new: BTreeSet<_> = left_out.into_iter().filter(is_new).collect();
            if !new.is_empty() {
                tracing::info!(
                    pattern = text,
                    topics = ?new,
                    "not read, since they are dead-letter topics and a pattern reads none; to read one, give its name as `topic`"
                );
                self.left_out.extend(new);
            }
            let is_empty = read.is_empty();
            matched.extend(read);
            if is_empty && matched.len() == before {
                missing.insert(text.clone());
            }
        }
        // A broker that is behind another one does not take a topic away.
        let gone: Vec<_> = self.subscribed.difference(&matched).cloned().collect();
        for topic in gone.into_iter().filter(|topic| !self.names.contains(topic)) {
            let looks = self.absent.entry(topic.clone()).or_default();
            *looks += 1;
            if *looks < DELETED_AFTER {
                matched.insert(topic);
            }
        }
        self.absent.retain(|topic, looks| *looks < DELETED_AFTER && !there.contains(topic));
        missing.extend(self.names.difference(&there).cloned());
        self.missing.retain(|name, _| missing.contains(name));
        for name in missing {
            self.missing.entry(name).or_insert_with(Instant::now);
        }
        matched.extend(self.names.iter().cloned());
        matched
    }

    fn subscribe(&mut self, consumer: &Consumer, wanted: BTreeSet<String>) -> Result<(), Error> {
        if wanted == self.subscribed {
            return Ok(());
        }
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        if names.is_empty() {
            consumer.unsubscribe();
        } else {
            consumer.subscribe(&names).map_err(|source| Error::Topic {
                topic: names.join("`, `"),
                problem: format!("cannot be subscribed to ({source}); check the handlers' `topic`"),
            })?;
        }
        if !self.patterns.is_empty() {
            let (new, gone): (Vec<_>, Vec<_>) = (
                wanted.difference(&self.subscribed).collect(),
                self.subscribed.difference(&wanted).collect(),
            );
            tracing::info!(?new, ?gone, "the patterns' topics");
        }
        self.subscribed = wanted;
        Ok(())
    }

    /// The conditions of missing topics.
    pub(crate) fn told(&self, group: &str) -> Vec<Told> {
        let told = |(name, since): (&String, &Instant)| {
            let pattern = self.patterns.iter().find(|pattern| pattern.text == *name);
            let sentence = match pattern {
                Some(Pattern { handlers, .. }) => format!(
                    "no topic matches `topic = \"{name}\"` of handler {} in group {group}, as far as this user may see \
                     them, besides dead-letter topics, which no pattern reads; create one, or correct the pattern",
                    handlers.join(", ")
                ),
                None => format!(
                    "topic `{name}`, which group {group} reads, is not there any more, or this user may not see it; \
                     create it, or take it from the handler's `topic`"
                ),
            };
            Told::new(ConditionKind::NoTopic, sentence, *since)
        };
        self.missing.iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(names: &[&str], patterns: &[&str], letters: &[&str]) -> Subscription {
        let set = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let pattern = |text: &&str| Pattern {
            text: (*text).to_owned(),
            regex: regex(text).unwrap(),
            handlers: vec!["reader".to_owned()],
        };
        let patterns = patterns.iter().map(pattern).collect();
        Subscription::to(set(names), patterns, Letters(Arc::new(set(letters))), None)
    }

    fn resolved(subscription: &mut Subscription, there: &[&str]) -> Vec<String> {
        let wanted = subscription.resolve(there.iter().map(|topic| (*topic).to_owned()).collect());
        subscription.subscribed = wanted.clone();
        wanted.into_iter().collect()
    }

    #[test]
    fn a_pattern_means_what_it_means_in_rust() {
        for (pattern, topic, matches) in [
            (r"^rz-\d+$", "rz-12", true),
            (r"^rz-\d+$", "rz-x", false),
            ("^rz-(?:1|2)$", "rz-2", true),
            ("^(?i)RZ-", "rz-2", true),
            ("^rz-[[:digit:]]{2}$", "rz-12", true),
            ("^rz-.*?-x$", "rz-1-x", true),
            ("^rz", "a-rz", false),
        ] {
            assert_eq!(regex(pattern).unwrap().is_match(topic.as_bytes()), matches, "{pattern} {topic}");
        }
        assert!(regex(r"^(a)\1$").is_err() && regex("^rz(?=1)").is_err());
    }

    #[test]
    fn a_pattern_reads_no_dead_letters_unless_the_topic_is_named() {
        let there = ["rq-x", "rq-x.dlq", "rq-y", "rq-dead", "rq-z.dlq", "__consumer_offsets"];
        let mut patterns = subscription(&[], &["^rq-.*", "^_"], &["rq-dead"]);
        assert_eq!(resolved(&mut patterns, &there), ["rq-x", "rq-y"]);
        assert!(patterns.left_out.iter().eq(["rq-dead", "rq-x.dlq", "rq-z.dlq"]), "each is said once");
        let mut named = subscription(&["rq-z.dlq"], &["^rq-.*"], &[]);
        assert_eq!(resolved(&mut named, &there), ["rq-dead", "rq-x", "rq-y", "rq-z.dlq"]);
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_told_until_a_topic_comes() {
        let mut patterns = subscription(&["named"], &["^rz-", "^named"], &[]);
        assert_eq!(resolved(&mut patterns, &["named", "rz.dlq", "rz-1.dlq"]), ["named"]);
        let told = patterns.told("g");
        assert_eq!(told.len(), 1);
        let sentence = &told[0].sentence;
        assert!(
            sentence.starts_with("no topic matches `topic = \"^rz-\"` of handler reader in group g"),
            "{sentence}"
        );
        assert_eq!(resolved(&mut patterns, &["named", "rz-1"]), ["named", "rz-1"]);
        assert!(patterns.told("g").is_empty());
    }

    #[test]
    fn a_topic_that_is_gone_is_told_and_read_again_when_it_is_back() {
        let mut names = subscription(&["a", "b"], &[], &[]);
        assert_eq!(resolved(&mut names, &["a"]), ["a", "b"], "it stays subscribed to");
        assert!(names.told("g")[0].sentence.starts_with("topic `b`, which group g reads, is not there"));
        resolved(&mut names, &["a", "b"]);
        assert!(names.told("g").is_empty());
    }

    #[test]
    fn a_topic_of_a_pattern_is_given_up_when_two_looks_do_not_find_it() {
        let mut patterns = subscription(&[], &["^rz-"], &[]);
        assert_eq!(resolved(&mut patterns, &["rz-1", "rz-2"]), ["rz-1", "rz-2"]);
        assert_eq!(resolved(&mut patterns, &["rz-1"]), ["rz-1", "rz-2"], "by a broker that is behind");
        assert_eq!(resolved(&mut patterns, &["rz-1", "rz-2"]), ["rz-1", "rz-2"]);
        assert_eq!(resolved(&mut patterns, &["rz-1"]), ["rz-1", "rz-2"], "counted anew");
        assert_eq!(resolved(&mut patterns, &["rz-1"]), ["rz-1"]);
    }
}
