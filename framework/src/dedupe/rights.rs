//! Refuses, before anything is consumed, a role that may not do all that a service does, a database
//! in which nobody can, and a pooler that gives each transaction another connection.

use super::StoreError;
use super::connections::{execute, rows};
use crate::Error;
use sqlx::Row;
use sqlx::postgres::PgConnection;

/// GRANT statements for what the role lacks, in an order in which they can be run.
///
/// A schema without USAGE is no current schema, so it is found by the search path's text.
const MISSING: &str = r#"
with needed (name, rights) as (values
    ('onceward_bucket', array['select', 'insert', 'update', 'delete']),
    ('onceward_scope', array['select', 'insert', 'update']),
    ('onceward_topic', array['select', 'insert', 'update']),
    ('onceward_owner', array['select', 'insert', 'update']),
    ('onceward_version', array['select']),
    ('onceward_migrations', array['select'])
    union all
    select 'onceward_dedupe_' || slot, array['select', 'insert', 'update', 'delete', 'truncate']
    from generate_series(0, 7) as slot
), path as (
    select n.oid, n.nspname
    from unnest(string_to_array(current_setting('search_path'), ',')) as path (name)
    join pg_namespace n on n.nspname = replace(trim(both ' "' from path.name), '$user', current_user)
), current as (
    select oid, nspname from pg_namespace where nspname = current_schema()
)
select format('grant usage on schema %I to %I', p.nspname, current_user)
from path p
join pg_class c on c.relnamespace = p.oid and c.relname = 'onceward_version'
where not has_schema_privilege(p.oid, 'usage')
union all
select format('grant %s on %I.%I to %I', string_agg(u.needed_right, ', '), s.nspname, c.relname, current_user)
from needed n
join current s on true
join pg_class c on c.relnamespace = s.oid and c.relname = n.name
cross join lateral unnest(n.rights) as u (needed_right)
where not has_table_privilege(c.oid, u.needed_right)
group by s.nspname, c.relname"#;

/// Refuses a role that lacks a right on Onceward's tables.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), Error> {
    let failed = super::postgres::failed("look which rights the role has");
    let found = rows(connection, MISSING).await.map_err(failed)?;
    let failed = super::postgres::failed("look which rights the role has");
    let missing: Vec<String> =
        found.iter().map(|row| row.try_get(0)).collect::<Result<_, sqlx::Error>>().map_err(failed)?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::config(
        "database_url",
        format!(
            "the role lacks rights on Onceward's tables; their owner can give them: `{}`",
            missing.join("; ")
        ),
    ))
}

/// Where `default_transaction_read_only` is on, if it is; and nothing on a standby, which may be
/// promoted.
const READ_ONLY: &str = "
select source, quote_ident(session_user), quote_ident(current_database())
from pg_settings
where name = 'default_transaction_read_only' and setting = 'on' and not pg_is_in_recovery()";

/// Refuses a role or a database whose transactions cannot write.
pub(super) async fn refuse_read_only(connection: &mut PgConnection) -> Result<(), Error> {
    let failed = super::postgres::failed("look whether transactions can write");
    let found = async {
        let found = rows(connection, READ_ONLY).await?;
        let Some(row) = found.first() else { return Ok(None) };
        Ok::<_, StoreError>(Some((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
    };
    let found: Option<(String, String, String)> = found.await.map_err(failed)?;
    let Some((source, role, database)) = found else { return Ok(()) };
    let (place, mend) = match &*source {
        "user" => (format!("for the role {role}"), format!("alter role {role}")),
        "database" => (format!("for the database {database}"), format!("alter database {database}")),
        "database user" => (
            format!("for the role {role} in the database {database}"),
            format!("alter role {role} in database {database}"),
        ),
        other => (format!("by PostgreSQL's {other}"), "alter system".to_owned()),
    };
    Err(Error::config(
        "database_url",
        format!(
            "`default_transaction_read_only` is on {place}, so nothing can be written; \
             `{mend} reset default_transaction_read_only`, or use another role"
        ),
    ))
}

/// Refuses a pooler that gives each transaction another connection of PostgreSQL's: settings,
/// prepared statements and locks would be found on the connections of others.
pub(super) async fn refuse_shared(first: &mut PgConnection, second: &mut PgConnection) -> Result<(), Error> {
    let failed = super::postgres::failed("look whether a pooler shares the connection");
    if !is_shared(first, second).await.map_err(failed)? {
        return Ok(());
    }
    Err(Error::config(
        "database_url",
        "leads to a pooler that gives each transaction another connection of PostgreSQL, as PgBouncer does with \
         `pool_mode = transaction`; give this database `pool_mode = session` there, or PostgreSQL's own address"
            .to_owned(),
    ))
}

/// Whether one of two connections comes to another server process when both were busy meanwhile.
/// Poolers hand out what was given back last or first: the one shows with the first connection, the
/// other with the second.
async fn is_shared(first: &mut PgConnection, second: &mut PgConnection) -> Result<bool, StoreError> {
    for asks_first in [true, false] {
        execute(first, "begin").await?;
        execute(second, "begin").await?;
        let (of_first, of_second) = (process(first).await?, process(second).await?);
        execute(first, "commit").await?;
        execute(second, "commit").await?;
        let is_another =
            if asks_first { process(first).await? != of_first } else { process(second).await? != of_second };
        if is_another {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn process(connection: &mut PgConnection) -> Result<i32, StoreError> {
    let found = rows(connection, "select pg_backend_pid()").await?;
    Ok(found.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?)
}
