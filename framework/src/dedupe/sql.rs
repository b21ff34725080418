//! Gets the text of a handler's statements, gives what they leave in its transaction.
//!
//! Only PostgreSQL knows what a function does; `dedupe/leftovers.rs` asks it.

/// The first words of statements that leave something or are refused.
const WORDS: [&str; 17] = [
    "commit",
    "rollback",
    "end",
    "abort",
    "begin",
    "start",
    "prepare",
    "set",
    "reset",
    "savepoint",
    "release",
    "create",
    "declare",
    "copy",
    "discard",
    "deallocate",
    "listen",
];

/// What the calls of a handler have left in a transaction.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Settings, modes of constraints, cursors, temporary tables.
    something: bool,
    savepoints: Vec<String>,
    /// Prepared statements, which stay until the connection ends.
    pub(crate) prepared: bool,
}

impl Left {
    /// Whether the last call left something that the next one would meet.
    pub(crate) fn meets_next_call(&self) -> bool {
        self.something || !self.savepoints.is_empty()
    }

    /// Forgets what the last call left, except what stays with the connection.
    pub(crate) fn begin_call(&mut self) {
        self.something = false;
        self.savepoints.clear();
    }

    /// Notes what these statements leave. Fails with a sentence if one of them is refused.
    pub(crate) fn note(&mut self, sql: &str) -> Result<(), String> {
        for statement in statements(sql) {
            self.note_one(statement)?;
        }
        if mentions(sql, "set_config") {
            if mentions(sql, "transaction_read_only") {
                return Err(ends("set_config('transaction_read_only', ..)"));
            }
            self.something = true;
        }
        Ok(())
    }

    fn note_one(&mut self, statement: &str) -> Result<(), String> {
        let mut words = words(statement);
        let Some(first) = words.next() else { return Ok(()) };
        let Some(word) = WORDS.into_iter().find(|word| first.eq_ignore_ascii_case(word)) else {
            return Ok(());
        };
        let mut next = || words.next().unwrap_or_default().to_ascii_lowercase();
        let (second, third) = (next(), next());
        if matches!(word, "savepoint" | "release" | "rollback") && mentions(statement, "\"onceward\"") {
            return own_name("onceward");
        }
        match (word, &*second) {
            ("savepoint", name) => {
                own_name(name)?;
                self.savepoints.push(name.to_owned());
            }
            ("release", "savepoint") => self.release(&third)?,
            ("release", name) => self.release(name)?,
            ("rollback", "to") if third == "savepoint" => self.back_to(&next())?,
            ("rollback", "to") => self.back_to(&third)?,
            ("rollback", "work" | "transaction") if third == "to" => {
                let name = Some(next()).filter(|name| name != "savepoint").unwrap_or_else(next);
                self.back_to(&name)?;
            }
            ("start" | "prepare", "transaction") => return Err(ends(word)),
            ("start", _) => {}
            ("prepare", _) => (self.something, self.prepared) = (true, true),
            ("set", "transaction") => return Err(ends("set transaction")),
            ("set", "local") if third.starts_with("transaction_") => {
                return Err(ends(&format!("set local {third}")));
            }
            ("set", "local" | "constraints") | ("declare", _) => self.something = true,
            ("set" | "reset", _) => return Err(outlives(word, "use `set local`")),
            ("create", "temp" | "temporary" | "local" | "global") => self.something = true,
            ("create", _) => {}
            ("copy", _) => refuse_copy(statement)?,
            ("discard", _) => return Err(outlives("discard", "leave it out")),
            ("deallocate", "all") => return Err(outlives("deallocate all", "name the statement")),
            ("deallocate", "prepare") if third == "all" => {
                return Err(outlives("deallocate all", "name the statement"));
            }
            ("deallocate", _) => {}
            ("listen", _) => return Err(LISTENS.to_owned()),
            _ => return Err(ends(word)),
        }
        Ok(())
    }

    fn release(&mut self, name: &str) -> Result<(), String> {
        own_name(name)?;
        if let Some(place) = self.savepoints.iter().rposition(|savepoint| savepoint == name) {
            self.savepoints.truncate(place);
        }
        Ok(())
    }

    fn back_to(&mut self, name: &str) -> Result<(), String> {
        own_name(name)?;
        if let Some(place) = self.savepoints.iter().rposition(|savepoint| savepoint == name) {
            self.savepoints.truncate(place + 1);
        }
        Ok(())
    }
}

const LISTENS: &str = "`listen` in a handler: nothing that comes to the transaction's connection reaches the handler; \
                       listen on a connection of the application's own";

