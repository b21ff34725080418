//! The argument that a misspelled name means.

use super::table::ARGUMENTS;

/// The argument that is likely to be meant: at most a third of it is wrong.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let near = ARGUMENTS.iter().map(|argument| (edits(name, argument.name), argument.name));
    near.min().filter(|(edits, known)| *edits <= known.len().div_ceil(3)).map(|(_, known)| known)
}

/// How many letters to add, drop or change to make `to` of `from`.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_name_is_understood() {
        for (name, meant) in [
            ("gruop", "group"),
            ("topc", "topic"),
            ("Timeout", "timeout"),
            ("max_records", "max_run_records"),
        ] {
            assert_eq!(nearest(name), Some(meant), "{name}");
        }
        for name in ["retries", "x", "schema_registry"] {
            assert_eq!(nearest(name), None, "{name}");
        }
    }
}
