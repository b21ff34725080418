//! The structure of framework/src: which folder uses which. `make structure` prints it.
//!
//! An arrow goes from the folder that names something to the folder in which it is defined, or that hands it on; and from
//! the folder of a type to one that has methods of it, which can be called without being named.
//! Tests count for nothing, and neither do the files that are the crate's face and name all of it.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // In tests a panic is the report, and so is what is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const FACE: [&str; 3] = ["lib.rs", "prelude.rs", "__private.rs"];

#[test]
fn no_folders_use_each_other_in_a_circle() {
    let source = Source::read();
    let arrows = source.arrows();
    let floors = floors(&arrows);
    print(&arrows, &floors);
    let on_floors: usize = floors.iter().map(Vec::len).sum();
    let in_circles: Vec<_> =
        arrows.keys().filter(|folder| !floors.iter().flatten().any(|other| other == *folder)).collect();
    assert_eq!(
        on_floors,
        arrows.len(),
        "in or below a circle: {in_circles:?}; `make structure` says by which names"
    );
}

#[test]
fn lib_rs_is_a_table_of_contents() {
    let source = Source::read();
    let top = source.files.iter().filter(|file| file.path.components().count() == 1).count();
    assert!(top <= 12, "{top} files directly in framework/src");
    let lib = source.file("lib.rs");
    let modules = lib.code.lines().filter(|line| line.trim_start_matches("pub ").starts_with("mod ")).count();
    assert!(modules <= 20, "{modules} `mod` lines in lib.rs");
}

#[test]
fn all_of_librdkafka_is_in_the_folder_kafka_and_unsafe_code_there_and_in_the_signal_handler() {
    for file in Source::read().files.iter().filter(|file| file.folder() != "kafka") {
        for word in words(&file.code) {
            let is_unsafe = word == "unsafe" && file.path != Path::new("app/signals.rs");
            let is_librdkafka = matches!(word, "rdkafka" | "rdkafka_sys");
            assert!(!is_unsafe && !is_librdkafka, "{}: {word}", file.path.display());
        }
    }
}

/// Who uses whom, by which names.
type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

struct Source {
    files: Vec<File>,
    /// What lib.rs hands on, and what is exported as a macro, with its folder.
    public: BTreeMap<String, String>,
}

struct File {
    /// In framework/src.
    path: PathBuf,
    /// Without comments, texts and tests.
    code: String,
}

impl Source {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../framework/src");
        let mut files = Vec::new();
        read_into(&root, Path::new(""), &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut public = BTreeMap::new();
        let mut source = Self { files, public: BTreeMap::new() };
        for path in uses(&source.file("lib.rs").code) {
            if let (Some(first), Some(last)) = (path.first(), path.last()) {
                public.insert(last.clone(), first.clone());
            }
        }
        for file in &source.files {
            for (_, after) in file.code.match_indices("#[macro_export]").map(|(at, _)| file.code.split_at(at))
            {
                let mut words = words(after).skip_while(|word| *word != "macro_rules");
                if let Some(name) = words.nth(1) {
                    public.insert(name.to_owned(), file.folder().to_owned());
                }
            }
        }
        source.public = public;
        source
    }

    fn file(&self, path: &str) -> &File {
        self.files.iter().find(|file| file.path == Path::new(path)).unwrap_or_else(|| panic!("no {path}"))
    }

    fn arrows(&self) -> Arrows {
        let inner: Vec<&File> = self.files.iter().filter(|file| !file.is_face()).collect();
        let folders: BTreeSet<&str> = inner.iter().map(|file| file.folder()).collect();
        let mut arrows: Arrows =
            folders.iter().map(|folder| ((*folder).to_owned(), BTreeMap::new())).collect();
        for file in inner {
            for path in file.paths() {
                let Some(first) = path.first() else { continue };
                let to = match folders.get(&**first) {
                    Some(folder) => (*folder).to_owned(),
                    None => match self.public.get(first) {
                        Some(folder) => folder.clone(),
                        None => panic!("{}: what is `crate::{}`?", file.path.display(), path.join("::")),
                    },
                };
                if to != file.folder() && folders.contains(&*to) {
                    let names = arrows.entry(file.folder().to_owned()).or_default().entry(to).or_default();
                    names.insert(path.last().cloned().unwrap_or_default());
                }
            }
        }
        for (owner, user, ty) in self.foreign_methods() {
            arrows.entry(owner).or_default().entry(user).or_default().insert(format!("impl {ty}"));
        }
        arrows
    }

