//! Drops what was done so long ago that no copy of it can come any more.

use super::StoreError;
use super::migrate::{Partition, State};
use super::postgres::{Postgres, execute};
use sqlx::postgres::PgConnection;
use std::time::Duration;

/// How often it is looked. Far below the shortest window, and a process notes every
/// hour which days it still writes to (`postgres.rs`), so a day in use is never old.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Drops days, whole, to which nothing was written for `window`. Not days that are
/// `window` old: a lagging or replaying consumer writes to old ones.
pub(crate) async fn keep_dropping(postgres: &Postgres, window: Duration) {
    loop {
        if let Err(error) = drop_old(postgres, window).await {
            tracing::warn!(%error, "cannot drop old days of what was done; trying again in {INTERVAL:?}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Drops them once. Only the tables' owner can; a role that may only write leaves it to the
/// command `migrate` of the owner.
pub(crate) async fn drop_old(postgres: &Postgres, window: Duration) -> Result<(), StoreError> {
    let mut connection = postgres.get().await?;
    // Of several instances one does it.
    let mine: bool = sqlx::query_scalar(
        "select case when pg_has_role(relowner, 'usage') \
         then pg_try_advisory_lock(hashtextextended('onceward_expiry ' || relnamespace, 0)) else false end \
         from pg_class where oid = 'onceward_dedupe'::regclass",
    )
    .fetch_one(connection.get())
    .await?;
    if mine {
        let dropped = drop_days(connection.get(), window).await;
        execute(
            connection.get(),
            "select pg_advisory_unlock(hashtextextended('onceward_expiry ' || relnamespace, 0)) \
             from pg_class where oid = 'onceward_dedupe'::regclass",
        )
        .await?;
        dropped?;
    }
    postgres.put_back(connection);
    Ok(())
}

async fn drop_days(connection: &mut PgConnection, window: Duration) -> Result<(), StoreError> {
    // One day after the other: PostgreSQL detaches no second one while a drop that was
    // interrupted is unfinished.
    let old: Vec<i32> = sqlx::query_scalar(
        "select bucket - date '1970-01-01' from onceward_bucket \
         where written_at < now() - make_interval(secs => $1) order by bucket",
    )
    .bind(window.as_secs_f64())
    .fetch_all(&mut *connection)
    .await?;
    for day in old {
        // Nobody makes a day meanwhile, and who made one before has noted that.
        execute(connection, "select pg_advisory_lock(hashtextextended('onceward_dedupe', 0))").await?;
        let dropped = drop_day(connection, day, window).await;
        execute(connection, "select pg_advisory_unlock(hashtextextended('onceward_dedupe', 0))").await?;
        dropped?;
    }
    Ok(())
}

async fn drop_day(connection: &mut PgConnection, day: i32, window: Duration) -> Result<(), StoreError> {
    let still_old: bool = sqlx::query_scalar(
        "select exists (select from onceward_bucket where bucket = date '1970-01-01' + $1 \
         and written_at < now() - make_interval(secs => $2))",
    )
    .bind(day)
    .bind(window.as_secs_f64())
    .fetch_one(&mut *connection)
    .await?;
    if !still_old {
        return Ok(());
    }
    let partition = Partition::of_day(connection, day).await?;
    let name = &partition.name;
    // Waits for the transactions under way, and makes none wait.
    let detach = match partition.state {
        State::Attached => format!("alter table onceward_dedupe detach partition {name} concurrently"),
        State::HalfDetached => format!("alter table onceward_dedupe detach partition {name} finalize"),
        State::Apart => "select".to_owned(),
    };
    execute(connection, &detach).await?;
    let forget = format!(
        "drop table if exists {name}; delete from onceward_bucket where bucket = date '1970-01-01' + {day}"
    );
    execute(connection, &forget).await?;
    tracing::info!(table = name, "dropped: nothing was written to it for the dedupe window");
    Ok(())
}
