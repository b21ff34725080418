//! What people write is taken as they write it, and what is wrong is placed.

use super::{File, from, refused};
use crate::config::{Config, DedupeKind, Guarantee, HeaderFamily, OutOfRange, Start};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

#[test]
fn a_text_stays_the_text_that_was_typed() {
    for text in
        ["007", "+49123", "0", "true", "1e3", "0x10", " padded ", "\"quoted\"", "2024-01-01", "[a]", "a,b"]
    {
        let config = from(&[
            ("ONCEWARD_KAFKA__SASL_PASSWORD", text),
            ("ONCEWARD_INSTANCE_ID", text),
            ("ONCEWARD_HANDLERS__X__GROUP", text),
            ("ONCEWARD_HANDLERS__X__DEAD_LETTER", text),
        ])
        .unwrap();
        assert_eq!(config.kafka["sasl.password"], text);
        assert_eq!(config.instance_id.as_deref(), Some(text));
        assert_eq!(config.handlers["x"].group.as_deref(), Some(text));
        assert_eq!(config.handlers["x"].dead_letter.as_deref(), Some(text));
    }
}

#[test]
fn a_number_or_a_boolean_of_a_file_is_a_text_where_a_text_is_wanted() {
    for text in ["123456", "+49123", "1_000", "true", "0x1F", "0.50", "1e3", "2024-01-01"] {
        let file =
            format!("instance_id = {text}\n[kafka]\n\"client.id\" = {text}\n[handlers.x]\ngroup = {text}");
        let config = File::read(&file).unwrap();
        assert_eq!(config.instance_id.as_deref(), Some(text));
        assert_eq!(config.kafka["client.id"], text);
        assert_eq!(config.handlers["x"].group.as_deref(), Some(text));
    }
    let error = File::refused("brokers = \"a:1\"\ninstance_id = 007\n");
    assert!(error.contains("line 2 of") && error.contains("in quotes"), "{error}");
}

#[test]
fn the_field_decides_how_a_text_is_read() {
    let config = from(&[
        ("ONCEWARD_MAX_RUN_RECORDS", " 1_000 "),
        ("ONCEWARD_MAX_HOPS", "+5"),
        ("ONCEWARD_MIGRATE", "1"),
        ("ONCEWARD_DEDUPE_WINDOW_SHORTER_THAN_RETENTION", "No"),
        ("ONCEWARD_DEDUPE", "Memory"),
        ("ONCEWARD_OUT_OF_RANGE", "LATEST"),
        ("ONCEWARD_START", "Earliest"),
        ("ONCEWARD_DRAIN_DEADLINE", " 2s\n"),
        ("ONCEWARD_HANDLERS__X__GUARANTEE", "at-least-once"),
    ])
    .unwrap();
    assert_eq!((config.max_run_records, config.max_hops), (Some(1000), Some(5)));
    assert_eq!((config.migrate, config.dedupe_window_shorter_than_retention), (Some(true), Some(false)));
    assert_eq!((config.dedupe, config.out_of_range), (Some(DedupeKind::Memory), Some(OutOfRange::Latest)));
    assert_eq!((config.start, config.drain_deadline), (Some(Start::Earliest), Some(Duration::from_secs(2))));
    assert_eq!(config.handlers["x"].guarantee, Some(Guarantee::AtLeastOnce));
}

#[test]
fn a_list_has_commas_or_is_one_of_a_file() {
    let families = |text| from(&[("ONCEWARD_DEAD_LETTER__HEADERS", text)]).unwrap().dead_letter.headers;
    let both = Some(vec![HeaderFamily::Spring, HeaderFamily::Connect]);
    for text in ["spring,connect", " Spring , connect,", "[\"spring\", 'connect']"] {
        assert_eq!(families(text), both, "{text}");
    }
    assert_eq!(families(""), Some(vec![]));
    for file in ["[\"spring\", \"connect\"]", "\"spring, connect\""] {
        let config = File::read(&format!("[dead_letter]\nheaders = {file}")).unwrap();
        assert_eq!(config.dead_letter.headers, both, "{file}");
    }
    let config = from(&[("ONCEWARD_DEAD_LETTER__DROP_HEADERS", "Authorization,cookie")]).unwrap();
    assert_eq!(config.dead_letter.drop_headers, ["Authorization", "cookie"]);
    let error = refused(&[("ONCEWARD_DEAD_LETTER__HEADERS", "spring,conect")]);
    assert!(error.contains("`ONCEWARD_DEAD_LETTER__HEADERS`") && error.contains("`connect`"), "{error}");
}