    /// Types that have methods in another folder: theirs, that folder, and their names.
    fn foreign_methods(&self) -> Vec<(String, String, String)> {
        let mut owners: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        let inner: Vec<(&File, Vec<&str>)> =
            self.files.iter().filter(|file| !file.is_face()).map(|file| (file, tokens(&file.code))).collect();
        for (file, tokens) in &inner {
            for pair in tokens.windows(2).filter(|pair| matches!(pair[0], "struct" | "enum")) {
                owners.entry(pair[1].to_owned()).or_default().insert(file.folder());
            }
        }
        let mut found = Vec::new();
        for (file, tokens) in &inner {
            for ty in own_impls(tokens) {
                let Some(owners) = owners.get(ty).filter(|owners| !owners.contains(file.folder())) else {
                    continue;
                };
                found.extend(
                    owners.iter().map(|owner| ((*owner).to_owned(), file.folder().to_owned(), ty.to_owned())),
                );
            }
        }
        found
    }
}

/// The types of a file's `impl` blocks that are of no trait.
fn own_impls<'t>(tokens: &[&'t str]) -> Vec<&'t str> {
    let mut types = Vec::new();
    for start in (0..tokens.len()).filter(|place| tokens[*place] == "impl") {
        let (mut depth, mut last) = (0, "");
        for token in &tokens[start + 1..] {
            match *token {
                "<" => depth += 1,
                ">" => depth -= 1,
                // A trait's, or no block at all.
                "for" | "(" | ")" | "," | "=" | "&" | "+" | ";" if depth == 0 => break,
                "{" | "where" if depth == 0 => {
                    types.push(last);
                    break;
                }
                name if depth == 0 => last = name,
                _ => {}
            }
        }
    }
    types
}

fn read_into(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let path = folder.join(entry.unwrap().file_name());
        let name = path.file_stem().unwrap().to_str().unwrap();
        // Test code, by its name or by the `cfg` on its module.
        if matches!(name, "tests" | "fuzzing") {
            continue;
        }
        if root.join(&path).is_dir() {
            read_into(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let code = without_tests(&without_texts(&fs::read_to_string(root.join(&path)).unwrap()));
            files.push(File { path, code });
        }
    }
}

impl File {
    fn is_face(&self) -> bool {
        FACE.iter().any(|face| self.path == Path::new(face))
    }

    /// The first part of its path: a folder, or a file that is one by itself.
    fn folder(&self) -> &str {
        let first = self.path.iter().next().and_then(|first| first.to_str()).unwrap_or_default();
        first.trim_end_matches(".rs")
    }

    /// How many `super` lead to the root.
    fn depth(&self) -> usize {
        let is_mod = self.path.file_name().is_some_and(|name| name == "mod.rs");
        self.path.components().count() - usize::from(is_mod)
    }

    /// All that it names by a path from the crate's root.
    fn paths(&self) -> Vec<Vec<String>> {
        let tokens = tokens(&self.code);
        let mut paths = Vec::new();
        let mut place = 0;
        while place < tokens.len() {
            let is_start = place == 0 || tokens[place - 1] != "::";
            let supers = tokens[place..].chunks(2).take_while(|pair| matches!(pair, ["super", "::"])).count();
            if is_start && tokens[place] == "crate" && tokens.get(place + 1) == Some(&"::") {
                expand(&tokens[place + 2..], &[], &mut paths);
            } else if is_start && supers > 0 && supers >= self.depth() {
                expand(&tokens[place + 2 * supers..], &[], &mut paths);
            }
            place += 1 + 2 * supers.saturating_sub(1);
        }
        paths
    }
}

/// What the `pub use` lines of a file name.
fn uses(code: &str) -> Vec<Vec<String>> {
    let tokens = tokens(code);
    let mut paths = Vec::new();
    for place in (0..tokens.len()).filter(|place| tokens[*place] == "use") {
        expand(&tokens[place + 1..], &[], &mut paths);
    }
    paths
}

