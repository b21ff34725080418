//! Opens the dedupe store, and brings its tables up to date.

use crate::Error;
use crate::config::{DedupeKind, Resolved};
use crate::dedupe::{Dedupe, Memory};
use crate::kafka::client_config::ClientSettings as _;
use std::sync::Arc;

/// Opens the dedupe store.
pub(super) async fn connect(config: &Resolved) -> Result<Dedupe, Error> {
    match config.dedupe {
        DedupeKind::Off => Ok(Dedupe::Off),
        DedupeKind::Memory => Ok(Dedupe::Memory(Arc::new(Memory::new(1_000_000)))),
        #[cfg(feature = "postgres")]
        DedupeKind::Postgres => {
            use crate::dedupe::migrate;
            use crate::dedupe::postgres::{Postgres, Window};
            let url = config.database_url.as_deref().ok_or_else(|| {
                Error::config(
                    "database_url",
                    "is not set, and `dedupe = \"postgres\"` needs it; give `DATABASE_URL`",
                )
            })?;
            let window =
                Window { remembered: config.dedupe_window, copies_within: config.dedupe_copies_found_within };
            let idle_limit = config.session_timeout()?;
            let postgres = Postgres::connect(url, config.max_connections, idle_limit, window).await?;
            if config.migrate {
                migrate::apply(&postgres).await?;
            }
            migrate::check(&postgres).await?;
            Ok(Dedupe::Postgres(Arc::new(postgres)))
        }
        #[cfg(not(feature = "postgres"))]
        DedupeKind::Postgres => Err(Error::config(
            "dedupe",
            "is `postgres`, but the crate was built without its feature `postgres`",
        )),
    }
}