#[test]
fn dotted_names_are_properties_and_handlers_with_or_without_quotes() {
    let config = File::read(
        "[kafka]\nfetch.wait.max.ms = 100\nsasl.username = \"x\"\n\"client.id\" = \"y\"\n[kafka.session]\n\
         timeout.ms = 6_000\n[handlers.orders.v2]\ntopic = \"t\"\n[handlers.\"orders.v3\"]\ntopic = \"t\"\n",
    )
    .unwrap();
    assert_eq!(config.kafka["fetch.wait.max.ms"], "100");
    assert_eq!(config.kafka["sasl.username"], "x");
    assert_eq!(config.kafka["client.id"], "y");
    assert_eq!(config.kafka["session.timeout.ms"], "6_000");
    assert_eq!(config.handlers.keys().collect::<Vec<_>>(), ["orders.v2", "orders.v3"]);
    let flat = File::read("dead_letter.create = false\n\"dead_letter.check\" = false").unwrap();
    assert_eq!((flat.dead_letter.create, flat.dead_letter.check), (Some(false), Some(false)));
}

#[test]
fn the_environment_is_stronger_than_the_file_whatever_a_name_is_spelt_like() {
    let file = File::new(
        "[kafka]\nrequest.required.acks = 1\nfetch.wait.max.ms = 5\n[handlers.OnUpper]\ntopic = \"t\"\ngroup = \"g\"",
    );
    let config = from(&[
        ("ONCEWARD_CONFIG", file.0.to_str().unwrap()),
        ("ONCEWARD_KAFKA__ACKS", "all"),
        ("ONCEWARD_KAFKA__FETCH_WAIT_MAX_MS", "7"),
        ("ONCEWARD_HANDLERS__ONUPPER__GROUP", "other"),
    ])
    .unwrap();
    assert_eq!(config.kafka.get("acks").map(String::as_str), Some("all"));
    assert_eq!((config.kafka.len(), &*config.kafka["fetch.wait.max.ms"]), (2, "7"));
    let handler = &config.handlers["OnUpper"];
    assert_eq!((handler.topic.as_deref(), handler.group.as_deref()), (Some("t"), Some("other")));
    assert_eq!(config.handlers.len(), 1);
}

#[test]
fn settings_of_one_handler_are_put_together_setting_by_setting() {
    let strong = from(&[("ONCEWARD_HANDLERS__ONUPPER__GROUP", "strong")]).unwrap();
    let weak = File::read("[handlers.OnUpper]\ngroup = \"weak\"\ntopic = \"t\"").unwrap();
    let config = strong.over(weak);
    let handler = &config.handlers["onupper"];
    assert_eq!((handler.topic.as_deref(), handler.group.as_deref()), (Some("t"), Some("strong")));
    assert_eq!(config.handlers.len(), 1);
}

#[test]
fn our_own_variable_is_stronger_than_one_that_others_read_too() {
    for (shared, ours) in [("KAFKA_BROKERS", "ONCEWARD_BROKERS"), ("DATABASE_URL", "ONCEWARD_DATABASE_URL")] {
        for variables in [[(shared, "theirs"), (ours, "ours")], [(ours, "ours"), (shared, "theirs")]] {
            let config = from(&variables).unwrap();
            let given = [config.brokers, config.database_url].into_iter().flatten().collect::<Vec<_>>();
            assert_eq!(given, ["ours"]);
        }
        let config = from(&[(shared, "")]).unwrap();
        assert_eq!((config.brokers, config.database_url), (None, None));
    }
    #[cfg(feature = "schemas")]
    {
        let both = [("SCHEMA_REGISTRY_URL", "theirs"), ("ONCEWARD_SCHEMA_REGISTRY__URL", "ours")];
        assert_eq!(from(&both).unwrap().schema_registry.url.as_deref(), Some("ours"));
        assert_eq!(from(&both[..1]).unwrap().schema_registry.url.as_deref(), Some("theirs"));
    }
}

