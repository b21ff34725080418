//! A handler's number in the table of what was done, and a guard against losing
//! it: under a new name, a handler would do everything again.

use super::StoreError;
use super::postgres::{Postgres, failed};
use crate::Error;
use sqlx::Row;
use sqlx::postgres::PgRow;

/// A handler as the table knows it.
#[derive(Debug, Clone)]
pub(crate) struct ScopeName {
    pub(crate) handler: String,
    pub(crate) formerly: Vec<String>,
    pub(crate) topics: Vec<String>,
}

/// A handler's number, with the row that it stands in: PostgreSQL may be restored from before that
/// row, and then gives the number to another.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(super) id: i32,
    pub(super) group: String,
    /// As in the table: one that was renamed keeps its former name there.
    pub(super) handler: String,
}

impl Scope {
    /// The number is not the handler's any more.
    pub(super) fn is_gone(&self) -> StoreError {
        let Self { id, group, handler } = self;
        StoreError::Setup(
            format!(
                "the number {id} of the handler `{handler}` of group `{group}` is not in `onceward_scope` any more, as \
                 when PostgreSQL was restored from before the handler was there; restart all instances, which \
                 then get a new one"
            )
            .into(),
        )
    }
}

#[derive(Debug)]
struct Known {
    id: i32,
    handler: String,
    topics: Vec<String>,
}

/// Finds the number of each handler of a group, or makes one.
pub(crate) async fn resolve(
    postgres: &Postgres,
    group: &str,
    handlers: &[ScopeName],
    retired: &[String],
) -> Result<Vec<i32>, Error> {
    let known = load(postgres, group).await?;
    let mut ids = Vec::with_capacity(handlers.len());
    for handler in handlers {
        let names = std::iter::once(&handler.handler).chain(&handler.formerly);
        let mut know = |id, handler: &str| {
            postgres.know_scope(Scope { id, group: group.to_owned(), handler: handler.to_owned() });
            ids.push(id);
        };
        let found = names.into_iter().find_map(|name| known.iter().find(|known| known.handler == *name));
        match found {
            Some(found) => know(found.id, &found.handler),
            None => {
                refuse_renamed(group, handler, handlers, &known, retired)?;
                know(make(postgres, group, handler).await?, &handler.handler);
            }
        }
    }
    note_window(postgres, &ids).await?;
    Ok(ids)
}

/// Notes how long these handlers want to know what was done. Buckets are kept for as long as anybody wants.
async fn note_window(postgres: &Postgres, scopes: &[i32]) -> Result<(), Error> {
    const ACTION: &str = "note the dedupe window of the group's handlers";
    let mut connection = postgres.connection(ACTION).await?;
    sqlx::query(
        "update onceward_scope set keep = make_interval(secs => $2) \
         where id = any($1) and keep <> make_interval(secs => $2)",
    )
    .bind(scopes)
    .bind(postgres.window().as_secs_f64())
    .execute(connection.get())
    .await
    .map_err(failed(ACTION))?;
    postgres.put_back(connection);
    Ok(())
}

/// A new handler that reads what a handler read that is gone looks like the same
/// one, renamed.
fn refuse_renamed(
    group: &str,
    new: &ScopeName,
    handlers: &[ScopeName],
    known: &[Known],
    retired: &[String],
) -> Result<(), Error> {
    let is_gone = |known: &&Known| {
        let still = |handler: &ScopeName| {
            handler.handler == known.handler || handler.formerly.contains(&known.handler)
        };
        !handlers.iter().any(still) && !retired.contains(&known.handler)
    };
    let reads_the_same = |known: &&Known| known.topics.iter().any(|topic| new.topics.contains(topic));
    match known.iter().filter(is_gone).find(reads_the_same) {
        None => Ok(()),
        Some(gone) => Err(Error::handler(
            &new.handler,
            format!(
                "it is new, and in group `{group}` the handler `{}`, which is gone, has handled records of the same \
                 topic; if it was renamed set `formerly = \"{}\"`, else say `App::retired(\"{}\")`: under a new name \
                 all would be done again",
                gone.handler, gone.handler, gone.handler
            ),
        )),
    }
}

async fn load(postgres: &Postgres, group: &str) -> Result<Vec<Known>, Error> {
    const ACTION: &str = "read the handlers of the group";
    let mut connection = postgres.connection(ACTION).await?;
    let rows = sqlx::query("select id, handler, topics from onceward_scope where group_id = $1")
        .bind(group)
        .fetch_all(connection.get())
        .await
        .map_err(failed(ACTION))?;
    postgres.put_back(connection);
    let known =
        |row: &PgRow| Ok(Known { id: row.try_get(0)?, handler: row.try_get(1)?, topics: row.try_get(2)? });
    rows.iter().map(known).collect::<Result<_, sqlx::Error>>().map_err(failed(ACTION))
}

async fn make(postgres: &Postgres, group: &str, handler: &ScopeName) -> Result<i32, Error> {
    const ACTION: &str = "note a new handler of the group";
    let mut connection = postgres.connection(ACTION).await?;
    // Another instance may make it at the same time; the update makes `returning`
    // answer for its row too.
    let id = sqlx::query_scalar(
        "insert into onceward_scope (group_id, handler, topics) values ($1, $2, $3) \
         on conflict (group_id, handler) do update set topics = excluded.topics returning id",
    )
    .bind(group)
    .bind(&handler.handler)
    .bind(&handler.topics)
    .fetch_one(connection.get())
    .await
    .map_err(failed(ACTION))?;
    postgres.put_back(connection);
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn handler(name: &str, formerly: &[&str]) -> ScopeName {
        ScopeName {
            handler: name.into(),
            formerly: formerly.iter().map(ToString::to_string).collect(),
            topics: vec!["orders".into()],
        }
    }

    fn refused(new: &ScopeName, all: &[ScopeName], retired: &[String]) -> bool {
        let known = [Known { id: 1, handler: "old".into(), topics: vec!["orders".into()] }];
        refuse_renamed("g", new, all, &known, retired).is_err()
    }

    #[test]
    fn a_renamed_handler_is_refused_unless_its_old_name_is_given_or_retired() {
        let new = handler("new", &[]);
        assert!(refused(&new, from_ref(&new), &[]));
        assert!(!refused(&new, &[new.clone(), handler("old", &[])], &[]));
        assert!(!refused(&new, &[new.clone(), handler("other", &["old"])], &[]));
        assert!(!refused(&new, from_ref(&new), &["old".into()]));
        let elsewhere = ScopeName { topics: vec!["payments".into()], ..new };
        assert!(!refused(&elsewhere, from_ref(&elsewhere), &[]));
    }
}
