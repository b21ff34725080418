//! Gets the settings of an application, refuses wrong ones before anything is consumed.

#[cfg(feature = "schemas")]
use crate::config::schema_registry::SchemaCheck;
use crate::config::{DedupeKind, Guarantee, Order, Resolved};
#[cfg(feature = "schemas")]
use crate::error::lookup::Part;
use crate::extract::Context;
#[cfg(feature = "schemas")]
use crate::extract::NO_REGISTRY;
use crate::failure::dead_letter;
use crate::handler::Settings;
use crate::kafka::client_config::ClientSettings as _;
use crate::kafka::pattern::{self, is_pattern, matches};
use crate::kafka::topics;
#[cfg(feature = "schemas")]
use crate::routing::event_type::EventType;
use crate::routing::route::{AnyRoute, Routes};
use crate::routing::router::{Policies, Unmatched};
#[cfg(feature = "schemas")]
use crate::schemas::compatibility::Reader;
use crate::{Error, middleware};

/// Checks each handler by itself, and each pair.
pub(crate) fn check_routes(
    routes: &[Box<dyn AnyRoute>],
    context: &Context,
    config: &Resolved,
) -> Result<(), Error> {
    if routes.is_empty() {
        return Err(Error::config("handlers", "there are none; add one with `App::handler(..)`"));
    }
    for (place, route) in routes.iter().enumerate() {
        let settings = route.settings();
        let name = &settings.name;
        if settings.topics.is_empty() {
            return Err(Error::handler(
                name,
                format!("has no topic; set `topic` or `handlers.{name}.topic`"),
            ));
        }
        for pattern in settings.topics.iter().filter(|topic| is_pattern(topic)) {
            if let Err(error) = pattern::regex(pattern) {
                return Err(Error::handler(
                    name,
                    format!("`topic = \"{pattern}\"` is no regular expression: {}", in_one_line(&error)),
                ));
            }
        }
        if settings.group.as_deref().is_none_or(str::is_empty) {
            return Err(Error::handler(
                name,
                format!("has no consumer group; set `group` or `handlers.{name}.group`"),
            ));
        }
        if settings.max_run_records == Some(0) {
            return Err(Error::handler(name, "`max_run_records` is 0; it must be at least 1"));
        }
        check_order(settings)?;
        settings.failure.check(name, route.is_fallible(), config.drain_deadline)?;
        check_letters(settings)?;
        middleware::check(name, &route.layers())?;
        route.check(context).map_err(|problem| Error::handler(name, problem))?;
        if route.takes_transaction() {
            check_transaction(settings, config)?;
        }
        check_guarantee(settings, route.takes_transaction())?;
        for other in &routes[..place] {
            check_pair(other.settings(), settings)?;
        }
    }
    Ok(())
}

/// Tries handlers on what the schema registry has for their topics.
#[cfg(feature = "schemas")]
pub(crate) async fn check_schemas(
    routes: &[Box<dyn AnyRoute>],
    context: &Context,
    policies: &Policies,
    config: &Resolved,
) -> Result<(), Error> {
    let Some(schemas) = context.schemas() else { return Ok(()) };
    context.take_reads();
    for route in routes {
        let Settings { name, topics, event, schema_check, .. } = route.settings();
        let how = schema_check.or(config.schema_registry.check).unwrap_or_default();
        if how == SchemaCheck::Off {
            continue;
        }
        route.check(context).map_err(|problem| Error::handler(name, problem))?;
        for (part, reads) in context.take_reads() {
            let subjects = |topic: &String| match (policies.event_types.get(topic), event) {
                (Some(EventType::Schema), Some(event)) if part == Part::Value => {
                    vec![(topic.clone(), format!("{topic}-{event}")), (topic.clone(), event.clone())]
                }
                _ => vec![(topic.clone(), format!("{topic}-{}", part.name()))],
            };
            let of_one = topics.iter().filter(|topic| !is_pattern(topic));
            let reader =
                Reader { handler: name.clone(), subjects: of_one.flat_map(subjects).collect(), part, reads };
            match schemas.check(&reader).await {
                Err(error @ Error::Handler { .. }) if how == SchemaCheck::Warn => {
                    tracing::warn!("{error}")
                }
                checked => checked?,
            }
        }
    }
    Ok(())
}