#[test]
fn a_variable_that_is_not_utf8_matters_only_if_it_is_ours() {
    let read = |name: &[u8]| {
        let name = OsString::from_vec(name.to_vec());
        Config::from_sources(std::iter::once((name, OsString::from_vec(vec![0xff]))))
    };
    assert!(read(b"X").is_ok() && read(b"\xff").is_ok());
    for name in ["ONCEWARD_DRAIN_DEADLINE", "ONCEWARD_KAFKA__SASL_PASSWORD", "DATABASE_URL"] {
        let error = read(name.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(&format!("variable `{name}`")) && error.contains("UTF-8"), "{error}");
    }
    assert!(read(b"ONCEWARD_\xff").unwrap_err().to_string().contains("ONCEWARD_"));
}

#[test]
fn what_kubernetes_says_of_a_service_is_no_setting_and_no_misspelt_one_either() {
    assert!(from(&[("ONCEWARD_SERVICE_HOST", "10.0.0.1"), ("ONCEWARD_PORT", "tcp://10.0.0.1:80")]).is_ok());
    assert!(refused(&[("ONCEWARD_PORT", "80")]).contains("variable `ONCEWARD_PORT`"));
}

#[test]
fn an_error_names_the_variable_or_the_line_and_what_was_meant() {
    let brokers = ("KAFKA_BROKERS", "a:1");
    for (variable, value, says) in [
        ("ONCEWARD_DRAIN_DEADLIN", "2s", "did you mean `drain_deadline`?"),
        ("ONCEWARD_HANDLERS__X__TOPICK", "t", "did you mean `topic`?"),
        ("ONCEWARD_KAFKA_SASL_PASSWORD", "hunter2", "`ONCEWARD_KAFKA__..`"),
        ("ONCEWARD_KAFKA", "hunter2", "is a section"),
        ("ONCEWARD_DEAD_LETTER", "hunter2", "is a section"),
        ("ONCEWARD_BROKERS__X", "hunter2", "no section"),
        ("ONCEWARD_MAX_HOPS", "hunter2", "must be a whole number"),
        ("ONCEWARD_MAX_HOPS", "-1", "must be from 0 to 4294967295"),
        ("ONCEWARD_MIGRATE", "hunter2", "`true` or `false`"),
        ("ONCEWARD_DRAIN_DEADLINE", "2 hunter2", "`7days`"),
        ("ONCEWARD_START", "offset:hunter2", "`offset:N`"),
        ("ONCEWARD_START", "earlist", "did you mean `earliest`?"),
        ("ONCEWARD_HANDLERS__X__ORDER", "keys", "did you mean `key`?"),
        ("ONCEWARD_DEDUPE", "postgress", "did you mean `postgres`?"),
        ("ONCEWARD_MAX_CONNECTIONS", "0", "at least 1"),
        ("ONCEWARD_KAFKA__ACKS", "0", "would undo a promise"),
    ] {
        let variables = [brokers, (variable, value)];
        let error = refused(&variables);
        assert!(error.contains(&format!("variable `{variable}`")), "{error}");
        assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
    }
    for (file, says) in [
        ("\ndrain_dedline = \"1s\"", "did you mean `drain_deadline`?"),
        ("brokers = \"a:1\"\nkafka.acks = 1", "would undo a promise"),
        ("[dead_letter]\nheaders = [\"hunter2\"]", "must be one of `spring`"),
        ("[handlers.x]\ntopic = [\"hunter2\"]", "must be one text"),
        ("\nbrokers = [{ a = \"hunter2\" }]", "a list of texts"),
        ("\n[kafka]\nx.y = 1\n\"x.y\" = 2", "line 3"),
        ("\ndatabase_url = \"postgres://u:hunter2@h/d", "is not TOML"),
        ("\nbrokers = hunter2", "in quotes"),
    ] {
        let error = File::refused(&format!("{file}\n"));
        let line = if file.contains("x.y") { 4 } else { 2 };
        assert!(error.contains(&format!("line {line} of `")), "{error}");
        assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
    }
}
