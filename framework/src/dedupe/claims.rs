//! Statements by which a partition's owner claims and looks up identities.

use super::buckets::{Live, table};
use super::scope::Scope;
use super::{Claim, DEAD_LETTERED, DONE, StoreError};
use crate::record::source::Source;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Fence, scope, mark and claims, in the current bucket. The rows come sorted: two runs that claim the same
/// identities in another order would deadlock. Nothing is claimed where another bucket is the current one.
///
/// From here on, until the transaction ends, statements are the handler's, under the role's own
/// `statement_timeout`.
fn claim_statement(live: &Live) -> String {
    let not_before = |bucket: &i32| {
        let table = table(*bucket);
        format!(" and not exists (select from {table} d where d.event_key = u.event_key and d.scope = $5)")
    };
    let not_before: String = live.sealed.iter().map(not_before).collect();
    format!(
        "with fence as materialized ( \
             select token from onceward_owner where group_id = $1 and topic = $2 and partition = $3 for share \
         ), scope as materialized ( \
             select id from onceward_scope where id = $5 and group_id = $1 and handler = $11 \
         ), bucket as materialized ( \
             select max(bucket) as current from onceward_bucket \
         ), mark as materialized ( \
             select set_config('onceward.run', $4, true) as run, \
                    set_config('statement_timeout', current_setting('onceward.statement_timeout'), true) as timeout \
         ), claimed as ( \
             insert into {} (event_key, scope, topic, partition, record_offset) \
             select u.event_key, $5, $6, $3, u.record_offset \
             from unnest($7::uuid[], $8::bigint[]) as u (event_key, record_offset), fence, scope, bucket \
             where fence.token = $9 and bucket.current = $10{not_before} \
             order by u.event_key \
             on conflict do nothing \
             returning event_key \
         ) \
         select (select token from fence), exists (select from scope), (select current from bucket), \
                array(select event_key from claimed), (select run || timeout from mark)",
        table(live.current)
    )
}

/// The result of a claim.
pub(super) struct Claimed {
    /// The token that this owner has raised.
    ours: i64,
    /// The token that is there.
    token: Option<i64>,
    /// Whether the number is still the handler's.
    is_of_scope: bool,
    /// Whether the bucket is still the current one.
    is_current: bool,
    keys: HashSet<Uuid>,
}

impl Claimed {
    fn of(row: &PgRow, ours: i64, live: &Live) -> Result<Self, sqlx::Error> {
        Ok(Self {
            ours,
            token: row.try_get(0)?,
            is_of_scope: row.try_get(1)?,
            is_current: row.try_get::<Option<i32>, _>(2)? == Some(live.current),
            keys: row.try_get::<Vec<Uuid>, _>(3)?.into_iter().collect(),
        })
    }

    /// The identities that nobody has claimed before, if this owner may have them; none at all where another
    /// bucket is the current one.
    pub(super) async fn of_this_owner(
        self,
        source: &Source,
        scope: &Scope,
    ) -> Result<Option<HashSet<Uuid>>, StoreError> {
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
        if !self.is_of_scope {
            return Err(scope.is_gone());
        }
        Ok(self.is_current.then_some(self.keys))
    }
}

/// A run's claims, with the partition, handler and topic of their rows.
pub(super) struct Filed<'a> {
    pub(super) source: &'a Source,
    pub(super) scope: &'a Scope,
    /// The topic's number.
    pub(super) topic: i32,
    pub(super) claims: &'a [Claim],
}