/// The last line of a regular expression's error says what is wrong.
fn in_one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

fn check_order(settings: &Settings) -> Result<(), Error> {
    let refused = |problem: &str| Err(Error::handler(&settings.name, problem));
    match (settings.order, settings.concurrency) {
        (_, Some(0)) => refused("`concurrency` is 0; it must be at least 1"),
        (Order::Partition, Some(2..)) => refused(
            "has a `concurrency`, but `order = \"partition\"`, which handles a partition's records one after the \
             other; set `order` to `key` or `none`, or take `concurrency` out",
        ),
        _ => Ok(()),
    }
}

fn check_guarantee(settings: &Settings, takes_transaction: bool) -> Result<(), Error> {
    let refused = |problem: &str| Err(Error::handler(&settings.name, problem));
    match settings.guarantee {
        Guarantee::AtLeastOnce => Ok(()),
        _ if takes_transaction => refused(
            "takes `&mut Tx`, whose effects count once, and has `guarantee = \
             \"at_most_once_losing_work_in_flight\"`, which would lose them; take one of them out",
        ),
        _ if settings.order != Order::Partition => refused(
            "has `guarantee = \"at_most_once_losing_work_in_flight\"`, which needs `order = \"partition\"`",
        ),
        _ => Ok(()),
    }
}

fn check_letters(settings: &Settings) -> Result<(), Error> {
    if settings.max_starts == Some(0) {
        return Err(Error::handler(
            &settings.name,
            "`max_starts` is 0; it must be at least 1, the start at which a record is tried first",
        ));
    }
    if settings.has_no_dead_letters() && settings.rejected.is_some() {
        return Err(Error::handler(
            &settings.name,
            "has `rejected`, but `dead_letter = \"none\"`; take one of them out",
        ));
    }
    Ok(())
}

fn check_transaction(settings: &Settings, config: &Resolved) -> Result<(), Error> {
    if config.dedupe != DedupeKind::Postgres || config.database_url.is_none() {
        return Err(Error::handler(
            &settings.name,
            "takes `&mut Tx`, which needs PostgreSQL; set `DATABASE_URL` and leave `dedupe` at `postgres`",
        ));
    }
    let session = config.session_timeout()?;
    if settings.timeout.is_some_and(|timeout| timeout > session) {
        return Err(Error::handler(
            &settings.name,
            format!(
                "its `timeout` is longer than `session.timeout.ms` = {session:?}, after which its transaction is ended \
                 as a frozen one's; make one shorter or the other longer"
            ),
        ));
    }
    Ok(())
}

