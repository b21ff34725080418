//! Opens the dedupe store, and brings its tables up to date.

use crate::Error;
use crate::config::{DedupeKind, Resolved};
use crate::dedupe::{Dedupe, Memory};
use crate::kafka::client_config::ClientSettings as _;
use std::sync::Arc;

/// Brings the tables up to date, and drops old days, which only the tables' owner can.
pub(super) async fn migrate(config: &Resolved) -> Result<(), Error> {
    let dedupe = connect(config).await?;
    #[cfg(feature = "postgres")]
    if let Dedupe::Postgres(postgres) = &dedupe {
        let failed = |source: crate::dedupe::StoreError| Error::Store {
            action: "drop old days of what was done".to_owned(),
            source: source.into(),
        };
        crate::dedupe::expiry::drop_old(postgres, config.dedupe_window).await.map_err(failed)?;
    }
    drop(dedupe);
    Ok(())
}

/// Opens the dedupe store.
pub(super) async fn connect(config: &Resolved) -> Result<Dedupe, Error> {
    match config.dedupe {
        DedupeKind::Off => Ok(Dedupe::Off),
        DedupeKind::Memory => Ok(Dedupe::Memory(Arc::new(Memory::new(1_000_000)))),
        #[cfg(feature = "postgres")]
        DedupeKind::Postgres => {
            use crate::dedupe::{migrate, postgres::Postgres};
            let url = config.database_url.as_deref().ok_or_else(|| {
                Error::config(
                    "database_url",
                    "is not set, and `dedupe = \"postgres\"` needs it; give `DATABASE_URL`",
                )
            })?;
            let postgres = Postgres::connect(url, config.max_connections, config.session_timeout()?).await?;
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
