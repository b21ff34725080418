//! Makes the tables, and checks at startup that they fit the program.

use super::connections::{LOCK_TIMEOUT, execute};
use super::postgres::{Postgres, Window, failed};
use super::rights;
use crate::{BoxError, Error};
use sqlx::postgres::PgConnection;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// A step from one version of the tables to the next.
struct Migration {
    version: i64,
    sql: &'static str,
}

impl Migration {
    /// By which a file that was changed after it was released is found.
    fn checksum(&self) -> [u8; 32] {
        *blake3::hash(self.sql.as_bytes()).as_bytes()
    }
}

static MIGRATIONS: [Migration; 2] = [
    Migration { version: 1, sql: include_str!("../../migrations/0001_dedupe.up.sql") },
    Migration { version: 2, sql: include_str!("../../migrations/0002_buckets.up.sql") },
];

/// The version of the tables that this program is written for.
fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Brings Onceward's tables in this database up to date.
///
/// Safe to call from several processes at once, and when nothing is to be done.
///
/// The tables stand in the first schema of the role's `search_path`. It needs USAGE and CREATE on that
/// schema, and nothing else.
///
/// # Errors
/// Where the database cannot be reached or the role may not create tables.
pub async fn migrate(database_url: &str) -> Result<(), Error> {
    let window = Window { remembered: Duration::MAX, copies_within: Duration::MAX };
    let postgres = Postgres::connect(database_url, 1, Duration::from_secs(60), window).await?;
    apply(&postgres).await
}

pub(crate) async fn apply(postgres: &Postgres) -> Result<(), Error> {
    const ACTION: &str = "make Onceward's tables";
    let mut connection = postgres.connection(ACTION).await?;
    apply_on(connection.get()).await.map_err(failed(ACTION))?;
    postgres.put_back(connection);
    Ok(())
}

async fn apply_on(connection: &mut PgConnection) -> Result<(), BoxError> {
    let (role, schema, may_create): (String, Option<String>, Option<bool>) = sqlx::query_as(
        "select quote_ident(current_user), quote_ident(current_schema()), \
         has_schema_privilege(current_schema(), 'create')",
    )
    .fetch_one(&mut *connection)
    .await?;
    let schema = schema.ok_or_else(|| {
        format!(
            "no schema of the `search_path` exists and may be used; make one, and \
             `grant usage, create on schema .. to {role}`"
        )
    })?;
    execute(connection, "begin").await?;
    // One process at a time, however long the one before takes.
    execute(connection, "set local lock_timeout = 0").await?;
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('onceward_migrations ' || $1, 0))")
        .bind(&schema)
        .execute(&mut *connection)
        .await?;
    execute(connection, &format!("set local lock_timeout = {}", LOCK_TIMEOUT.as_millis())).await?;
    // Functions keep this path.
    execute(connection, &format!("set local search_path = {schema}, pg_temp")).await?;
    let applied = applied(connection).await?;
    let due: Vec<_> = due(&applied)?.collect();
    if !due.is_empty() && may_create != Some(true) {
        return Err(
            format!("the role may not make tables: `grant create on schema {schema} to {role}`").into()
        );
    }
    if applied.is_empty() {
        execute(connection, RECORD).await?;
    }
    for migration in due {
        execute(connection, migration.sql).await?;
        sqlx::query("insert into onceward_migrations (version, checksum) values ($1, $2)")
            .bind(migration.version)
            .bind(&migration.checksum()[..])
            .execute(&mut *connection)
            .await?;
    }
    execute(connection, "commit").await?;
    Ok(())
}

/// Which migrations were done, in the same schema as the tables. Not sqlx's own table, which the
/// application's migrations use.
const RECORD: &str = "create table if not exists onceward_migrations (
    version bigint primary key,
    checksum bytea not null,
    at timestamptz not null default now()
)";

/// The migrations that were done, with their checksums.
async fn applied(connection: &mut PgConnection) -> Result<HashMap<i64, Vec<u8>>, sqlx::Error> {
    let is_there = "select to_regclass(quote_ident(current_schema()) || '.onceward_migrations') is not null";
    if !sqlx::query_scalar(is_there).fetch_one(&mut *connection).await? {
        return Ok(HashMap::new());
    }
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("select version, checksum from onceward_migrations").fetch_all(connection).await?;
    Ok(applied.into_iter().collect())
}

/// The migrations that are not done yet. Newer ones may be done, of a program that is being deployed
/// beside this one.
fn due(applied: &HashMap<i64, Vec<u8>>) -> Result<impl Iterator<Item = &'static Migration>, String> {
    let is_another = |migration: &&Migration| {
        applied.get(&migration.version).is_some_and(|checksum| **checksum != migration.checksum())
    };
    if let Some(changed) = MIGRATIONS.iter().find(is_another) {
        return Err(format!("version {} of the tables was made by another build of it", changed.version));
    }
    let done: HashSet<i64> = applied.keys().copied().collect();
    Ok(MIGRATIONS.iter().filter(move |migration| !done.contains(&migration.version)))
}

/// Refuses tables that this program cannot run on.
pub(crate) async fn check(postgres: &Postgres) -> Result<(), Error> {
    const ACTION: &str = "read the version of Onceward's tables";
    let mut connection = postgres.connection(ACTION).await?;
    rights::check(connection.get()).await?;
    let (version, oldest_program) = version(connection.get()).await.map_err(failed(ACTION))?;
    postgres.put_back(connection);
    let needed = newest();
    if version < needed {
        let what = if version == 0 { "are not there".to_owned() } else { format!("have version {version}") };
        return Err(Error::config(
            "migrate",
            format!(
                "Onceward's tables {what} and the program needs version {needed}; run the service's command \
                 `migrate`, or set `App::migrate(true)`"
            ),
        ));
    }
    if oldest_program > needed {
        return Err(Error::config(
            "database_url",
            format!(
                "Onceward's tables have version {version}, which programs older than version {oldest_program} \
                 cannot use; this one knows version {needed}: deploy a newer build"
            ),
        ));
    }
    Ok(())
}

/// The tables' version, and the oldest that a program may know.
async fn version(connection: &mut PgConnection) -> Result<(i64, i64), sqlx::Error> {
    let there = "select to_regclass(quote_ident(current_schema()) || '.onceward_migrations') is not null \
                 and to_regclass(quote_ident(current_schema()) || '.onceward_version') is not null";
    if !sqlx::query_scalar(there).fetch_one(&mut *connection).await? {
        return Ok((0, 0));
    }
    sqlx::query_as(
        "select coalesce(max(version), 0), (select oldest_program::bigint from onceward_version) \
         from onceward_migrations",
    )
    .fetch_one(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_of_migrations_is_one_and_they_are_in_order() {
        let mut files: Vec<_> =
            std::fs::read_dir("migrations").unwrap().map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.to_string_lossy().ends_with(".up.sql"));
        files.sort();
        let texts: Vec<_> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        assert!(MIGRATIONS.iter().map(|migration| migration.sql).eq(texts.iter().map(|text| &**text)));
        assert!(MIGRATIONS.iter().map(|migration| migration.version).eq(1..=newest()));
    }
}
