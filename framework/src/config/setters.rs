//! A method for each setting, so that code sets several in one expression.

#[cfg(feature = "schemas")]
use super::schema_registry::SchemaRegistryConfig;
use super::{
    Config, DeadLetterConfig, DedupeKind, GroupProtocol, Guarantee, HandlerConfig, Order, OutOfRange, Start,
    TraceMode,
};
use std::time::Duration;

/// Methods with the names of the fields, and a list of these names.
macro_rules! setters {
    ($type:ty: texts { $($text:ident),* $(,)? } values { $($name:ident: $value:ty),* $(,)? }) => {
        impl $type {
            $(
                #[doc = concat!("Sets [`", stringify!($text), "`](Self#structfield.", stringify!($text), ").")]
                #[must_use]
                pub fn $text(mut self, value: impl Into<String>) -> Self {
                    self.$text = Some(value.into());
                    self
                }
            )*
            $(
                #[doc = concat!("Sets [`", stringify!($name), "`](Self#structfield.", stringify!($name), ").")]
                #[must_use]
                pub fn $name(mut self, value: $value) -> Self {
                    self.$name = Some(value);
                    self
                }
            )*

            #[cfg(test)]
            const SETTERS: &[&str] = &[$(stringify!($text),)* $(stringify!($name)),*];
        }
    };
}

setters!(Config:
    texts { brokers, database_url, instance_id }
    values {
        dedupe: DedupeKind,
        dedupe_window: Duration,
        dedupe_copies_found_within: Duration,
        dedupe_window_shorter_than_retention: bool,
        migrate: bool,
        max_connections: usize,
        start: Start,
        trace: TraceMode,
        out_of_range: OutOfRange,
        group_protocol: GroupProtocol,
        wait_for_topics: Duration,
        max_hops: u32,
        commit_interval: Duration,
        drain_deadline: Duration,
        shutdown_deadline: Duration,
        stuck_after: Duration,
        max_run_records: usize,
        max_run_bytes: usize,
        max_run_time: Duration,
        max_in_flight: usize,
        max_in_flight_bytes: usize,
    }
);

setters!(HandlerConfig:
    texts { topic, group, dead_letter, rejected }
    values {
        timeout: Duration,
        order: Order,
        guarantee: Guarantee,
        concurrency: usize,
        max_run_records: usize,
        max_attempts: u32,
        max_elapsed: Duration,
        backoff: Duration,
        max_backoff: Duration,
        max_starts: u32,
    }
);

impl HandlerConfig {
    /// Sets what happens at the start if the handler's type cannot read a schema of its topics.
    #[cfg(feature = "schemas")]
    #[must_use]
    pub fn schema_check(mut self, check: crate::SchemaCheck) -> Self {
        self.schema_check = Some(check);
        self
    }
}

impl Config {
    /// Sets a property of librdkafka.
    #[must_use]
    pub fn kafka(mut self, property: impl Into<String>, value: impl Into<String>) -> Self {
        self.kafka.insert(property.into(), value.into());
        self
    }

    /// Sets what overrides the attribute and the route of the handler with this name.
    #[must_use]
    pub fn handler(mut self, name: impl Into<String>, config: HandlerConfig) -> Self {
        self.handlers.insert(name.into(), config);
        self
    }

    /// Sets how dead letters are written.
    #[must_use]
    pub fn dead_letter(mut self, config: DeadLetterConfig) -> Self {
        self.dead_letter = config;
        self
    }

    /// Sets where schemas are looked up.
    #[cfg(feature = "schemas")]
    #[must_use]
    pub fn schema_registry(mut self, config: SchemaRegistryConfig) -> Self {
        self.schema_registry = config;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeSet;
    use std::fmt::Debug;

    /// The names of a type's fields, from serde's error about a name that does not exist.
    fn names<T: for<'de> Deserialize<'de> + Debug>() -> BTreeSet<String> {
        let refused = toml::from_str::<T>("no_such_setting = 1").unwrap_err().to_string();
        let (_, known) = refused.split_once("expected one of ").unwrap();
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    fn all(setters: &[&str], others: &[&str]) -> BTreeSet<String> {
        setters.iter().chain(others).map(ToString::to_string).collect()
    }

    #[test]
    fn each_setting_can_be_set_in_code() {
        let others: &[&str] = &[
            "kafka",
            "handlers",
            "dead_letter",
            #[cfg(feature = "schemas")]
            "schema_registry",
        ];
        assert_eq!(names::<Config>(), all(Config::SETTERS, others));
        let others: &[&str] = &[
            #[cfg(feature = "schemas")]
            "schema_check",
        ];
        assert_eq!(names::<HandlerConfig>(), all(HandlerConfig::SETTERS, others));
    }
}
