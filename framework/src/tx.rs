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
    /// the record fails. Savepoints are allowed. So is `SET LOCAL`; `SET` alone is
    /// refused too, since it would stay with the connection. If a statement fails,
    /// let the error out: PostgreSQL has aborted the transaction by then, and a
    /// handler that returns `Ok` all the same is found out and its record fails.
    pub struct Tx {
        pub(crate) connection: PgConnection,
        /// How many the handlers have begun.
        pub(crate) statements: u64,
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
            self.statements += 1;
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
            self.statements += 1;
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
            self.statements += 1;
            self.connection.prepare_with(sql, parameters)
        }

        fn describe<'e, 'q: 'e>(self, sql: &'q str) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
        where
            'c: 'e,
        {
            self.statements += 1;
            self.connection.describe(sql)
        }
    }

    fn check(sql: &str) -> Result<(), Error> {
        let problem = match statements(sql).find_map(forbidden) {
            None => return Ok(()),
            Some(Forbidden::Ends(word)) => format!(
                "`{word}` in a handler: the transaction belongs to Onceward, which commits it after the handler \
                 returned Ok and rolls it back after an error"
            ),
            Some(Forbidden::Outlives(word)) => format!(
                "`{word}` in a handler: it would outlive the transaction and reach other records; use `set local`"
            ),
        };
        Err(Error::Protocol(problem))
    }

    #[derive(Debug, PartialEq)]
    enum Forbidden {
        /// It begins or ends a transaction.
        Ends(&'static str),
        /// It changes the session, which other runs use after this one.
        Outlives(&'static str),
    }

    fn forbidden(statement: &str) -> Option<Forbidden> {
        const WORDS: [&str; 9] =
            ["commit", "rollback", "end", "abort", "begin", "start", "prepare", "set", "reset"];
        let mut words = words(statement);
        let first = words.next()?;
        let word = WORDS.into_iter().find(|word| first.eq_ignore_ascii_case(word))?;
        let mut next = || words.next().unwrap_or_default().to_ascii_lowercase();
        let (second, third) = (next(), next());
        let allowed = match word {
            // To a savepoint, with or without a noise word.
            "rollback" => second == "to" || (matches!(&*second, "work" | "transaction") && third == "to"),
            "start" | "prepare" => second != "transaction",
            "set" => matches!(&*second, "local" | "transaction" | "constraints"),
            _ => false,
        };
        match word {
            _ if allowed => None,
            "set" | "reset" => Some(Forbidden::Outlives(word)),
            _ => Some(Forbidden::Ends(word)),
        }
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
            let statement = rest;
            rest = after_statement(rest);
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

        fn first_forbidden(sql: &str) -> Option<Forbidden> {
            statements(sql).find_map(forbidden)
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
            ] {
                assert!(matches!(first_forbidden(sql), Some(Forbidden::Ends(_))), "{sql}");
            }
        }

        #[test]
        fn statements_that_would_reach_other_runs_are_found() {
            for sql in ["set role x", "select 1; SET search_path to y", "reset all", "set session role x"] {
                assert!(matches!(first_forbidden(sql), Some(Forbidden::Outlives(_))), "{sql}");
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
                "set local role x",
                "SET /* so */ LOCAL search_path = y",
                "set constraints all deferred",
                "update t set a = 1",
                "rollback/**/to/**/a",
            ] {
                assert_eq!(first_forbidden(sql), None, "{sql}");
            }
        }
    }
}