impl Filed<'_> {
    /// Claims in an open transaction that holds the lock of the current bucket.
    pub(super) async fn claim(
        &self,
        connection: &mut PgConnection,
        live: &Live,
        fence: i64,
        mark: Uuid,
    ) -> Result<Claimed, StoreError> {
        let mut rows = Rows::sorted(self.claims);
        self.take_over(connection, live).await?;
        let mut before = HashSet::new();
        if let Some(bucket) = live.unsealed {
            before = self.claim_before(connection, bucket, &rows).await?;
            rows.keep_only(&before);
        }
        let row = sqlx::query(&claim_statement(live))
            .bind(&*self.source.group)
            .bind(self.source.partition.topic())
            .bind(self.source.partition.partition())
            .bind(mark.to_string())
            .bind(self.scope.id)
            .bind(self.topic)
            .bind(&rows.keys)
            .bind(&rows.offsets)
            .bind(fence)
            .bind(live.current)
            .bind(&*self.scope.handler)
            .fetch_one(&mut *connection)
            .await?;
        let claimed = Claimed::of(&row, fence, live)?;
        if let Some(bucket) = live.unsealed {
            // Another bucket has these, perhaps as dead letters: no row of ours may stay and say "done".
            let known: Vec<Uuid> = before.difference(&claimed.keys).copied().collect();
            delete(connection, bucket, self.scope.id, &known, "").await?;
        }
        Ok(claimed)
    }

    /// Makes way for records that were sent back from the dead-letter topic: their dead-letter marks
    /// are deleted from all buckets, in the transaction that claims them again.
    async fn take_over(&self, connection: &mut PgConnection, live: &Live) -> Result<(), StoreError> {
        let redriven: Vec<Claim> = self.claims.iter().filter(|claim| claim.redriven).copied().collect();
        let keys = Rows::sorted(&redriven).keys;
        for bucket in live.all() {
            delete(connection, bucket, self.scope.id, &keys, " and d.state = 1").await?;
        }
        Ok(())
    }

    /// Claims in the bucket before the current one, where a transaction that claimed there alone may be open.
    /// Gives the identities that nobody has there. The claim that follows finds out whether any of it may stay.
    async fn claim_before(
        &self,
        connection: &mut PgConnection,
        bucket: i32,
        rows: &Rows,
    ) -> Result<HashSet<Uuid>, StoreError> {
        let statement = format!(
            "insert into {} (event_key, scope, topic, partition, record_offset) \
             select u.event_key, $1, $2, $3, u.record_offset \
             from unnest($4::uuid[], $5::bigint[]) as u (event_key, record_offset) \
             order by u.event_key on conflict do nothing returning event_key",
            table(bucket)
        );
        let claimed: Vec<Uuid> = sqlx::query_scalar(&statement)
            .bind(self.scope.id)
            .bind(self.topic)
            .bind(self.source.partition.partition())
            .bind(&rows.keys)
            .bind(&rows.offsets)
            .fetch_all(connection)
            .await?;
        Ok(claimed.into_iter().collect())
    }

    /// Notes a state in the current bucket. Done wins over dead-lettered, here within a bucket and in [`seen`]
    /// between buckets.
    pub(super) async fn mark(
        &self,
        connection: &mut PgConnection,
        live: &Live,
        state: i16,
    ) -> Result<Marked, StoreError> {
        let rows = Rows::sorted(self.claims);
        let statement = format!(
            "with scope as materialized ( \
                 select id from onceward_scope where id = $1 and group_id = $8 and handler = $9 \
             ), bucket as materialized ( \
                 select max(bucket) as current from onceward_bucket \
             ), noted as ( \
                 insert into {} as d (event_key, scope, topic, partition, record_offset, state) \
                 select u.event_key, $1, $2, $3, u.record_offset, $6 \
                 from unnest($4::uuid[], $5::bigint[]) as u (event_key, record_offset), scope, bucket \
                 where bucket.current = $7 \
                 order by u.event_key \
                 on conflict (event_key, scope) do update set state = excluded.state \
                 where d.state = 1 and excluded.state = 0 \
             ) \
             select exists (select from scope), (select current from bucket)",
            table(live.current)
        );
        let (is_of_scope, current): (bool, Option<i32>) = sqlx::query_as(&statement)
            .bind(self.scope.id)
            .bind(self.topic)
            .bind(self.source.partition.partition())
            .bind(&rows.keys)
            .bind(&rows.offsets)
            .bind(state)
            .bind(live.current)
            .bind(&*self.scope.group)
            .bind(&*self.scope.handler)
            .fetch_one(connection)
            .await?;
        Ok(match is_of_scope {
            false => Marked::NotOfScope,
            true if current != Some(live.current) => Marked::NotCurrent,
            true => Marked::Done,
        })
    }
}

/// The result of a mark.
pub(super) enum Marked {
    Done,
    /// Nothing is noted: the number is not the handler's any more.
    NotOfScope,
    /// Nothing is noted: another bucket is the current one.
    NotCurrent,
}

/// The result of a look-up.
pub(super) enum Seen {
    /// The states of those that have a row.
    States(HashMap<Uuid, i16>),
    /// The number is not the handler's any more.
    NotOfScope,
    /// Another bucket is the current one, and was not looked into.
    NotCurrent,
}

