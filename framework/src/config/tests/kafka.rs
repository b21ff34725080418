//! librdkafka's properties are judged as librdkafka reads them.

use super::{from, refused};
use crate::config::promises::{OURS, is_false};
use crate::config::{Config, Resolved};
use crate::kafka::client_config::ClientSettings as _;
use rdkafka::ClientConfig;
use std::time::Duration;

const BROKERS: (&str, &str) = ("KAFKA_BROKERS", "127.0.0.1:1");

fn checked(property: &str, value: &str) -> Result<Resolved, String> {
    let mut config = from(&[BROKERS]).unwrap();
    config.kafka.insert(property.to_owned(), value.to_owned());
    let resolved = config.resolve().map_err(|error| error.to_string())?;
    resolved.check_times().and_then(|()| resolved.check_properties()).map_err(|error| error.to_string())?;
    Ok(resolved)
}

fn refusal(property: &str, value: &str) -> String {
    checked(property, value).err().unwrap_or_else(|| panic!("`{property}` is taken"))
}

#[test]
fn another_name_of_a_refused_property_is_refused_like_it() {
    for alias in
        ["metadata.broker.list", "request.required.acks", "auto.commit.enable", "metadata_broker_list"]
    {
        let error = refusal(alias, "0");
        assert!(error.contains(alias) && error.contains("would undo a promise"), "{error}");
        let variable = format!("ONCEWARD_KAFKA__{}", alias.replace('.', "_").to_uppercase());
        assert!(refused(&[BROKERS, (&variable, "0")]).contains(&variable));
    }
    for (property, _) in OURS {
        assert!(refusal(property, "1").contains("would undo a promise"), "{property}");
    }
}

#[test]
fn a_boolean_is_false_where_librdkafka_reads_it_so() {
    for text in ["false", "False", "FALSE", "f", "F", "0", "true", "T", "1", "no", "off", "00", ""] {
        let set = ClientConfig::new().set("socket.keepalive.enable", text).create_native_config();
        let read = set.ok().and_then(|config| config.get("socket.keepalive.enable").ok());
        assert_eq!(is_false(text), read.as_deref() == Some("false"), "{text}");
        if is_false(text) {
            assert!(refusal("enable.ssl.certificate.verification", text).contains("pose as the broker"));
        }
    }
}

#[test]
fn a_time_limit_is_what_librdkafka_makes_of_it() {
    for (text, milliseconds) in [("6000", 6000), (" 0x1770", 6000), ("6000ms", 6000), ("+7000", 7000)] {
        let resolved = checked("session.timeout.ms", text).unwrap();
        assert_eq!(resolved.session_timeout().unwrap(), Duration::from_millis(milliseconds), "{text}");
    }
    let config = from(&[BROKERS]).and_then(Config::resolve).unwrap();
    assert_eq!(config.session_timeout().unwrap(), Duration::from_secs(45));
    assert!(refusal("session.timeout.ms", "hunter2").contains("must be a number, 1 .. 3600000"));
}

#[test]
fn two_names_of_one_property_are_not_both_taken() {
    let both = |one, other| {
        let mut config = from(&[BROKERS]).unwrap();
        config.kafka.insert("linger.ms".into(), one);
        config.kafka.insert("queue.buffering.max.ms".into(), other);
        config.resolve().map(|resolved| resolved.kafka).map_err(|error| error.to_string())
    };
    assert!(
        both("1".into(), "2".into())
            .unwrap_err()
            .contains("is set twice, also as another name of `linger.ms`")
    );
    assert_eq!(both("1".into(), "1".into()).unwrap().len(), 1);
    let variables = [("ONCEWARD_KAFKA__LINGER_MS", "1"), ("ONCEWARD_KAFKA__QUEUE_BUFFERING_MAX_MS", "2")];
    let error = refused(&[BROKERS, variables[0], variables[1]]);
    assert!(error.contains(variables[0].0) && error.contains(variables[1].0), "{error}");
}

#[test]
fn a_stronger_alias_takes_the_place_of_its_original() {
    let strong = from(&[("ONCEWARD_KAFKA__QUEUE_BUFFERING_MAX_MS", "1")]).unwrap();
    let mut weak = from(&[BROKERS]).unwrap();
    weak.kafka.insert("queue.buffering.max.ms".into(), "2".into());
    assert_eq!(strong.over(weak).resolve().unwrap().kafka["linger.ms"], "1");
}

#[test]
fn what_librdkafka_does_not_take_is_said_in_words_of_ours() {
    for (property, value, says) in [
        ("sasl.passwd", "hunter2", "did you mean `sasl.password`?"),
        ("ssl.truststore.location", "hunter2", "ssl.ca.location"),
        ("compression.codec", "hunter2", "gzip"),
        ("debug", "broker,hunter2", "must be one of generic"),
        ("fetch.max.bytes", "-5", "must be a number, 0 .."),
        ("socket.keepalive.enable", "hunter2", "true, false"),
        ("log_cb", "hunter2", "does not take"),
        ("client.id", "hunter2\0", "zero byte"),
        ("partition.assignment.strategy", "hunter2", "librdkafka says"),
    ] {
        let error = refusal(property, value);
        assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
    }
}

/// With OpenSSL in the build there is nothing to name.
#[test]
fn a_build_without_tls_names_the_feature() {
    if cfg!(any(feature = "ssl", feature = "ssl-vendored")) {
        return;
    }
    for (property, value) in [
        ("security.protocol", "SASL_SSL"),
        ("security.protocol", "ssl"),
        ("ssl.ca.location", "/hunter2"),
        ("ssl.key.pem", "-----BEGIN PRIVATE KEY-----hunter2"),
        ("ssl.key.password", "hunter2"),
    ] {
        let error = refusal(property, value);
        assert!(error.contains("enable the feature `ssl` (or `ssl-vendored`)"), "{error}");
        assert!(error.contains(property) && !error.contains("hunter2"), "{error}");
    }
    for (mechanism, says) in [
        (Some("SCRAM-SHA-512"), "enable the feature `ssl`"),
        (Some("OAUTHBEARER"), "enable the feature `ssl`"),
        (Some("GSSAPI"), "`gssapi` of the crate `rdkafka`"),
        (None, "set it to `PLAIN`"),
    ] {
        let mut config = from(&[BROKERS, ("ONCEWARD_KAFKA__SECURITY_PROTOCOL", "sasl_plaintext")]).unwrap();
        config.kafka.extend(mechanism.map(|mechanism| ("sasl.mechanisms".to_owned(), mechanism.to_owned())));
        let error = config.resolve().unwrap().check_properties().unwrap_err().to_string();
        assert!(error.contains("kafka.sasl.mechanism") && error.contains(says), "{error}");
    }
    if !cfg!(feature = "zstd") {
        assert!(refusal("compression.codec", "zstd").contains("enable the feature `zstd`"));
    }
}
