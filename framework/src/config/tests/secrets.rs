//! No setting's value stands in an error, in `Debug` or in a log.

use super::{File, from};
use crate::App;
use crate::config::properties::names;
use crate::kafka::client_config::ClientSettings as _;
use std::io::Write;
use std::sync::{Arc, Mutex};

const CANARY: &str = "canary-6f1d";

/// Every setting, but for those of librdkafka.
const SETTINGS: &[&str] = &[
    "brokers",
    "database_url",
    "dedupe",
    "dedupe_window",
    "dedupe_copies_found_within",
    "dedupe_window_shorter_than_retention",
    "migrate",
    "max_connections",
    "start",
    "trace",
    "out_of_range",
    "group_protocol",
    "instance_id",
    "wait_for_topics",
    "dead_letter.headers",
    "dead_letter.drop_headers",
    "dead_letter.partition",
    "dead_letter.create",
    "dead_letter.check",
    #[cfg(feature = "schemas")]
    "schema_registry.url",
    #[cfg(feature = "schemas")]
    "schema_registry.username",
    #[cfg(feature = "schemas")]
    "schema_registry.password",
    #[cfg(feature = "schemas")]
    "schema_registry.token",
    #[cfg(feature = "schemas")]
    "schema_registry.ca",
    #[cfg(feature = "schemas")]
    "schema_registry.identity",
    #[cfg(feature = "schemas")]
    "schema_registry.check",
    #[cfg(feature = "schemas")]
    "schema_registry.timeout",
    #[cfg(feature = "schemas")]
    "schema_registry.proxy",
    #[cfg(feature = "schemas")]
    "schema_registry.json_schema_draft",
    #[cfg(feature = "schemas")]
    "schema_registry.id_bytes",
    #[cfg(feature = "schemas")]
    "schema_registry.deprecated_message_indexes",
    "max_hops",
    "commit_interval",
    "drain_deadline",
    "shutdown_deadline",
    "stuck_after",
    "max_run_records",
    "max_run_bytes",
    "max_run_time",
    "max_in_flight",
    "max_in_flight_bytes",
    "handlers.on_it.topic",
    "handlers.on_it.group",
    "handlers.on_it.timeout",
    "handlers.on_it.order",
    "handlers.on_it.guarantee",
    "handlers.on_it.concurrency",
    "handlers.on_it.max_run_records",
    "handlers.on_it.max_attempts",
    "handlers.on_it.max_elapsed",
    "handlers.on_it.backoff",
    "handlers.on_it.max_backoff",
    "handlers.on_it.dead_letter",
    "handlers.on_it.rejected",
    "handlers.on_it.max_starts",
    #[cfg(feature = "schemas")]
    "handlers.on_it.schema_check",
];

/// What is logged while it lives, by this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All that is said by a start with these variables, without a server.
fn output(variables: &[(&str, &str)]) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let said = tracing::subscriber::with_default(subscriber.finish(), || match from(variables) {
        Err(error) => format!("{error} {error:?}"),
        Ok(config) => {
            let app = App::new().config(config.clone());
            let mut said = format!("{config:?} {app:?} {:?}", config.dead_letter.partition);
            #[cfg(feature = "schemas")]
            said.push_str(&format!("{:?}", config.schema_registry));
            let checked = config.without_foreign_database(false).resolve().and_then(|resolved| {
                #[cfg(feature = "postgres")]
                if let Some(url) = &resolved.database_url {
                    crate::config::database_url::options(url)?;
                }
                #[cfg(feature = "schemas")]
                crate::schemas::Schemas::new(&resolved.schema_registry)?;
                resolved.check_times()?;
                resolved.check_properties()
            });
            if let Err(error) = checked {
                said.push_str(&format!("{error} {error:?}"));
            }
            said
        }
    });
    let logged = log.0.lock().unwrap().clone();
    said + &String::from_utf8(logged).unwrap()
}

