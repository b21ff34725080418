//! The operating guide quotes log lines as the code writes them.

use std::collections::BTreeSet;
use std::path::Path;

const GUIDE: &str = include_str!("../docs/operations.md");

/// All source files of the framework in one text, with each text literal in one line.
fn source() -> String {
    fn add(folder: &Path, all: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut all = String::new();
    add(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../framework/src"), &mut all);
    // A literal that is broken by a backslash goes on without what the next line begins with.
    let mut lines = all.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |whole, line| whole + line.trim_start())
}

/// The text of a code span, with one space for each of its line breaks.
fn code(span: &str) -> String {
    let span = span.trim().trim_matches('`');
    span.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a quoted line has between its `..`, which stand for words that differ each time.
fn fixed_words(line: &str) -> impl Iterator<Item = &str> {
    line.split("..").map(|words| words.trim_matches([' ', ';', ':', ','])).filter(|words| !words.is_empty())
}

/// The lines of the table of alarms.
fn of_the_table() -> Vec<String> {
    let (_, table) = GUIDE.split_once("| level | line | what it means | what to do |\n").unwrap();
    let rows = table.lines().skip(1).take_while(|row| row.starts_with('|'));
    rows.map(|row| code(row.split(" | ").nth(1).unwrap())).collect()
}

/// The lines that stand in a sentence with their level behind: `` `left out as duplicates` (INFO, ..``.
fn of_the_text() -> Vec<String> {
    let mut lines = Vec::new();
    for end in ["` (ERROR", "` (WARN", "` (INFO", "` (DEBUG", "`, INFO"] {
        for (before, _) in GUIDE.match_indices(end) {
            let before = &GUIDE[..before + 1];
            let ticks = before.len() - before.trim_end_matches('`').len();
            let inside = &before[..before.len() - ticks];
            let begin = inside.rfind(&"`".repeat(ticks)).unwrap() + ticks;
            lines.push(code(&inside[begin..]));
        }
    }
    lines
}

#[test]
fn each_line_that_the_guide_quotes_is_written_by_the_code() {
    let source = source();
    let (table, text) = (of_the_table(), of_the_text());
    assert!(table.len() > 15 && text.len() > 5, "{table:?} {text:?}");
    for line in table.iter().chain(&text) {
        for words in fixed_words(line) {
            assert!(source.contains(words), "no code writes `{words}`, which docs/operations.md quotes");
        }
    }
}

#[test]
fn the_guide_has_each_line_that_is_logged_as_an_error() {
    let (source, guide) = (source(), code(GUIDE));
    let mut lines = BTreeSet::new();
    for call in source.split("tracing::error!(").skip(1) {
        let (call, _) = call.split_once(");").unwrap();
        let text = call.trim_end().trim_end_matches(',').trim_end().strip_suffix('"').and_then(|call| {
            let (_, text) = call.rsplit_once('"')?;
            // The others are sentences that are put together, such as those of conditions.
            (!text.contains('{')).then(|| text.to_owned())
        });
        lines.extend(text);
    }
    assert!(lines.len() > 3, "{lines:?}");
    for line in lines {
        // The guide may leave the end of a line out.
        let begin = line.split([';', ':']).next().unwrap_or_default();
        let begin: String = begin.chars().take(40).collect();
        assert!(guide.contains(&begin), "docs/operations.md does not have the ERROR `{line}`");
    }
}
