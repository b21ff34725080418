//! Whose tables they are, who may do what with them, and what a start says of it.

use super::*;
use support::{stack_or_leave_out, transaction_pooler};

/// A role that may log in, gone when dropped with its rights: roles belong to all databases of a server.
struct Role {
    name: String,
    database: Database,
}

impl Role {
    async fn new(database: &Database, name: &str) -> Self {
        let name = unique(name).replace('-', "_");
        database.execute(&format!("create role {name} login password 'of_a_test'")).await;
        Self { name, database: database.clone() }
    }

    fn url(&self) -> String {
        let (_, place) = self.database.url.split_once('@').unwrap();
        format!("postgres://{}:of_a_test@{place}", self.name)
    }

    async fn gone(self) {
        self.database.execute(&format!("drop owned by {0}; drop role {0}", self.name)).await;
    }
}

async fn refused(app: App) -> String {
    format!("{:?}", Running::start(app).ended().await.unwrap_err())
}

/// The SQL of docs/operations.md.
fn documented(owner: &Role, service: &Role) -> Vec<String> {
    let guide = include_str!("../../docs/operations.md");
    let section = guide.split("## The role in PostgreSQL").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap());
    let ours =
        |block: &str| block.replace("totals_owner", &owner.name).replace("totals_service", &service.name);
    blocks.map(ours).collect()
}

/// Each right with its object, of these grants.
fn rights(grants: &str, role: &Role) -> Vec<(String, String)> {
    let mut rights = Vec::new();
    for statement in grants.split(';').map(str::trim) {
        let Some(statement) = statement.strip_prefix("grant ") else { continue };
        let (statement, to) = statement.rsplit_once(" to ").unwrap();
        if !to.split(", ").any(|name| name == role.name) {
            continue;
        }
        let (kinds, objects) = statement.split_once(" on ").unwrap();
        for object in objects.split(',') {
            rights.extend(kinds.split(',').map(|kind| (kind.trim().to_owned(), object.trim().to_owned())));
        }
    }
    rights
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_with_the_documented_grants_suffice_and_each_one_that_is_missing_is_named() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let (owner, service) =
        (Role::new(&world.database, "owner").await, Role::new(&world.database, "service").await);
    let documented = documented(&owner, &service);
    let [of_schema, of_tables] = &documented[..] else { panic!("two blocks: {documented:?}") };
    for role in [&owner, &service] {
        let path = format!(
            "alter role {} in database \"{}\" set search_path = totals, public",
            role.name,
            name_of(&world)
        );
        world.database.execute(&path).await;
    }
    world.database.execute(&format!("create schema totals; {of_schema}")).await;
    world
        .database
        .execute(&format!(
            "grant insert, select on effects to {0}; grant usage on effects_place_seq to {0}",
            service.name
        ))
        .await;

    onceward::migrate(&owner.url()).await.unwrap();
    Database { url: owner.url() }.execute(of_tables).await;
    let app = || {
        let app = world.app().database_url(service.url()).migrate(false);
        app.state(Script::good()).handler(world.route(one {}))
    };
    world.send_numbers(0..10).await;
    let running = Running::start(app());
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..10).await;

    let all = format!("{of_schema}{of_tables}");
    let rights = rights(&all, &service);
    assert_eq!(rights.len(), 56, "{rights:?}");
    for (right, object) in rights {
        world.database.execute(&format!("revoke {right} on {object} from {}", service.name)).await;
        let grant = format!("grant {right} on {object} to {}", service.name);
        let said = refused(app()).await;
        assert!(said.contains(&grant), "{grant}: {said}");
        world.database.execute(&grant).await;
    }
    world.database.execute(&format!("revoke create on schema totals from {}", owner.name)).await;
    let grant = format!("grant create on schema totals to {}", owner.name);
    let dropped = "drop table totals.onceward_migrations";
    world.database.execute(dropped).await;
    let said = format!("{:?}", onceward::migrate(&owner.url()).await.unwrap_err());
    assert!(said.contains(&grant), "{said}");
    service.gone().await;
    owner.gone().await;
}

fn name_of(world: &World) -> String {
    world.database.url.rsplit('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_transactions_cannot_write_is_refused_at_the_start() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    onceward::migrate(&world.database.url).await.unwrap();
    let role = Role::new(&world.database, "reader").await;
    let app = || world.app().handler(world.route(gives_nothing {}));
    for (set, place) in [
        (format!("alter role {} set default_transaction_read_only", role.name), "for the role"),
        (
            format!("alter database \"{}\" set default_transaction_read_only", name_of(&world)),
            "for the database",
        ),
    ] {
        world.database.execute(&format!("{set} = on")).await;
        let said = refused(app().database_url(role.url())).await;
        let sentence = format!("setting `database_url`: `default_transaction_read_only` is on {place}");
        assert!(
            said.starts_with(&sentence) && said.contains("reset default_transaction_read_only"),
            "{said}"
        );
        let mut writing = world.database.connect().await;
        writing.execute("set default_transaction_read_only = off").await.unwrap();
        writing.execute(&*format!("{set} to default")).await.unwrap();
    }
    role.gone().await;
}

#[handler(topic = "overridden")]
async fn gives_nothing(_payload: &[u8], _tx: &mut Tx) -> HandlerResult {
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn services_in_two_schemas_of_a_database_have_tables_of_their_own() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.send_numbers(0..10).await;
    for (schema, place) in [("first", 1), ("\"Second one\"", 2)] {
        world.database.execute(&format!("create schema {schema}")).await;
        let path = format!("{schema},public").replace('"', "%22").replace(' ', "%5C%20");
        let url = format!("{}?options=-c%20search_path%3D{path}", world.database.url);
        onceward::migrate(&url).await.unwrap();
        let group = unique("group");
        let app = world.app().database_url(&url).migrate(false).state(Script::good());
        let running = Running::start(app.handler(world.route(one {}).group(&group)));
        world.stack.caught_up(&group, &world.topic, 1).await;
        running.stop().await.unwrap();
        assert_eq!(world.effects().await.len(), place * 10);
        let claims = format!("select count(*) from {schema}.onceward_dedupe");
        assert_eq!(world.database.number(&claims).await, 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_gives_each_transaction_another_connection_is_refused_at_the_start() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let url = transaction_pooler(&world.database.url).await;
    let said = refused(world.app().database_url(url).handler(world.route(gives_nothing {}))).await;
    assert!(said.contains("leads to a pooler") && said.contains("`pool_mode = session`"), "{said}");
}
