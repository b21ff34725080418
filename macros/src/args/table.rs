//! The attribute's arguments, one row each. What is read, what is said where it is wrong, the setter that gets it, its
//! row in the guide, and the tests of all that come out of this table.

use super::value::{Value, Values};

/// An argument of the attribute.
#[cfg_attr(not(test), allow(dead_code, reason = "the guide is compared with the table"))]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// How it is written. What stands in backquotes is an example.
    pub(super) form: &'static str,
    /// The method of `Settings` that gets each of its values, if there is one.
    pub(super) setter: Option<&'static str>,
    pub(super) read: fn(&Value) -> Values,
    /// What it means, and what holds without it, as the guide has it.
    pub(super) meaning: &'static str,
    pub(super) default: &'static str,
}

macro_rules! rows {
    ($($name:ident => $setter:expr, $read:expr, $form:literal, $meaning:literal, $default:literal;)+) => {
        pub(super) const ARGUMENTS: &[Row] = &[$(Row {
            name: stringify!($name),
            form: $form,
            setter: $setter,
            read: $read,
            meaning: $meaning,
            default: $default,
        }),+];
    };
}

rows! {
    topic => Some("topic"), Value::topic,
        r#"`topic = "flights"`, or `topics = ["..", ".."]` for several"#,
        "the topic to read; a pattern of topics starts with `^`, is a regular expression of Rust's, and matches no dead-letter topics (`.dlq`)",
        "";
    topics => Some("topic"), Value::topics,
        r#"`topics = ["flights", "^flights-.*"]`"#,
        r#"several of these: `topics = ["flights", "^flights-.*"]`"#,
        "";
    group => Some("group"), Value::text,
        r#"`group = "totals"`"#,
        "the consumer group; handlers of one group share one consumer",
        "to be set with [`Route::group`](crate::Route::group) or in the configuration";
    name => None, Value::text,
        r#"`name = "totals"`"#,
        "the handler's name in the configuration, in logs, and in what is noted as done",
        "the function's name";
    event => Some("event"), Value::text,
        r#"`event = "flight.departed"`"#,
        "the event type that it takes; other handlers of the group may take others of the same topic. See [`EventType`](crate::EventType)",
        "all records";
    timeout => Some("timeout"), Value::duration,
        r#"`timeout = "30s"`: a number with a unit, such as `500ms`, `5s`, `7days`"#,
        r#"how long one call may take. A duration is a number with a unit, as in `"500ms"`, `"30s"`, `"1min 30s"`, `"7days"`, here as in a file and in the environment"#,
        "no limit";
    identity => Some("identity"), Value::identity,
        r#"`identity = header("event-id")`, `identity = function(path::to::function)`, `identity = cloudevents`, `identity = position`, or one of them `in_each_topic(..)`"#,
        "what tells one event from another, see below",
        "`cloudevents`";
    formerly => Some("formerly"), Value::texts,
        r#"`formerly = "old_name"`, or `formerly = ["..", ".."]` for several"#,
        "a name that the handler had before, or a list of them; may be repeated",
        "";
    tombstones => Some("tombstones"), Value::tombstones,
        r#"`tombstones = "skip"` or `tombstones = "handle"`"#,
        r#"`"handle"` hands records with a null value to the extractors, which reject them unless they take an `Option`; `"skip"` skips them"#,
        r#"`"handle"`"#;
    order => Some("order"), Value::order,
        r#"`order = "key"`, `order = "none"` or `order = "partition"`"#,
        r#"which records are handled in order: `"partition"`, `"key"` or `"none"`; see [`Order`](crate::Order)"#,
        r#"`"partition"`"#;
    guarantee => Some("guarantee"), Value::guarantee,
        r#"`guarantee = "at_least_once"` or `guarantee = "at_most_once_losing_work_in_flight"`"#,
        "how often a record is handled, whatever ends the process; see [`Guarantee`](crate::Guarantee)",
        r#"`"at_least_once"`"#;
    concurrency => Some("concurrency"), Value::count::<usize>,
        "`concurrency = 64`: a whole number of at least 1",
        "how many of the topic's handlers run at once in the process, where the order is by key or none",
        "64";
    max_run_records => Some("max_run_records"), Value::count::<usize>,
        "`max_run_records = 500`: a whole number of at least 1",
        "the most records of a run, which is the most that a batch holds",
        "the setting of the same name";
    max_attempts => Some("max_attempts"), Value::count::<u32>,
        "`max_attempts = 5`: a whole number of at least 1, the first attempt included",
        "how often a failed record is tried, the first attempt included",
        "12";
    max_elapsed => Some("max_elapsed"), Value::duration,
        r#"`max_elapsed = "1m"`: a number with a unit, such as `500ms`, `5s`, `7days`"#,
        "no attempt begins later than this after the first failure",
        r#"`"1m"`"#;
    backoff => Some("backoff"), Value::duration,
        r#"`backoff = "10ms"`: a number with a unit, such as `500ms`, `5s`, `7days`"#,
        "the longest delay before the second attempt, which doubles from attempt to attempt",
        r#"`"1ms"`"#;
    max_backoff => Some("max_backoff"), Value::duration,
        r#"`max_backoff = "10s"`: a number with a unit, such as `500ms`, `5s`, `7days`"#,
        "the longest delay of all",
        r#"`"10s"`"#;
    dead_letter => Some("dead_letter"), Value::topic_name,
        r#"`dead_letter = "flights.dlq"`, or `dead_letter = "none"`"#,
        r#"the topic for records that were given up; with `"none"` they hold their partition"#,
        "`<topic>.dlq`";
    rejected => Some("rejected"), Value::topic_name,
        r#"`rejected = "flights.rejected"`"#,
        "a topic of its own for records that do not decode",
        "as `dead_letter`";
    max_starts => Some("max_starts"), Value::count::<u32>,
        "`max_starts = 3`: a whole number of at least 1",
        "how often the process may end while it tries one record",
        "3";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_a_row_for_each_argument_and_no_other() {
        let guide = include_str!("../../../framework/src/docs/handler.md");
        let (_, table) = guide.split_once("| argument | value | default |\n|---|---|---|\n").unwrap();
        let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
        let right = ARGUMENTS.iter().map(|Row { name, meaning, default, .. }| {
            let default = if default.is_empty() { " ".to_owned() } else { format!(" {default} ") };
            format!("| `{name}` | {meaning} |{default}|")
        });
        assert_eq!(rows, right.collect::<Vec<_>>());
    }
}