/// Two handlers of one group must never both take a record: only one would get it.
fn check_pair(one: &Settings, other: &Settings) -> Result<(), Error> {
    if one.group != other.group {
        return Ok(());
    }
    let group = one.group.as_deref().unwrap_or_default();
    if one.name == other.name {
        return Err(Error::handler(
            &other.name,
            format!("group `{group}` has two handlers of this name; set `name` of one of them"),
        ));
    }
    for (new, old) in [(one, other), (other, one)] {
        if new.formerly.contains(&old.name) {
            return Err(Error::handler(
                &new.name,
                format!(
                    "`formerly = \"{}\"` names a handler that group `{group}` still has: what one did, the other would \
                     skip; take it out, or the other handler",
                    old.name
                ),
            ));
        }
    }
    let both =
        |a: &String, b: &String| a == b || matches(a, b) || matches(b, a) || (is_pattern(a) && is_pattern(b));
    let shared = one.topics.iter().find(|a| other.topics.iter().any(|b| both(a, b)));
    match shared {
        Some(topic) if one.event.is_none() || other.event.is_none() || one.event == other.event => {
            Err(Error::handler(
                &other.name,
                format!(
                    "could take the same records of `{topic}` as `{}` in group `{group}`, and only one would get each; give \
                 each an `event` of its own, or another `group`",
                    one.name
                ),
            ))
        }
        Some(topic)
            if (one.order, one.concurrency, one.guarantee)
                != (other.order, other.concurrency, other.guarantee) =>
        {
            Err(Error::handler(
                &other.name,
                format!(
                    "has another `order`, `concurrency` or `guarantee` than `{}`, and both read `{topic}` in group \
                     `{group}`: a partition has one of each; give both the same",
                    one.name
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// Whether a policy of this name (a topic, or a pattern as a handler has it) is about one of these topics.
fn is_read(name: &str, topics: &[String]) -> bool {
    topics.iter().any(|topic| topic == name || matches(topic, name))
}

/// Checks the per-topic policies.
pub(crate) fn check_policies(policies: &Policies, routes: &Routes, context: &Context) -> Result<(), Error> {
    check_names("unmatched", policies.unmatched.keys(), routes)?;
    check_names("event_type", policies.event_types.keys(), routes)?;
    #[cfg(feature = "schemas")]
    for (topic, _) in policies.event_types.iter().filter(|(_, kind)| matches!(kind, EventType::Schema)) {
        if context.schemas().is_none() {
            let problem = format!("is `EventType::Schema` for topic `{topic}`, but {NO_REGISTRY}");
            return Err(Error::config("event_type", problem));
        }
    }
    let _ = context;
    Ok(())
}

/// A policy for a topic that nobody reads is a misspelt one.
fn check_names<'n>(
    setting: &'static str,
    names: impl Iterator<Item = &'n String>,
    routes: &Routes,
) -> Result<(), Error> {
    let topics = topics_of(routes);
    match names.filter(|name| !is_read(name, &topics)).min() {
        None => Ok(()),
        Some(name) => Err(Error::config(
            setting,
            format!("names topic `{name}`, which no handler reads; they read {topics:?}"),
        )),
    }
}

/// Checks the topics of a group, and those for its dead letters.
pub(crate) async fn check_topics(
    config: &Resolved,
    routes: &Routes,
    policies: &Policies,
) -> Result<(), Error> {
    let read = topics_of(routes);
    let letters = letter_topics(routes, &read, policies);
    for (source, letters) in &letters {
        dead_letter::check_circle(source, letters, &read)?;
    }
    topics::check(config, read.clone()).await?;
    if config.dead_letter.checks() {
        dead_letter::check_topics(config, &letters).await?;
    }
    if matches!(config.dedupe, DedupeKind::Postgres) {
        topics::check_retention(config, &read).await?;
    }
    Ok(())
}

/// The dead-letter topics of a group, each with the topic that it is for; not those
/// of patterns, whose topics come later.
fn letter_topics(routes: &Routes, read: &[String], policies: &Policies) -> Vec<(String, String)> {
    let of_routes = routes.iter().flat_map(|route| {
        let settings = route.settings();
        settings.topics.iter().flat_map(|topic| {
            settings.letter_topics(topic).into_iter().map(|letters| (topic.clone(), letters))
        })
    });
    let of_nobody = policies
        .unmatched
        .iter()
        .filter(|(name, policy)| **policy == Unmatched::DeadLetter && is_read(name, read))
        .map(|(name, _)| (name.clone(), dead_letter::topic_of(name)));
    let mut pairs: Vec<_> = of_routes.chain(of_nobody).filter(|(topic, _)| !is_pattern(topic)).collect();
    pairs.sort();
    pairs.dedup();
    pairs
}

/// All topics that these routes read.
pub(crate) fn topics_of(routes: &Routes) -> Vec<String> {
    let mut topics: Vec<String> = routes.iter().flat_map(|route| route.settings().topics.clone()).collect();
    topics.sort();
    topics.dedup();
    topics
}
