//! A part of the flights, the same for a topic and for its truth.

use crate::Result;
use crate::args::Args;
use crate::flight::{Row, Rows};
use md5::{Digest, Md5};

/// Rows `from..to` of the keys that the sample takes, each with all its rows, so
/// that the truth of what was taken can be computed.
#[derive(Debug)]
pub(crate) struct Selection {
    from: usize,
    to: usize,
    one_key_in: u64,
    seed: u64,
}

impl Selection {
    pub(crate) const ALL: Self = Self { from: 0, to: usize::MAX, one_key_in: 1, seed: 0 };

    pub(crate) fn from_args(args: &Args) -> Result<Self> {
        let selection = Self {
            from: args.number("--from", 0)?.unwrap_or(Self::ALL.from),
            to: args.number("--to", 0)?.unwrap_or(Self::ALL.to),
            one_key_in: args.number("--sample", 1)?.unwrap_or(Self::ALL.one_key_in),
            seed: seed(args)?,
        };
        if selection.from > selection.to {
            return Err(format!(
                "`--from {}` lies behind `--to {}`, so no row is selected",
                selection.from, selection.to
            ));
        }
        Ok(selection)
    }

    /// Calls `each` for the selected rows of the file at `path`, until it fails.
    pub(crate) fn each(&self, path: &str, mut each: impl FnMut(Row<'_>) -> Result<()>) -> Result<()> {
        let mut rows = Rows::open(path)?;
        let mut number = 0;
        while number < self.to
            && let Some(row) = rows.next()?
        {
            if number >= self.from && self.takes(row.tailnum) {
                each(row)?;
            }
            number += 1;
        }
        Ok(())
    }

    fn takes(&self, key: &str) -> bool {
        self.one_key_in == 1 || draw(self.seed, key).is_multiple_of(self.one_key_in)
    }
}

pub(crate) fn seed(args: &Args) -> Result<u64> {
    Ok(args.number("--seed", 0)?.unwrap_or(0))
}

/// A random number that `seed` and `what` alone decide, whatever was drawn before.
pub(crate) fn draw(seed: u64, what: &str) -> u64 {
    let digest = Md5::new().chain_update(seed.to_be_bytes()).chain_update(what).finalize();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::DATA;
    use std::collections::BTreeSet;

    fn keys(selection: &Selection) -> Vec<String> {
        let mut keys = Vec::new();
        let each = |row: Row<'_>| {
            keys.push(row.tailnum.to_owned());
            Ok(())
        };
        selection.each(DATA, each).unwrap();
        keys
    }

    #[test]
    fn a_sample_takes_the_same_share_of_keys_each_time_and_others_with_another_seed() {
        let sample = |one_key_in, seed| -> BTreeSet<_> {
            keys(&Selection { from: 0, to: 20_000, one_key_in, seed }).into_iter().collect()
        };
        let share = sample(1, 0).len() / sample(5, 1).len();
        assert!((4..=6).contains(&share), "one in {share}");
        assert_eq!(sample(5, 1), sample(5, 1));
        assert_ne!(sample(5, 1), sample(5, 2));
    }

    #[test]
    fn a_range_starts_with_the_first_and_ends_before_the_last() {
        let selection = Selection { from: 2, to: 4, one_key_in: 1, seed: 0 };
        assert_eq!(keys(&selection), ["N619AA", "N804JB"]);
    }
}
