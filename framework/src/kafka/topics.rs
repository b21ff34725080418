//! Checks the topics before anything is consumed.

use super::client_config::ClientSettings as _;
use super::pattern::{is_pattern, matches};
use crate::base::backoff::after;
use crate::config::Resolved;
use crate::error::Error;
use crate::kafka::unreachable::{Quiet, Unreachable, why};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ConfigSource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::types::RDKafkaRespErr;
use std::time::{Duration, Instant};

/// How long one request may take.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);

/// How long the first one may take before the reason is looked for. With that, a reason that can be
/// known is said within 5 s.
const FIRST: Duration = Duration::from_secs(2);

/// Refuses topics that are not there or may not be read; waits for those that may
/// still come, as long as `wait_for_topics` says.
pub(crate) async fn check(config: &Resolved, topics: Vec<String>) -> Result<(), Error> {
    let until = after(config.wait_for_topics);
    let (patterns, topics): (Vec<_>, Vec<_>) = topics.into_iter().partition(|topic| is_pattern(topic));
    for topic in topics {
        loop {
            match look_at(config, &topic).await? {
                Ok(_) => break,
                Err(Missing::ForGood(error)) => return Err(error),
                Err(Missing::ForNow(error)) if Instant::now() >= until => return Err(error),
                Err(Missing::ForNow(error)) => {
                    tracing::info!(%error, "waiting");
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        }
    }
    check_patterns(config, patterns).await
}

/// Warns of patterns that match nothing; their topics may still come.
async fn check_patterns(config: &Resolved, patterns: Vec<String>) -> Result<(), Error> {
    if patterns.is_empty() {
        return Ok(());
    }
    let client = client(config)?;
    let brokers = config.brokers.clone();
    let there = blocking(move || {
        let all = metadata(&client, None, &brokers, "look up the topics of patterns");
        all.map(|metadata| names(&metadata)).map_err(|missing| match missing {
            Missing::ForNow(error) | Missing::ForGood(error) => error,
        })
    });
    let there = there.await??;
    for pattern in patterns.iter().filter(|pattern| !there.iter().any(|topic| matches(pattern, topic))) {
        tracing::warn!(
            pattern,
            "no topic matches this `topic` yet, as far as this user may see them, besides dead-letter topics, which no \
             pattern reads"
        );
    }
    Ok(())
}

/// Whether a topic that Onceward writes to is there.
pub(crate) async fn is_there(config: &Resolved, topic: &str) -> Result<bool, Error> {
    match look_at(config, topic).await? {
        Ok(_) => Ok(true),
        Err(Missing::ForNow(Error::Topic { .. })) => Ok(false),
        Err(Missing::ForNow(error) | Missing::ForGood(error)) => Err(error),
    }
}

/// How a topic is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) partitions: i32,
    /// Of the partition that has the fewest.
    pub(crate) replicas: usize,
}

/// How many partitions and replicas a topic has.
pub(crate) async fn layout(config: &Resolved, topic: &str) -> Result<Layout, KafkaError> {
    let (config, topic) = (config.clone(), topic.to_owned());
    let look = move || -> Result<Layout, KafkaError> {
        let client: BaseConsumer<Quiet> = config.client().create_with_context(Quiet)?;
        let metadata = client.fetch_metadata(Some(&topic), REQUEST)?;
        let topic = metadata.topics().first();
        if let Some(error) = topic.and_then(|topic| topic.error()) {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        let partitions = topic.map_or(&[][..], |topic| topic.partitions());
        let replicas = partitions.iter().map(|partition| partition.replicas().len()).min();
        Ok(Layout {
            partitions: i32::try_from(partitions.len()).unwrap_or(1).max(1),
            replicas: replicas.unwrap_or(1),
        })
    };
    blocking(look).await.unwrap_or_else(|_| Err(KafkaError::Canceled))
}

/// A client that joins no group.
pub(crate) fn client(config: &Resolved) -> Result<BaseConsumer<Quiet>, Error> {
    let client = config.client().create_with_context(Quiet);
    client.map_err(|source| config.failed("create a Kafka client (setting `kafka`)", source))
}

/// Runs a request that blocks its thread.
pub(crate) async fn blocking<T: Send + 'static>(
    request: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(request)
        .await
        .map_err(|error| Error::Internal { what: "looking at the topics".into(), source: error.into() })
}

/// The names of all topics that are there.
pub(crate) fn names(metadata: &Metadata) -> Vec<String> {
    let is_there = |topic: &&MetadataTopic| {
        matches!(topic.error(), None | Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE))
    };
    metadata.topics().iter().filter(is_there).map(|topic| topic.name().to_owned()).collect()
}

enum Missing {
    ForNow(Error),
    ForGood(Error),
}

async fn look_at(config: &Resolved, topic: &str) -> Result<Result<(), Missing>, Error> {
    let client = client(config)?;
    let (topic, brokers) = (topic.to_owned(), config.brokers.clone());
    blocking(move || look_with(&client, &topic, &brokers)).await
}

fn look_with(client: &BaseConsumer<Quiet>, topic: &str, brokers: &str) -> Result<(), Missing> {
    let metadata = metadata(client, Some(topic), brokers, &format!("look up topic `{topic}`"))?;
    let error = metadata.topics().first().and_then(|found| found.error());
    let problem = |problem: &str| Error::Topic { topic: topic.to_owned(), problem: problem.to_owned() };
    match error {
        None => Ok(()),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => Err(Missing::ForGood(problem(
            "the user may not read it; an ACL with READ on the topic is missing",
        ))),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION) => {
            Err(Missing::ForGood(problem("it is not a legal name; check the handler's `topic`")))
        }
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Err(Missing::ForNow(problem(
            "it does not exist; create it, or correct the handler's `topic`, or let the service wait for it \
             with `wait_for_topics`",
        ))),
        Some(error) => {
            let error = KafkaError::MetadataFetch(error.into());
            Err(Missing::ForNow(Error::kafka(format!("look up topic `{topic}`"), brokers, error)))
        }
    }
}