/// Onceward's own savepoints have one name; a handler that went back to one would undo what other
/// records did.
fn own_name(name: &str) -> Result<(), String> {
    if name == "onceward" {
        return Err("savepoint `onceward` in a handler: the name is Onceward's; use another one".to_owned());
    }
    Ok(())
}

/// A statement in which the server waits for the client's data, or sends data that is no row.
fn refuse_copy(statement: &str) -> Result<(), String> {
    let is_wire = |word: &str| word.eq_ignore_ascii_case("stdin") || word.eq_ignore_ascii_case("stdout");
    if statement.split(|c| !is_of_word(c)).any(is_wire) {
        return Err(
            "`copy` from the client or to it in a handler: it would break the transaction's connection; \
                    insert with `unnest`, or use a batch handler"
                .to_owned(),
        );
    }
    Ok(())
}

fn ends(what: &str) -> String {
    format!(
        "`{what}` in a handler: the transaction belongs to Onceward, which commits it after the handler \
         returned Ok and rolls it back after an error"
    )
}

fn outlives(what: &str, instead: &str) -> String {
    format!("`{what}` in a handler: it would outlive the transaction and reach other records; {instead}")
}

/// Whether `sql` has this ASCII word anywhere, in any case.
fn mentions(sql: &str, word: &str) -> bool {
    sql.as_bytes().windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

/// The statements of `sql`, each from its first word on. Comments, quoted
/// text and dollar-quoted text end none.
fn statements(sql: &str) -> impl Iterator<Item = &str> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        rest = skip_blank(rest);
        while let Some(after) = rest.strip_prefix(';') {
            rest = skip_blank(after);
        }
        if rest.is_empty() {
            return None;
        }
        let after = after_statement(rest);
        let statement = &rest[..rest.len() - after.len()];
        rest = after;
        Some(statement)
    })
}

/// The words at the start, up to something else.
fn words(mut sql: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        sql = skip_blank(sql);
        let (word, rest) = sql.split_at(sql.find(|c| !is_of_word(c)).unwrap_or(sql.len()));
        sql = rest;
        (!word.is_empty()).then_some(word)
    })
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Without the white space and comments at the start.
fn skip_blank(mut sql: &str) -> &str {
    loop {
        let trimmed = sql.trim_start();
        let after = skip_comment(trimmed).unwrap_or(trimmed);
        if after.len() == sql.len() {
            return sql;
        }
        sql = after;
    }
}

/// What follows the comment at the start, if there is one.
fn skip_comment(sql: &str) -> Option<&str> {
    if let Some(comment) = sql.strip_prefix("--") {
        return Some(comment.find(['\n', '\r']).map_or("", |end| &comment[end..]));
    }
    let mut rest = sql.strip_prefix("/*")?;
    let mut depth = 1;
    while depth > 0 {
        let Some(next) = rest.find(['/', '*']) else { return Some("") };
        rest = &rest[next..];
        if let Some(inner) = rest.strip_prefix("/*") {
            (rest, depth) = (inner, depth + 1);
        } else if let Some(outer) = rest.strip_prefix("*/") {
            (rest, depth) = (outer, depth - 1);
        } else {
            rest = &rest[1..];
        }
    }
    Some(rest)
}

/// What follows the semicolon that ends the statement at the start.
fn after_statement(mut sql: &str) -> &str {
    loop {
        let Some(next) = sql.find([';', '\'', '"', '$', '-', '/']) else { return "" };
        let before = &sql[..next];
        let in_word = before.ends_with(is_of_word);
        // `e'..'` has escapes, `date'..'` has none.
        let escapes = before.strip_suffix(['e', 'E']).is_some_and(|before| !before.ends_with(is_of_word));
        sql = &sql[next..];
        sql = match sql.as_bytes()[0] {
            b';' => return &sql[1..],
            b'\'' => after_quoted(&sql[1..], '\'', escapes),
            b'"' => after_quoted(&sql[1..], '"', false),
            // A name may have it inside.
            b'$' if in_word => sql.trim_start_matches(|c| is_of_word(c) || c == '$'),
            b'$' => after_dollar_quoted(sql),
            _ => skip_comment(sql).unwrap_or(&sql[1..]),
        };
    }
}

fn after_quoted(sql: &str, quote: char, escapes: bool) -> &str {
    let mut characters = sql.char_indices();
    while let Some((at, character)) = characters.next() {
        if escapes && character == '\\' {
            characters.next();
        } else if character == quote {
            return &sql[at + 1..];
        }
    }
    ""
}

