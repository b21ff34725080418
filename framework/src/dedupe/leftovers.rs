//! What a handler's calls leave on a connection, as far as PostgreSQL tells it: found before a
//! COMMIT of several calls, and removed behind each end of a transaction.

use super::StoreError;
use super::connections::rows;
use sqlx::Row;
use sqlx::postgres::PgConnection;

/// Removes what outlives a transaction: a handler's functions may leave it too, where no text of a
/// statement shows it. Prepared statements stay, since those of sqlx are among them.
pub(super) const CLEAN: &str = "reset session authorization; reset all; close all; unlisten *; discard temp; \
                                discard sequences; select pg_advisory_unlock_all()";

/// In an error of the server: what the calls of a run have left would meet the next one.
const LEFT: &str = "onceward: left";

/// Settings that change what a statement does or gives. Those that only make it faster or slower
/// may stay until the run's end.
const SETTINGS: [&str; 23] = [
    "search_path",
    "row_security",
    "session_replication_role",
    "transaction_read_only",
    "lock_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "client_encoding",
    "standard_conforming_strings",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "bytea_output",
    "extra_float_digits",
    "xmloption",
    "xmlbinary",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "array_nulls",
    "default_text_search_config",
    "default_tablespace",
    "default_table_access_method",
];

/// The settings of applications' own (`app.tenant`) that functions of this database set.
/// PostgreSQL lists no such setting, so their names come from the functions' texts.
const OWN_SETTINGS: &str = r#"
select distinct lower(coalesce(found[1], found[2]))
from pg_proc p
join pg_language l on l.oid = p.prolang and l.lanname not in ('internal', 'c')
cross join lateral regexp_matches(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc),
    $$set_config\s*\(\s*'+([a-z_]\w*(?:\.[a-z_]\w*)+)'|\mset\s+(?:local\s+|session\s+)?([a-z_]\w*\.[a-z_]\w*)\s*(?:=|to\M)$$,
    'gi') found
where p.pronamespace <> 'pg_catalog'::regnamespace and p.pronamespace <> 'information_schema'::regnamespace"#;

/// Tells whether a connection is as it was when it was new.
#[derive(Debug)]
pub(super) struct Leftovers {
    /// An expression of all that would meet another call.
    state: String,
    /// Its value on the new connection.
    clean: i64,
}

impl Leftovers {
    /// Looks at a new connection.
    pub(super) async fn of(connection: &mut PgConnection) -> Result<Self, StoreError> {
        let own = rows(connection, OWN_SETTINGS).await?;
        let own = own.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        let state = state(own.iter().map(String::as_str));
        let clean = rows(connection, &format!("select {state}")).await?;
        let clean = clean.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
        Ok(Self { state, clean })
    }

    /// An expression that is true where nothing is left.
    pub(super) fn are_none(&self) -> String {
        format!("{} = {}", self.state, self.clean)
    }

    /// An expression that fails where something is left.
    pub(super) fn refused(&self) -> String {
        format!("(case when {} then '1' else '{LEFT}' end)::int", self.are_none())
    }

    /// Whether that expression failed.
    pub(super) fn are_in(error: &StoreError) -> bool {
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string).contains(LEFT)
    }
}

fn state<'s>(own: impl Iterator<Item = &'s str>) -> String {
    let settings: String = SETTINGS
        .into_iter()
        .chain(own)
        .map(|name| format!(", coalesce(current_setting('{name}', true), '')"))
        .collect();
    // A claim gives the handler's calls the role's own `statement_timeout`.
    // Of a schema that is not there PostgreSQL would look through all of `pg_class`.
    format!(
        "hashtextextended(concat_ws('|', session_user, current_user{settings}, \
         current_setting('statement_timeout') in ('0', current_setting('onceward.statement_timeout')), \
         (select count(*) from pg_cursors where name <> '' and name not like '<unnamed%'), \
         case when pg_my_temp_schema() = 0 then 0 else \
         (select count(*) from pg_class where relnamespace = pg_my_temp_schema()) end), 0)"
    )
}