fn variable(setting: &str) -> String {
    let name = match setting.strip_prefix("kafka.") {
        Some(property) => format!("kafka__{}", property.replace('.', "_")),
        None => setting.replace('.', "__"),
    };
    format!("ONCEWARD_{}", name.to_uppercase())
}

#[test]
fn the_list_of_settings_is_whole() {
    let text = include_str!("../mod.rs");
    let fields = |of: &str| {
        let inside = text.split(&format!("pub struct {of} {{")).nth(1).unwrap().split("\n}").next().unwrap();
        let names = inside.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
        names.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    let is_there =
        |name: &str| SETTINGS.iter().any(|known| *known == name || known.starts_with(&format!("{name}.")));
    for name in fields("Config")
        .iter()
        .filter(|name| !matches!(&***name, "kafka" | "schema_registry") && !name.starts_with('('))
    {
        assert!(is_there(name), "{name}");
    }
    for name in fields("HandlerConfig") {
        assert!(is_there(&format!("handlers.on_it.{name}")), "{name}");
    }
}

#[test]
fn no_value_is_repeated_whatever_setting_it_was_put_into() {
    let properties = names().map(|name| format!("kafka.{name}"));
    let misspelt = ["kafka.sasl.passwd", "kafka.no.such.name", "no_such", "handlers.on_it.no_such"];
    let settings = SETTINGS.iter().map(ToString::to_string).chain(properties);
    for setting in settings.chain(misspelt.map(str::to_owned)) {
        let name = variable(&setting);
        for value in [
            CANARY.to_owned(),
            format!("1{CANARY}"),
            format!("postgres://u:{CANARY}@h:x/d"),
            format!("http://u:{CANARY}@h"),
        ] {
            let variables = [("KAFKA_BROKERS", "127.0.0.1:1"), (&*name, &*value)];
            let output = output(&variables);
            assert!(!output.contains(CANARY), "{setting}: {output}");
        }
    }
}

#[test]
fn no_value_is_repeated_of_a_file_whatever_is_wrong_with_it() {
    for text in [
        "database_url = \"postgres://u:CANARY@h/d",
        "database_url = postgres://u:CANARY@h/d",
        "[kafka]\nsasl.password = \"CANARY\"\nsasl = 5",
        "[kafka]\nsasl.passwd = \"CANARY\"",
        "[kafka]\nsasl.password = \"CANARY\" x",
        "[kafka]\nsasl.password = \"\"\"CANARY",
        "[kafka]\nsasl.password = \"\\qCANARY\"",
        "kafka = \"CANARY\"",
        "max_hops = [\"CANARY\"]",
        "max_hops = \"CANARY\"",
        "CANARY",
    ] {
        let text = format!("brokers = \"a:1\"\n{}\n", text.replace("CANARY", CANARY));
        let file = File::new(&text);
        let output = output(&[("ONCEWARD_CONFIG", file.0.to_str().unwrap())]);
        assert!(!output.contains(CANARY), "{text}: {output}");
    }
}

#[test]
fn properties_that_cannot_be_together_are_named_without_what_they_are_set_to() {
    for variables in [
        &[
            ("ONCEWARD_KAFKA__SASL_OAUTHBEARER_CONFIG", CANARY),
            ("ONCEWARD_KAFKA__SECURITY_PROTOCOL", "sasl_plaintext"),
        ][..],
        &[("ONCEWARD_KAFKA__PARTITION_ASSIGNMENT_STRATEGY", CANARY)],
        &[("ONCEWARD_KAFKA__PLUGIN_LIBRARY_PATHS", CANARY)],
        &[("ONCEWARD_KAFKA__SSL_CA_LOCATION", CANARY), ("ONCEWARD_KAFKA__SECURITY_PROTOCOL", "ssl")],
        &[("ONCEWARD_KAFKA__SSL_KEY_PEM", CANARY), ("ONCEWARD_KAFKA__SECURITY_PROTOCOL", "ssl")],
    ] {
        let output = output(&[&[("KAFKA_BROKERS", "127.0.0.1:1")], variables].concat());
        assert!(output.contains("setting `kafka") && !output.contains(CANARY), "{output}");
    }
}