/// `$tag$ .. $tag$`; a parameter (`$1`) is none.
fn after_dollar_quoted(sql: &str) -> &str {
    let Some(end) = sql[1..].find('$').map(|end| end + 2) else { return &sql[1..] };
    let tag = &sql[..end];
    let name = &tag[1..end - 1];
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_of_word) {
        return &sql[1..];
    }
    sql[end..].find(tag).map_or("", |close| &sql[end + close + end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(sql: &str) -> Option<String> {
        Left::default().note(sql).err()
    }

    #[test]
    fn statements_that_end_the_transaction_are_found_wherever_they_hide() {
        for sql in [
            "commit",
            "COMMIT;",
            "  -- so\n /* and /* so */ */ Commit and chain",
            "insert into t values ('x'); rollback",
            "select $$;$$; end",
            "select $a$ $b$ $a$, $1; abort",
            "select 'it''s;'; commit",
            r"select E'\';'; commit",
            "begin",
            "start transaction",
            "prepare transaction 'x'",
            "rollback work",
            "select 1 -- ' \n; commit",
            "select 1 -- ' \r; commit",
            "select \"a;b\"; commit",
            "select 1;commit;select 2",
            "commit/* bye */",
            "commit--bye",
            "rollback/**/work",
            r"select date'\'; commit",
            "select a$b$ from t; commit; select a$b$ from t",
            "select a$$b$ from t; commit",
            "rollback; to",
            "set transaction read only",
            "set local transaction_read_only = on",
            "select set_config('transaction_read_only', 'on', true)",
        ] {
            let refusal = refusal(sql).unwrap_or_default();
            assert!(refusal.contains("the transaction belongs to Onceward"), "{sql}: {refusal}");
        }
    }

    #[test]
    fn statements_that_would_reach_other_runs_are_refused() {
        for sql in [
            "set role x",
            "select 1; SET search_path to y",
            "reset all",
            "set session role x",
            "discard all",
            "deallocate all",
            "deallocate prepare all",
        ] {
            assert!(refusal(sql).unwrap_or_default().contains("would outlive the transaction"), "{sql}");
        }
        for sql in ["listen a", "copy t from stdin", "COPY t (a) TO STDOUT with (format csv)"] {
            assert!(refusal(sql).is_some(), "{sql}");
        }
        for sql in ["savepoint onceward", "rollback to onceward", "release savepoint \"onceward\""] {
            assert!(refusal(sql).unwrap_or_default().contains("the name is Onceward's"), "{sql}");
        }
    }

    #[test]
    fn other_statements_pass_and_leave_nothing() {
        for sql in [
            "",
            "insert into commit values ('; commit')",
            "select 1 -- ; commit",
            "select $$; commit $$",
            "select 1 /* ; rollback */ ; select 2",
            "savepoint a; release a",
            "savepoint a; insert into t values (1); rollback to a; release savepoint A",
            "savepoint a; savepoint b; ROLLBACK WORK TO SAVEPOINT a; release a",
            "savepoint a; savepoint b; rollback/**/to/**/b; release a",
            "update t set a = $1 where b = $2; select ';'",
            "select a-b, a/b from t",
            r"select E'\'; commit'",
            "update t set a = 1",
            "create table t (temp int)",
            "copy t from '/a/file'",
            "notify a",
            "select temp from stdin",
            "deallocate a",
        ] {
            let mut left = Left::default();
            assert_eq!(left.note(sql), Ok(()), "{sql}");
            assert!(!left.meets_next_call() && !left.prepared, "{sql}: {left:?}");
        }
    }

    #[test]
    fn what_the_next_call_would_meet_is_noted_until_that_call_begins() {
        for sql in [
            "set local role x",
            "SET /* so */ LOCAL search_path = y",
            "set constraints all deferred",
            "select Set_Config('a.b', $1, true)",
            "declare c cursor for select 1",
            "create temp table t (a int)",
            "prepare q as select 1",
            "savepoint a",
            "savepoint a; savepoint b; release b",
            "savepoint a; rollback to savepoint a",
        ] {
            let mut left = Left::default();
            assert_eq!(left.note(sql), Ok(()), "{sql}");
            assert!(left.meets_next_call(), "{sql}");
            left.begin_call();
            assert!(!left.meets_next_call(), "{sql}");
        }
        let mut left = Left::default();
        left.note("prepare q as select 1").unwrap();
        left.begin_call();
        assert!(left.prepared, "it stays with the connection");
    }
}