/// Looks identities up in all buckets.
pub(super) async fn seen(
    connection: &mut PgConnection,
    live: &Live,
    scope: &Scope,
    claims: &[Claim],
) -> Result<Seen, StoreError> {
    let of_bucket = |bucket| {
        format!(
            "select d.event_key, d.state from unnest($1::uuid[]) as u (event_key) \
             join {} d on d.event_key = u.event_key and d.scope = $2",
            table(bucket)
        )
    };
    let tables: Vec<String> = live.all().map(of_bucket).collect();
    let statement = format!(
        "with done as materialized ({}) \
         select array(select event_key from done), array(select state from done), \
                exists (select from onceward_scope where id = $2 and group_id = $3 and handler = $4), \
                (select max(bucket) from onceward_bucket)",
        tables.join(" union all ")
    );
    let (keys, states, is_of_scope, current): (Vec<Uuid>, Vec<i16>, bool, Option<i32>) =
        sqlx::query_as(&statement)
            .bind(&Rows::sorted(claims).keys)
            .bind(scope.id)
            .bind(&*scope.group)
            .bind(&*scope.handler)
            .fetch_one(connection)
            .await?;
    if !is_of_scope {
        return Ok(Seen::NotOfScope);
    }
    if current != Some(live.current) {
        return Ok(Seen::NotCurrent);
    }
    let mut found = HashMap::with_capacity(keys.len());
    for (key, state) in keys.into_iter().zip(states) {
        let known = found.entry(key).or_insert(state);
        // Done wins, whichever bucket it is in.
        if state != DEAD_LETTERED {
            *known = DONE;
        }
    }
    Ok(Seen::States(found))
}

/// Deletes the rows of identities from a bucket, those that `only` picks.
async fn delete(
    connection: &mut PgConnection,
    bucket: i32,
    scope: i32,
    keys: &[Uuid],
    only: &str,
) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let statement = format!(
        "delete from {} d using unnest($1::uuid[]) as u (event_key) \
         where d.event_key = u.event_key and d.scope = $2{only}",
        table(bucket)
    );
    sqlx::query(&statement).bind(keys).bind(scope).execute(connection).await?;
    Ok(())
}

/// Deletes claims from a bucket, but not those that another record has made of the same identities since.
pub(super) async fn give_back(
    connection: &mut PgConnection,
    bucket: i32,
    scope: i32,
    rows: &Rows,
) -> Result<(), StoreError> {
    let statement = format!(
        "delete from {} d using unnest($1::uuid[], $2::bigint[]) as u (event_key, record_offset) \
         where d.event_key = u.event_key and d.scope = $3 and d.record_offset = u.record_offset",
        table(bucket)
    );
    sqlx::query(&statement).bind(&rows.keys).bind(&rows.offsets).bind(scope).execute(connection).await?;
    Ok(())
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

/// Claims as columns, sorted, one row an identity.
pub(super) struct Rows {
    pub(super) keys: Vec<Uuid>,
    offsets: Vec<i64>,
}

impl Rows {
    pub(super) fn sorted(claims: &[Claim]) -> Self {
        let mut rows: Vec<(u128, i64)> =
            claims.iter().map(|claim| (claim.identity.key, claim.offset)).collect();
        rows.sort_unstable();
        rows.dedup_by_key(|row| row.0);
        rows.into_iter().map(|(key, offset)| (Uuid::from_u128(key), offset)).collect()
    }

    fn keep_only(&mut self, keys: &HashSet<Uuid>) {
        let rows = std::mem::take(&mut self.keys).into_iter().zip(std::mem::take(&mut self.offsets));
        *self = rows.filter(|(key, _)| keys.contains(key)).collect();
    }
}

impl FromIterator<(Uuid, i64)> for Rows {
    fn from_iter<T: IntoIterator<Item = (Uuid, i64)>>(rows: T) -> Self {
        let (keys, offsets) = rows.into_iter().unzip();
        Self { keys, offsets }
    }
}

/// Whether each claim is fresh; of several with one identity only the first can be.
pub(super) fn first_of_each(claims: &[Claim], fresh: impl Fn(&Claim) -> bool) -> Vec<bool> {
    let mut known = HashSet::with_capacity(claims.len());
    claims.iter().map(|claim| known.insert(claim.identity.key) && fresh(claim)).collect()
}
