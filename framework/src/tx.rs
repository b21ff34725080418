//! The record's PostgreSQL transaction, as a handler gets it.

#[cfg(feature = "postgres")]
pub use with_postgres::Tx;

/// Without the feature `postgres` there is no transaction, so there is no value
/// of this type.
#[cfg(not(feature = "postgres"))]
#[derive(Debug)]
pub enum Tx {}

#[cfg(feature = "postgres")]
mod with_postgres {
    use futures_util::future::BoxFuture;
    use futures_util::stream::{self, BoxStream};
    use sqlx::{Describe, Either, Error, Execute, Executor, PgConnection, Postgres};
    use sqlx::{postgres::PgQueryResult, postgres::PgRow, postgres::PgStatement, postgres::PgTypeInfo};
    use std::fmt;

    /// The transaction in which a record is handled: its effects, the note that
    /// it was done and its outgoing events commit together, or none of them does.
    ///
    /// `&mut Tx` is an sqlx `Executor`: `.execute(tx)`, or `.execute(&mut *tx)`
    /// where it is used again.
    ///
    /// A handler may be called more than once for a record: a run is rolled back
    /// and repeated when a neighbour fails or the connection breaks. What it does
    /// through the transaction counts once.
    ///
    /// The transaction belongs to the run and holds other records too, so a
    /// handler cannot end it: `COMMIT`, `ROLLBACK` and the like are refused, and
    /// the record fails. Savepoints are allowed. If a statement fails, let the
    /// error out: PostgreSQL has aborted the transaction by then, and a handler
    /// that returns `Ok` all the same is found out and its record fails.
    pub struct Tx {
        pub(crate) connection: PgConnection,
    }

    impl fmt::Debug for Tx {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Tx")
        }
    }

    impl<'c> Executor<'c> for &'c mut Tx {
        type Database = Postgres;

        fn fetch_many<'e, 'q: 'e, E>(
            self,
            query: E,
        ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
        where
            'c: 'e,
            E: 'q + Execute<'q, Postgres>,
        {
            match check(query.sql()) {
                Ok(()) => self.connection.fetch_many(query),
                Err(error) => Box::pin(stream::iter([Err(error)])),
            }
        }

        fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
        where
            'c: 'e,
            E: 'q + Execute<'q, Postgres>,
        {
            match check(query.sql()) {
                Ok(()) => self.connection.fetch_optional(query),
                Err(error) => Box::pin(std::future::ready(Err(error))),
            }
        }

        fn prepare_with<'e, 'q: 'e>(
            self,
            sql: &'q str,
            parameters: &'e [PgTypeInfo],
        ) -> BoxFuture<'e, Result<PgStatement<'q>, Error>>
        where
            'c: 'e,
        {
            self.connection.prepare_with(sql, parameters)
        }

        fn describe<'e, 'q: 'e>(self, sql: &'q str) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
        where
            'c: 'e,
        {
            self.connection.describe(sql)
        }
    }

    fn check(sql: &str) -> Result<(), Error> {
        match ending_statement(sql) {
            None => Ok(()),
            Some(word) => Err(Error::Protocol(format!(
                "`{word}` in a handler: the transaction belongs to Onceward, which commits it after the handler \
                 returned Ok and rolls it back after an error"
            ))),
        }
    }

    /// The word by which one of the statements in `sql` would begin or end a
    /// transaction.
    fn ending_statement(sql: &str) -> Option<&'static str> {
        const WORDS: [&str; 7] = ["commit", "rollback", "end", "abort", "begin", "start", "prepare"];
        statements(sql).find_map(|statement| {
            let mut words = statement.split_ascii_whitespace();
            let first = words.next()?.trim_end_matches(';');
            let word = WORDS.into_iter().find(|word| first.eq_ignore_ascii_case(word))?;
            let mut second = || words.next().unwrap_or_default().to_ascii_lowercase();
            let allowed = match word {
                // To a savepoint, with or without a noise word.
                "rollback" => {
                    let second = second();
                    second == "to"
                        || (matches!(&*second, "work" | "transaction")
                            && words.next().is_some_and(|word| word.eq_ignore_ascii_case("to")))
                }
                "start" | "prepare" => second() != "transaction",
                _ => false,
            };
            (!allowed).then_some(word)
        })
    }

    /// The statements of `sql`, each from its first word on. Comments, quoted
    /// text and dollar-quoted text end none.
    fn statements(sql: &str) -> impl Iterator<Item = &str> {
        let mut rest = sql;
        std::iter::from_fn(move || {
            rest = skip_blank(rest);
            if rest.is_empty() {
                return None;
            }
            let statement = rest;
            rest = after_statement(rest);
            Some(statement)
        })
    }

    /// Without the white space, comments and semicolons at the start.
    fn skip_blank(mut sql: &str) -> &str {
        loop {
            let trimmed = sql.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
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
            return Some(comment.find('\n').map_or("", |end| &comment[end..]));
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
            let escaped = sql[..next].ends_with(['e', 'E']);
            sql = &sql[next..];
            sql = match sql.as_bytes()[0] {
                b';' => return &sql[1..],
                b'\'' => after_quoted(&sql[1..], '\'', escaped),
                b'"' => after_quoted(&sql[1..], '"', false),
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
        let is_tag = |c: char| c.is_alphanumeric() || c == '_';
        if tag[1..end - 1].starts_with(|c: char| c.is_ascii_digit()) || !tag[1..end - 1].chars().all(is_tag) {
            return &sql[1..];
        }
        sql[end..].find(tag).map_or("", |close| &sql[end + close + end..])
    }

    #[cfg(test)]
    mod tests {
        use super::*;

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
                "select \"a;b\"; commit",
            ] {
                assert!(ending_statement(sql).is_some(), "{sql}");
            }
        }

        #[test]
        fn other_statements_pass() {
            for sql in [
                "",
                "insert into commit values ('; commit')",
                "select 1 -- ; commit",
                "select $$; commit $$",
                "select 1 /* ; rollback */ ; select 2",
                "savepoint a",
                "rollback to a",
                "ROLLBACK WORK TO SAVEPOINT a",
                "release a",
                "prepare q as select 1",
                "update t set a = $1 where b = $2; select ';'",
                "select a-b, a/b from t",
                r"select E'\'; commit'",
            ] {
                assert_eq!(ending_statement(sql), None, "{sql}");
            }
        }
    }
}