/// Asks for the metadata of a topic, or of all. If no broker answers soon, finds out why.
fn metadata(
    client: &BaseConsumer<Quiet>,
    topic: Option<&str>,
    brokers: &str,
    action: &str,
) -> Result<Metadata, Missing> {
    let failed = |action: String, source: KafkaError| Error::kafka(action, brokers, source);
    client.fetch_metadata(topic, FIRST).or_else(|source| match why(client, brokers) {
        Some(Unreachable::Login(refusal)) => Err(Missing::ForGood(failed(LOGIN.to_owned(), refusal))),
        Some(Unreachable::Because(cause)) => {
            Err(Missing::ForNow(failed(format!("{action}, since {cause}"), source)))
        }
        None => client.fetch_metadata(topic, REQUEST.saturating_sub(FIRST)).map_err(|source| {
            let action = format!("{action}, since no broker answers within {REQUEST:?}; check `brokers`");
            Missing::ForNow(failed(action, source))
        }),
    })
}

/// What to look at where a login is refused.
pub(crate) const LOGIN: &str = "log in: check `kafka.sasl.*` and `kafka.security.protocol`";

pub(crate) fn is_refused_login(code: Option<RDKafkaErrorCode>) -> bool {
    use RDKafkaErrorCode::{Authentication, SaslAuthenticationFailed};
    matches!(code, Some(Authentication | SaslAuthenticationFailed))
}

/// What a topic is set to.
pub(crate) struct Settings {
    resource: ConfigResource,
}

impl Settings {
    fn value(&self, name: &str) -> String {
        self.resource.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default()
    }

    pub(crate) fn is_compacted(&self) -> bool {
        self.value("cleanup.policy").contains("compact")
    }

    /// How long it keeps its records; `None` for ever. Compaction keeps the newest
    /// one of a key for ever.
    pub(crate) fn retention(&self) -> Option<Duration> {
        let milliseconds = self.value("retention.ms").parse::<u64>().ok()?;
        (!self.is_compacted()).then(|| Duration::from_millis(milliseconds))
    }

    /// For how long a segment takes records: only a whole one is deleted, by its youngest record.
    fn segment(&self) -> Duration {
        self.value("segment.ms").parse().map_or(Duration::ZERO, Duration::from_millis)
    }

    pub(crate) fn max_message_bytes(&self) -> Option<u64> {
        self.value("max.message.bytes").parse().ok()
    }

    pub(crate) fn min_insync_replicas(&self) -> Option<usize> {
        self.value("min.insync.replicas").parse().ok()
    }

    /// Whether a value was set for this topic, and is not the brokers' own.
    pub(crate) fn is_own(&self, name: &str) -> bool {
        self.resource.get(name).is_some_and(|entry| entry.source == ConfigSource::DynamicTopic)
    }
}

/// What a topic is set to; `None` where this user may not see it, or the broker does
/// not know the request.
pub(crate) async fn settings(config: &Resolved, topic: &str) -> Result<Option<Settings>, Error> {
    let failed = |source| config.failed(format!("read the settings of topic `{topic}`"), source);
    let admin: AdminClient<DefaultClientContext> = config.client().create().map_err(failed)?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST));
    let described = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await;
    let unknown = |code: RDKafkaErrorCode| {
        matches!(code, RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::UnsupportedFeature)
    };
    match described {
        Ok(resources) => match resources.into_iter().next() {
            // Every topic has settings. rdkafka drops the broker's error of a single resource, and gives an
            // empty list where this user may not see them.
            Some(Ok(resource)) if !resource.entries.is_empty() => Ok(Some(Settings { resource })),
            Some(Err(error)) if !unknown(error) => Err(failed(KafkaError::AdminOp(error))),
            _ => {
                tracing::warn!(
                    topic,
                    "its settings cannot be read (no DESCRIBE_CONFIGS), so they are not checked"
                );
                Ok(None)
            }
        },
        Err(error) if error.rdkafka_error_code().is_some_and(unknown) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Refuses a dedupe window that is shorter than what the topics keep: a replay from
/// beyond the window would do everything again.
pub(crate) async fn check_retention(config: &Resolved, topics: &[String]) -> Result<(), Error> {
    if config.dedupe_window_shorter_than_retention {
        return Ok(());
    }
    for topic in topics.iter().filter(|topic| !is_pattern(topic)) {
        let Some(settings) = settings(config, topic).await? else { continue };
        let kept = settings.retention();
        if kept.is_none_or(|kept| kept + settings.segment() > config.dedupe_window) {
            let duration = humantime::format_duration;
            let kept = kept.map_or("for ever".to_owned(), |kept| {
                format!(
                    "for `retention.ms` = {} and, since only whole segments are deleted, `segment.ms` = {} more",
                    duration(kept),
                    duration(settings.segment()),
                )
            });
            return Err(Error::config(
                "dedupe_window",
                format!(
                    "is {}, and topic `{topic}` keeps its records longer ({kept}), so a replay of old ones would handle \
                     them again; make it longer, or accept that with `dedupe_window_shorter_than_retention = true`",
                    humantime::format_duration(config.dedupe_window),
                ),
            ));
        }
    }
    Ok(())
}