/// Reads a path, or a tree of them as `use` has it. Gives how many tokens it has.
fn expand(tokens: &[&str], before: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    let mut place = 0;
    loop {
        match tokens.get(place) {
            Some(&"{") => {
                place += 1;
                while tokens.get(place).is_some_and(|token| *token != "}") {
                    place += expand(&tokens[place..], &path, paths).max(1);
                }
                return place + 1;
            }
            Some(name) if is_name(name) && *name != "as" => path.push((*name).to_owned()),
            _ => break,
        }
        place += 1;
        if tokens.get(place) != Some(&"::") {
            break;
        }
        place += 1;
    }
    if tokens.get(place) == Some(&"as") {
        place += 2;
    }
    paths.push(path);
    place
}

fn is_name(token: &str) -> bool {
    token.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_')
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    tokens(code).into_iter().filter(|token| is_name(token))
}

/// Names, `::`, and single characters.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let length = match first {
            _ if is_part(first) => rest.find(|c| !is_part(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Code without its comments and texts.
fn without_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let before = code.chars().next_back();
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            'r' if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') => raw_text(rest),
            '"' => 1 + text_end(&rest[1..], '"'),
            // A lifetime ends with no quote.
            '\'' if rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'') => {
                1 + text_end(&rest[1..], '\'')
            }
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// The length of a text that begins with `r"` or `r#"`, 0 if it is none.
fn raw_text(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
}

/// How far it is past the end of a text.
fn text_end(text: &str, end: char) -> usize {
    let mut is_escaped = false;
    for (place, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == end => return place + 1,
            _ => {}
        }
    }
    text.len()
}

/// Code without the items that are there for tests only.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    let starts = ["#[cfg(test)]", "#[cfg(all(test", "#[cfg(any(test", "#[test]"];
    while let Some(at) = starts.iter().filter_map(|start| rest.find(start)).min() {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        // Behind the attribute, so that no bracket of it counts.
        let (mut depth, mut end) = (0, item.len());
        let from = item.find("]").map_or(0, |end| end + 1);
        for (place, c) in item[from..].char_indices() {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(c, ';' | '}') {
                end = from + place + 1;
                break;
            }
        }
        rest = &item[end..];
    }
    kept + rest
}

/// Folders by floor: each uses only those of floors above it in the list. What is in a circle is on none.
fn floors(arrows: &Arrows) -> Vec<Vec<String>> {
    let mut floors: Vec<Vec<String>> = Vec::new();
    let mut placed = BTreeSet::new();
    loop {
        let is_next = |folder: &&String| {
            !placed.contains(*folder) && arrows[*folder].keys().all(|used| placed.contains(used))
        };
        let floor: Vec<String> = arrows.keys().filter(is_next).cloned().collect();
        if floor.is_empty() {
            return floors;
        }
        placed.extend(floor.iter().cloned());
        floors.push(floor);
    }
}

fn print(arrows: &Arrows, floors: &[Vec<String>]) {
    let count: usize = arrows.values().map(BTreeMap::len).sum();
    println!(
        "{} folders, {count} arrows, {} floors. Each uses floors below it only.",
        arrows.len(),
        floors.len()
    );
    for (number, floor) in floors.iter().enumerate().rev() {
        println!("\nfloor {number}");
        for folder in floor {
            let used: Vec<_> = arrows[folder].keys().map(String::as_str).collect();
            println!(
                "  {folder} -> {}",
                if used.is_empty() { "nothing".to_owned() } else { used.join(", ") }
            );
        }
    }
    for (folder, used) in arrows {
        for (other, names) in used.iter().filter(|(other, _)| reaches(arrows, other, folder)) {
            println!("\nin a circle: {folder} -> {other}, for {names:?}");
        }
    }
}

/// Whether a way leads from one folder to another.
fn reaches(arrows: &Arrows, from: &str, to: &str) -> bool {
    let (mut seen, mut ahead) = (BTreeSet::new(), vec![from]);
    while let Some(folder) = ahead.pop() {
        if folder == to {
            return true;
        }
        if seen.insert(folder) {
            ahead.extend(arrows[folder].keys().map(String::as_str));
        }
    }
    false
}
