//! Gets the first argument of the command line, gives the command that it names, and what a command prints.

use crate::config::{DedupeKind, did_you_mean};
use crate::error::Error;
use std::collections::BTreeMap;
use std::fmt;

/// The usage text: `help` prints it, and an unknown command beside its error.
pub(crate) const USAGE: &str = "\
commands:
    run        consumes until SIGTERM or Ctrl-C; so does the program without a command
    check      does all checks of a start, and consumes nothing
    migrate    creates or updates Onceward's tables in PostgreSQL
    help       prints this

Settings come from the environment (ONCEWARD_.., KAFKA_BROKERS, DATABASE_URL, SCHEMA_REGISTRY_URL), from
the TOML file that ONCEWARD_CONFIG names, and from the code.";

const NAMES: [&str; 4] = ["run", "check", "migrate", "help"];

/// A command of a service's program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Run,
    Check,
    Migrate,
    Help,
}

impl Command {
    /// Reads the first argument.
    ///
    /// # Errors
    /// For a name that is no command.
    pub(crate) fn parse(argument: Option<&str>) -> Result<Self, Error> {
        match argument {
            None | Some("run") => Ok(Self::Run),
            Some("check") => Ok(Self::Check),
            Some("migrate") => Ok(Self::Migrate),
            Some("help" | "--help" | "-h") => Ok(Self::Help),
            Some(other) => {
                let near = did_you_mean(other.trim_start_matches('-'), NAMES);
                let names = NAMES.map(|name| format!("`{name}`")).join(", ");
                Err(Error::config(
                    "command",
                    format!("there is no command `{other}`; there are {names}{near}"),
                ))
            }
        }
    }
}

/// Prints the answer of a command.
#[allow(clippy::print_stdout, reason = "a command prints its answer")]
pub(crate) fn print(answer: impl fmt::Display) {
    println!("{answer}");
}

/// Prints the commands beside an error.
#[allow(clippy::print_stderr, reason = "a command says how it is used")]
pub(crate) fn print_usage_to_stderr() {
    eprintln!("{USAGE}\n");
}

/// The findings of a start's checks, for the command `check`.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) handlers: usize,
    pub(crate) groups: usize,
    /// How many partitions each topic has.
    pub(crate) topics: BTreeMap<String, i32>,
    pub(crate) patterns: Vec<String>,
    pub(crate) dedupe: DedupeKind,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partitions = self.topics.values().filter_map(|count| usize::try_from(*count).ok()).sum();
        write!(f, "ok: {}, {}, ", count(self.handlers, "handler"), count(self.groups, "group"))?;
        write!(f, "{}", count(partitions, "partition"))?;
        let topics: Vec<_> = self.topics.iter().map(|(topic, count)| format!("{topic}: {count}")).collect();
        if !topics.is_empty() {
            write!(f, " ({})", topics.join(", "))?;
        }
        if !self.patterns.is_empty() {
            let patterns = count(self.patterns.len(), "pattern");
            write!(f, ", {patterns} ({})", self.patterns.join(", "))?;
        }
        f.write_str(match self.dedupe {
            DedupeKind::Postgres => ", dedupe in PostgreSQL, whose tables are as this program needs them",
            DedupeKind::Memory => ", dedupe in memory, which a restart forgets",
            DedupeKind::Off => ", dedupe off: records are handled at least once",
        })
    }
}

/// The answer of `migrate`.
pub(crate) fn migrated(dedupe: DedupeKind) -> &'static str {
    match dedupe {
        DedupeKind::Postgres => "ok: Onceward's tables in PostgreSQL are as this program needs them",
        DedupeKind::Memory => "nothing to do: `dedupe` is `memory`, so Onceward has no tables",
        DedupeKind::Off => {
            "nothing to do: `dedupe` is `off`, so Onceward has no tables; it is `postgres` where `DATABASE_URL` is set"
        }
    }
}

fn count(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_known_by_its_name_and_a_misspelt_one_is_said_with_the_right_one() {
        assert_eq!(Command::parse(None).unwrap(), Command::Run);
        for help in ["help", "--help", "-h"] {
            assert_eq!(Command::parse(Some(help)).unwrap(), Command::Help);
        }
        for (misspelt, meant) in [("chek", "check"), ("--migrate", "migrate"), ("rnu", "run")] {
            let error = Command::parse(Some(misspelt)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{misspelt}`")), "{error}");
            assert!(error.ends_with(&format!("did you mean `{meant}`?")), "{error}");
        }
        for name in NAMES {
            assert!(USAGE.contains(&format!("\n    {name} ")), "{name}");
            assert!(Command::parse(Some(name)).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_check_says_what_it_has_found() {
        let mut found = Found {
            handlers: 1,
            groups: 1,
            topics: [("flights".to_owned(), 4)].into(),
            patterns: Vec::new(),
            dedupe: DedupeKind::Off,
        };
        let text = found.to_string();
        assert!(text.starts_with("ok: 1 handler, 1 group, 4 partitions (flights: 4), dedupe off"), "{text}");
        found.topics.insert("orders".to_owned(), 1);
        (found.handlers, found.patterns) = (3, vec!["^a-.*".to_owned()]);
        let text = found.to_string();
        let right =
            "ok: 3 handlers, 1 group, 5 partitions (flights: 4, orders: 1), 1 pattern (^a-.*), dedupe";
        assert!(text.starts_with(right), "{text}");
    }
}
