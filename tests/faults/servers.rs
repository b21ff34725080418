//! The servers of all runs, and the role under which the service of a run works.

use crate::plan::Rights;
use support::{Breakable, Database, OwnPostgres, Proxy, Stack, unique};

/// The servers of all runs.
pub(crate) struct Servers {
    pub(crate) kafka: Breakable,
    pub(crate) postgres: OwnPostgres,
    pub(crate) to_kafka: Proxy,
    pub(crate) to_postgres: Proxy,
    pub(crate) stack: Stack,
}

impl Servers {
    pub(crate) async fn start(stack: Stack) -> Self {
        let (kafka, postgres) = (Breakable::start(stack), OwnPostgres::start_new());
        let to_kafka = kafka.proxy().await;
        let to_postgres = Proxy::before(&postgres.url()).await;
        let stack = Stack { database_url: postgres.url(), ..kafka.stack.clone() };
        Self { kafka, postgres, to_kafka, to_postgres, stack }
    }
}

/// The role of one run's service, with a password, and no more than the guide says.
#[derive(Debug)]
pub(crate) struct Role {
    name: String,
    database: Database,
}

impl Role {
    pub(crate) async fn make(database: &Database) -> Self {
        let role = Self { name: unique("flights").replace('-', "_"), database: database.clone() };
        let (name, its) = (&role.name, role.database_name());
        let sql =
            format!("create role {name} login password 'right'; grant create on database {its} to {name}");
        role.beside().execute(&sql).await;
        database.execute(&format!("grant usage, create on schema public to {name}")).await;
        role
    }

    /// The URL by which the service connects.
    pub(crate) fn url(&self) -> String {
        let (_, place) = self.database.url.rsplit_once('@').expect("a URL with a user");
        format!("postgres://{}:right@{place}", self.name)
    }

    /// Takes something from it.
    pub(crate) async fn take(&self, rights: Rights) {
        let (name, database) = (&self.name, self.database_name());
        let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{name}'");
        let sql = match rights {
            Rights::Password => format!("alter role {name} password 'another'; {end}"),
            Rights::Login => format!("alter role {name} nologin; {end}"),
            Rights::Database => format!("alter database {database} allow_connections false; {end}"),
            Rights::Tables => return self.on_tables("revoke all on %s from").await,
        };
        self.beside().execute(&sql).await;
    }

    /// Gives it back.
    pub(crate) async fn give_back(&self, rights: Rights) {
        let (name, database) = (&self.name, self.database_name());
        let sql = match rights {
            Rights::Password => format!("alter role {name} password 'right'"),
            Rights::Login => format!("alter role {name} login"),
            Rights::Database => format!("alter database {database} allow_connections true"),
            Rights::Tables => return self.on_tables("grant all on %s to").await,
        };
        self.beside().execute(&sql).await;
    }

    /// Runs a statement for each of Onceward's tables that are there.
    async fn on_tables(&self, statement: &str) {
        let sql = format!(
            "do $$ declare t regclass; begin \
             for t in select oid from pg_class where relname ~ '^onceward_' and relkind in ('r', 'p') loop \
             execute format('{statement} {}', t); end loop; end $$",
            self.name
        );
        self.database.execute(&sql).await;
    }

    /// A database of the same server that is never closed.
    fn beside(&self) -> Database {
        let (base, _) = self.database.url.rsplit_once('/').expect("a URL with a database");
        Database { url: format!("{base}/postgres") }
    }

    fn database_name(&self) -> &str {
        self.database.url.rsplit_once('/').expect("a URL with a database").1
    }
}
