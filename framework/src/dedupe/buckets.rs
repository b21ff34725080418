//! The ring of tables: which of them a claim writes, and which it reads.
//!
//! Identities are filed by when they were claimed, in a ring of tables. The bucket with the highest number is
//! the current one. Numbers are rows of `onceward_bucket`, so no clock decides where a claim goes: the server's
//! clock says only when it is time to open a bucket and when one is old enough (`upkeep.rs`).
//!
//! A claim inserts into the current bucket and looks into each earlier one. Two claims of one identity on both
//! sides of an edge must meet, although neither sees the other's open transaction:
//!
//! 1. A transaction holds a shared advisory lock of its bucket until its end. It takes the lock before the claim,
//!    whose snapshot then shows whether the bucket is still the current one. If it is not, it begins anew.
//! 2. Until the bucket before is *sealed*, claims insert into both: they meet in it, by its key.
//! 3. A bucket that is not the current one any more is sealed once its lock is free: then each transaction that
//!    claimed in it alone is over, and every later look sees what it has done.

use super::StoreError;
use crate::base::sync::lock;
use sqlx::postgres::PgConnection;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many tables there are. One closed bucket is inside of the window, or two for a moment, one is the current
/// one, and one waits to be emptied; the others are for a window that was made longer.
pub(super) const SLOTS: i32 = 8;

/// The buckets are looked up again after this time. Until then a claim only loses time on a bucket that was sealed
/// or has expired meanwhile.
pub(super) const LOOKED_UP_EVERY: Duration = Duration::from_secs(30);

/// The table of a bucket.
pub(super) fn table(bucket: i32) -> String {
    format!("onceward_dedupe_{}", bucket.rem_euclid(SLOTS))
}

/// The buckets in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) current: i32,
    /// The bucket before the current one, while a transaction that claimed in it alone may be open.
    pub(super) unsealed: Option<i32>,
    /// The earlier buckets, the newest first.
    pub(super) sealed: Vec<i32>,
}

impl Live {
    /// All of them, the newest first.
    pub(super) fn all(&self) -> impl Iterator<Item = i32> {
        self.written().chain(self.sealed.iter().copied())
    }

    /// The buckets into which a claim inserts.
    pub(super) fn written(&self) -> impl Iterator<Item = i32> {
        std::iter::once(self.current).chain(self.unsealed)
    }
}

/// The buckets in use, as far as this process knows.
#[derive(Debug)]
pub(super) struct Buckets {
    known: Mutex<Option<(Arc<Live>, Instant)>>,
    /// Copies that were claimed further apart are not looked for.
    within: Duration,
}

impl Buckets {
    pub(super) fn new(within: Duration) -> Self {
        Self { known: Mutex::default(), within }
    }

    pub(super) async fn live(&self, connection: &mut PgConnection) -> Result<Arc<Live>, StoreError> {
        if let Some((live, at)) = &*lock(&self.known)
            && at.elapsed() < LOOKED_UP_EVERY
        {
            return Ok(live.clone());
        }
        let live = Arc::new(look_up(connection, self.within).await?);
        *lock(&self.known) = Some((live.clone(), Instant::now()));
        Ok(live)
    }

    /// Has them looked up again: the current one is another.
    pub(super) fn forget(&self) {
        *lock(&self.known) = None;
    }
}

async fn look_up(connection: &mut PgConnection, within: Duration) -> Result<Live, StoreError> {
    let rows: Vec<(i32, bool, bool)> = sqlx::query_as(
        "select bucket, sealed, coalesce(closed_at > now() - make_interval(secs => $1), true) \
         from onceward_bucket where expired_at is null or bucket = (select max(bucket) from onceward_bucket) \
         order by bucket desc",
    )
    .bind(within.as_secs_f64())
    .fetch_all(connection)
    .await?;
    let Some(((current, ..), before)) = rows.split_first() else {
        return Err(StoreError::Setup(
            "the table `onceward_bucket` is empty, so nobody knows what was done; restore it with the tables \
             `onceward_dedupe_0` to `onceward_dedupe_7`"
                .into(),
        ));
    };
    let mut live = Live { current: *current, unsealed: None, sealed: Vec::new() };
    for (bucket, sealed, is_near) in before {
        match (sealed, is_near) {
            (false, _) => live.unsealed = Some(*bucket),
            (true, true) => live.sealed.push(*bucket),
            (true, false) => {}
        }
    }
    Ok(live)
}

/// The first part of an advisory lock's key: another schema of the database has other buckets.
pub(super) const LOCKS: &str = "hashtext('onceward_bucket ' || current_schema())";

/// Begins a transaction that will claim in this bucket, in one round trip.
pub(super) fn begin(bucket: i32) -> String {
    format!("begin; select pg_advisory_xact_lock_shared({LOCKS}, {bucket})")
}
