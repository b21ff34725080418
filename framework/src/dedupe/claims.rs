//! Statements by which a partition's owner claims and looks up identities.

use super::scope::Scope;
use super::{Claim, StoreError};
use crate::record::source::Source;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Fence, scope, mark and claims. The rows come sorted: two runs that claim the same
/// identities in another order would deadlock.
///
/// From here on, until the transaction ends, statements are the handler's, under the role's own
/// `statement_timeout`.
pub(super) const CLAIM: &str = "\
with fence as materialized (
    select token from onceward_owner where group_id = $1 and topic = $2 and partition = $3 for share
), scope as materialized (
    select id from onceward_scope where id = $5 and group_id = $1 and handler = $11
), mark as materialized (
    select set_config('onceward.run', $4, true) as run,
           set_config('statement_timeout', current_setting('onceward.statement_timeout'), true) as timeout
), claimed as (
    insert into onceward_dedupe (event_key, scope, bucket, topic, partition, record_offset)
    select u.event_key, $5, date '1970-01-01' + u.day, $6, $3, u.record_offset
    from unnest($7::uuid[], $8::int[], $9::bigint[]) as u (event_key, day, record_offset), fence, scope
    where fence.token = $10
    order by u.event_key, u.day
    on conflict do nothing
    returning event_key, bucket
)
select (select token from fence),
       exists (select from scope),
       array(select event_key from claimed),
       array(select bucket - date '1970-01-01' from claimed),
       (select run || timeout from mark)";

/// What a claim has found.
pub(super) struct Claimed {
    /// The token that this owner has raised.
    ours: i64,
    /// The token that is there.
    token: Option<i64>,
    /// Whether the number is still the handler's.
    is_of_scope: bool,
    rows: HashSet<(Uuid, i32)>,
}

impl Claimed {
    pub(super) fn of(row: &PgRow, ours: i64) -> Result<Self, sqlx::Error> {
        let days: Vec<i32> = row.try_get(3)?;
        let rows = row.try_get::<Vec<Uuid>, _>(2)?.into_iter().zip(days).collect();
        Ok(Self { ours, token: row.try_get(0)?, is_of_scope: row.try_get(1)?, rows })
    }

    /// The rows, if this owner may have them.
    pub(super) async fn of_this_owner(
        self,
        source: &Source,
        scope: &Scope,
    ) -> Result<HashSet<(Uuid, i32)>, StoreError> {
        if self.token.is_some_and(|token| token > self.ours) {
            return Err(StoreError::Fenced);
        }
        if self.token != Some(self.ours) {
            *source.fence.lock().await = None;
            return Err(StoreError::Outage(
                "PostgreSQL has lost who owns the partition, as it does when it is restored from before; it is \
                 noted again"
                    .into(),
            ));
        }
        if self.is_of_scope { Ok(self.rows) } else { Err(scope.is_gone()) }
    }
}

/// The identities among these that have a row, with its state; none where the number is not the
/// handler's any more.
pub(super) async fn seen(
    connection: &mut PgConnection,
    scope: &Scope,
    claims: &[Claim],
) -> Result<Option<HashMap<Uuid, i16>>, StoreError> {
    let rows = Rows::sorted(claims);
    let row = sqlx::query(
        "with done as materialized ( \
             select d.event_key, d.state from unnest($1::uuid[], $2::int[]) as u (event_key, day) \
             join onceward_dedupe d on d.event_key = u.event_key and d.scope = $3 \
             and d.bucket = date '1970-01-01' + u.day \
         ) \
         select array(select event_key from done), array(select state from done), \
                exists (select from onceward_scope where id = $3 and group_id = $4 and handler = $5)",
    )
    .bind(&rows.keys)
    .bind(&rows.days)
    .bind(scope.id)
    .bind(&*scope.group)
    .bind(&*scope.handler)
    .fetch_one(connection)
    .await?;
    if !row.try_get(2)? {
        return Ok(None);
    }
    Ok(Some(row.try_get::<Vec<Uuid>, _>(0)?.into_iter().zip(row.try_get::<Vec<i16>, _>(1)?).collect()))
}

/// The partition's token, raised when this owner first asks, once an assignment. That waits for the
/// open transaction of the owner before, which has read the row `for share`.
pub(super) async fn fence(connection: &mut PgConnection, source: &Source) -> Result<i64, StoreError> {
    let mut fence = source.fence.lock().await;
    if let Some(token) = *fence {
        return Ok(token);
    }
    let token = sqlx::query_scalar(
        "insert into onceward_owner as o (group_id, topic, partition, token) values ($1, $2, $3, 1) \
         on conflict (group_id, topic, partition) do update set token = o.token + 1 returning token",
    )
    .bind(&*source.group)
    .bind(source.partition.topic())
    .bind(source.partition.partition())
    .fetch_one(connection)
    .await?;
    *fence = Some(token);
    Ok(token)
}

/// Gives way to what was sent back from the dead-letter topic: the note that it was
/// dead-lettered goes, in the transaction that claims it again.
pub(super) async fn take_over(
    connection: &mut PgConnection,
    scope: i32,
    claims: &[Claim],
) -> Result<(), StoreError> {
    let redriven: Vec<Claim> = claims.iter().filter(|claim| claim.redriven).copied().collect();
    if redriven.is_empty() {
        return Ok(());
    }
    let rows = Rows::sorted(&redriven);
    sqlx::query(
        "delete from onceward_dedupe d using unnest($1::uuid[], $2::int[]) as u (event_key, day) \
         where d.event_key = u.event_key and d.scope = $3 and d.bucket = date '1970-01-01' + u.day and d.state = 1",
    )
    .bind(&rows.keys)
    .bind(&rows.days)
    .bind(scope)
    .execute(connection)
    .await?;
    Ok(())
}

/// Claims as columns, one row a day of an identity.
pub(super) struct Rows {
    pub(super) keys: Vec<Uuid>,
    pub(super) days: Vec<i32>,
    pub(super) offsets: Vec<i64>,
}

impl Rows {
    pub(super) fn sorted(claims: &[Claim]) -> Self {
        let mut rows: Vec<(u128, i32, i64)> = Vec::with_capacity(claims.len());
        for claim in claims {
            rows.extend(claim.identity.days().map(|day| (claim.identity.key, day, claim.offset)));
        }
        rows.sort_unstable();
        rows.dedup_by_key(|row| (row.0, row.1));
        Self {
            keys: rows.iter().map(|row| Uuid::from_u128(row.0)).collect(),
            days: rows.iter().map(|row| row.1).collect(),
            offsets: rows.iter().map(|row| row.2).collect(),
        }
    }
}

/// Whether each claim is fresh; of several with one identity only the first can be.
pub(super) fn first_of_each(claims: &[Claim], fresh: impl Fn(&Claim) -> bool) -> Vec<bool> {
    let mut known = HashSet::with_capacity(claims.len());
    claims.iter().map(|claim| known.insert(claim.identity.key) && fresh(claim)).collect()
}
