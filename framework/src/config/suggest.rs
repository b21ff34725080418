//! Finds the right name for a misspelt one.

/// The name that is nearest to a misspelt one, if one is near.
pub(super) fn nearest<'n>(misspelt: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let most = (misspelt.len() / 4).clamp(1, 4);
    let near = names.into_iter().map(|name| (distance(misspelt, name), name));
    near.filter(|(distance, _)| *distance <= most).min().map(|(_, name)| name)
}

/// `; did you mean ..?`, or nothing.
pub(crate) fn did_you_mean<'n>(misspelt: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    nearest(misspelt, names).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// How many letters have to be put in, taken out or changed, or swapped with the next one
/// (Damerau and Levenshtein's distance, without swapped letters that are changed again).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, against) in other.iter().enumerate() {
            let changed = above[column] + usize::from(letter != against);
            let mut least = changed.min(above[column + 1] + 1).min(line[column] + 1);
            let is_swapped =
                row > 0 && column > 0 && one[row - 1] == *against && *letter == other[column - 1];
            if is_swapped {
                least = least.min(before[column - 1] + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut above, line);
    }
    above[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["brokers", "drain_deadline", "dedupe_window", "max_hops"];
        for (misspelt, meant) in [
            ("broker", Some("brokers")),
            ("borkers", Some("brokers")),
            ("drain-deadline", Some("drain_deadline")),
            ("drain_dedline", Some("drain_deadline")),
            ("max_hop", Some("max_hops")),
            ("hops", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(misspelt, names), meant, "{misspelt}");
        }
    }
}
