//! The names of librdkafka's properties, and their possible values.

use super::suggest;

/// The table of librdkafka's CONFIGURATION.md: a name a line, and after a bar what it may be.
const TABLE: &str = include_str!("properties.txt");

/// Properties that have two names, with the one that is used here first.
const ALIASES: [(&str, &str); 12] = [
    ("acks", "request.required.acks"),
    ("bootstrap.servers", "metadata.broker.list"),
    ("compression.type", "compression.codec"),
    ("enable.auto.commit", "auto.commit.enable"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("max.in.flight.requests.per.connection", "max.in.flight"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("retries", "message.send.max.retries"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.id", "sasl.oauthbearer.client.credentials.client.id"),
    ("sasl.oauthbearer.client.secret", "sasl.oauthbearer.client.credentials.client.secret"),
];

fn table() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    TABLE.lines().map(|line| match line.split_once(" | ") {
        Some((name, values)) => (name, Some(values)),
        None => (line, None),
    })
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    table().map(|(name, _)| name)
}

/// A property by the one name that is used here; underscores may stand for the dots.
pub(crate) fn canonical(name: &str) -> &str {
    let is_same = |known: &&str| *known == name || known.replace('_', ".") == name.replace('_', ".");
    let name = table().map(|(name, _)| name).find(is_same).unwrap_or(name);
    ALIASES.iter().find(|(_, alias)| *alias == name).map_or(name, |(original, _)| original)
}

/// What a property may be, where librdkafka says so: `1 .. 3600000`, `none, gzip`.
pub(crate) fn values(name: &str) -> Option<&'static str> {
    table().find(|(known, _)| *known == name)?.1
}

/// `; did you mean ..?`, or nothing.
pub(crate) fn did_you_mean(misspelt: &str) -> String {
    suggest::did_you_mean(misspelt, table().map(|(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::ClientConfig;
    use rdkafka::error::KafkaError;
    use rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN;

    /// How librdkafka reads a property back that was set to this; `None` where the build
    /// does not have it.
    fn read_back(set: &str, value: &str, get: &str) -> Option<String> {
        ClientConfig::new().set(set, value).create_native_config().ok()?.get(get).ok()
    }

    #[test]
    fn every_name_in_the_table_is_one_of_librdkafka() {
        for (name, _) in table() {
            let set = ClientConfig::new().set(name, "x").create_native_config();
            let is_unknown = matches!(set, Err(KafkaError::ClientConfig(RD_KAFKA_CONF_UNKNOWN, ..)));
            assert!(!is_unknown, "{name}");
        }
    }

    #[test]
    fn an_alias_is_its_original_for_us_and_for_librdkafka() {
        for (original, alias) in ALIASES {
            assert_eq!((canonical(alias), canonical(original)), (original, original));
            let value = match values(original) {
                Some("true, false") => "true",
                Some(list) if list.contains("gzip") => "gzip",
                Some(_) => "7",
                None => "x",
            };
            let both = |get| read_back(alias, value, get);
            assert_eq!(both(original), both(alias), "{alias}");
        }
    }

    #[test]
    fn underscores_stand_for_dots_and_the_few_real_ones_are_known() {
        assert_eq!(canonical("fetch_wait_max_ms"), "fetch.wait.max.ms");
        assert_eq!(canonical("metadata_broker_list"), "bootstrap.servers");
        assert_eq!(canonical("log.level"), "log_level");
        assert_eq!(canonical("no_such"), "no_such");
    }
}
