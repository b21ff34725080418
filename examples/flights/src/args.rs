//! The arguments of a command: at most one operand, and options.

use crate::Result;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The arguments that a command takes.
pub(crate) struct Options {
    /// The operand's name, if it takes one.
    pub(crate) operand: Option<&'static str>,
    /// Options without a value.
    pub(crate) flags: &'static [&'static str],
    /// Options with a value.
    pub(crate) values: &'static [&'static str],
}

/// The arguments that a command was given.
#[derive(Debug, Default)]
pub(crate) struct Args {
    operand: Option<String>,
    options: BTreeMap<String, String>,
}

impl Args {
    pub(crate) fn parse(args: &[String], allowed: &Options) -> Result<Self> {
        let mut parsed = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if allowed.values.contains(&arg.as_str()) {
                let value = args.next().ok_or_else(|| format!("`{arg}` needs a value"))?;
                parsed.set(arg, value)?;
            } else if allowed.flags.contains(&arg.as_str()) {
                parsed.set(arg, "")?;
            } else if arg.starts_with('-') {
                return Err(format!("there is no option `{arg}` here: this command takes {allowed}"));
            } else if allowed.operand.is_none() || parsed.operand.is_some() {
                return Err(format!("`{arg}` is too much: this command takes {allowed}"));
            } else {
                parsed.operand = Some(arg.clone());
            }
        }
        Ok(parsed)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<()> {
        match self.options.insert(option.to_owned(), value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(format!("`{option}` is given twice")),
        }
    }

    pub(crate) fn operand(&self) -> Option<&str> {
        self.operand.as_deref()
    }

    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    /// The option's text.
    pub(crate) fn text(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(String::as_str)
    }

    /// Whether `--format` says Avro and not JSON.
    pub(crate) fn is_avro(&self) -> Result<bool> {
        match self.text("--format") {
            None | Some("json") => Ok(false),
            Some("avro") => Ok(true),
            Some(other) => Err(format!("`--format {other}` is wrong: give `json` or `avro`")),
        }
    }

    /// The option's value, a whole number of at least `least`.
    pub(crate) fn number<T>(&self, option: &str, least: T) -> Result<Option<T>>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let Some(text) = self.text(option) else { return Ok(None) };
        match text.parse() {
            Ok(number) if number >= least => Ok(Some(number)),
            _ => Err(format!("`{option} {text}` is wrong: give a whole number, {least} or more")),
        }
    }

    /// The option's value, a share in percent.
    pub(crate) fn percent(&self, option: &str) -> Result<Option<f64>> {
        let Some(text) = self.text(option) else { return Ok(None) };
        match text.parse() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Some(percent)),
            _ => Err(format!("`{option} {text}` is wrong: give a number from 0 to 100")),
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self
            .operand
            .iter()
            .chain(self.flags)
            .chain(self.values)
            .map(|name| format!("`{name}`"))
            .collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options =
        Options { operand: Some("FILE"), flags: &["--batch"], values: &["--rate", "--seed"] };

    fn parse(args: &str) -> Result<Args> {
        Args::parse(&args.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), &OPTIONS)
    }

    #[test]
    fn an_operand_a_flag_and_a_value_are_found_in_any_order() {
        let args = parse("--rate 7 file.csv --batch").unwrap();
        assert_eq!(args.operand(), Some("file.csv"));
        assert_eq!(args.number("--rate", 1), Ok(Some(7)));
        assert_eq!(args.percent("--rate"), Ok(Some(7.0)));
        assert_eq!(args.number("--seed", 0), Ok(None));
        assert!(args.has("--batch"));
    }

    #[test]
    fn wrong_use_is_refused_with_the_word_that_is_wrong() {
        for (args, message) in [
            (
                "--fast",
                "there is no option `--fast` here: this command takes `FILE`, `--batch`, `--rate`, `--seed`",
            ),
            ("a b", "`b` is too much: this command takes `FILE`, `--batch`, `--rate`, `--seed`"),
            ("--rate", "`--rate` needs a value"),
            ("--rate 1 --rate 2", "`--rate` is given twice"),
        ] {
            assert_eq!(parse(args).unwrap_err(), message);
        }
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_would_be_right() {
        let args = parse("--rate 0 --seed 101").unwrap();
        assert_eq!(
            args.number("--rate", 1).unwrap_err(),
            "`--rate 0` is wrong: give a whole number, 1 or more"
        );
        assert_eq!(args.percent("--seed").unwrap_err(), "`--seed 101` is wrong: give a number from 0 to 100");
    }
}
