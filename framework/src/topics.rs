//! Looks at the topics before anything is consumed.

use crate::config::Resolved;
use crate::error::Error;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use std::time::{Duration, Instant};

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(10);

/// Refuses topics that are not there or may not be read; waits for those that may
/// still come, as long as `wait_for_topics` says.
pub(crate) async fn check(config: &Resolved, topics: Vec<String>) -> Result<(), Error> {
    let named: Vec<String> = topics.into_iter().filter(|topic| !topic.starts_with('^')).collect();
    let until = Instant::now() + config.wait_for_topics;
    let client = client(config)?;
    let mut client = Some(client);
    for topic in named {
        loop {
            let asked = client.take().expect("given back after each request");
            let (asked, found) = {
                let (topic, brokers) = (topic.clone(), config.brokers.clone());
                tokio::task::spawn_blocking(move || {
                    let found = look_at(&asked, &topic, &brokers);
                    (asked, found)
                })
                .await
                .map_err(|error| Error::Internal {
                    what: "looking at the topics".into(),
                    source: error.into(),
                })?
            };
            client = Some(asked);
            match found {
                Ok(()) => break,
                Err(Missing::ForGood(error)) => return Err(error),
                Err(Missing::ForNow(error)) if Instant::now() >= until => return Err(error),
                Err(Missing::ForNow(error)) => {
                    tracing::info!(%error, "waiting");
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        }
    }
    Ok(())
}

fn client(config: &Resolved) -> Result<BaseConsumer, Error> {
    config.client().create().map_err(|source| Error::Kafka {
        action: "create a Kafka client (setting `kafka`)".into(),
        brokers: config.brokers.clone(),
        source,
    })
}

enum Missing {
    ForNow(Error),
    ForGood(Error),
}

fn look_at(client: &BaseConsumer, topic: &str, brokers: &str) -> Result<(), Missing> {
    let metadata = client.fetch_metadata(Some(topic), REQUEST).map_err(|source| {
        Missing::ForNow(Error::Kafka {
            action: format!("look up topic `{topic}`"),
            brokers: brokers.to_owned(),
            source,
        })
    })?;
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
        Some(error) => Err(Missing::ForNow(Error::Kafka {
            action: format!("look up topic `{topic}`"),
            brokers: brokers.to_owned(),
            source: KafkaError::MetadataFetch(error.into()),
        })),
    }
}

/// Refuses a dedupe window that is shorter than what the topics keep: a replay from
/// beyond the window would do everything again.
pub(crate) async fn check_retention(config: &Resolved, topics: &[String]) -> Result<(), Error> {
    if config.dedupe_window_shorter_than_retention {
        return Ok(());
    }
    let named: Vec<_> = topics
        .iter()
        .filter(|topic| !topic.starts_with('^'))
        .map(|topic| ResourceSpecifier::Topic(topic))
        .collect();
    let failed = |source| Error::Kafka {
        action: "read the topics' retention".into(),
        brokers: config.brokers.clone(),
        source,
    };
    let admin: AdminClient<DefaultClientContext> = config.client().create().map_err(failed)?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST));
    for resource in admin.describe_configs(&named, &options).await.map_err(failed)? {
        let resource = match resource {
            Ok(resource) => resource,
            Err(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                tracing::warn!(
                    "a topic's retention cannot be read (no DESCRIBE_CONFIGS), so it is not checked"
                );
                continue;
            }
            Err(error) => return Err(failed(KafkaError::AdminOp(error))),
        };
        let value = |name: &str| resource.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
        let kept = match value("retention.ms").parse::<u64>() {
            // Compaction keeps the newest record of a key for ever.
            Ok(milliseconds) if !value("cleanup.policy").contains("compact") => {
                Some(Duration::from_millis(milliseconds))
            }
            _ => None,
        };
        if kept.is_none_or(|kept| kept > config.dedupe_window) {
            let kept = kept
                .map_or("for ever".to_owned(), |kept| format!("for {}", humantime::format_duration(kept)));
            return Err(Error::config(
                "dedupe_window",
                format!(
                    "= {} is shorter than {:?} keeps its records ({kept}), so a replay of old ones would do them \
                     again; make it longer, or accept that with `dedupe_window_shorter_than_retention = true`",
                    humantime::format_duration(config.dedupe_window),
                    resource.specifier,
                ),
            ));
        }
    }
    Ok(())
}
