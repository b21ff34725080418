//! What keeps Onceward's own statements from working while it runs: a login that is refused, a right
//! that is taken away, a limit, a restore. It is no record's fault, and all goes on when it is mended.

use super::*;
use support::{OwnPostgres, stack_or_leave_out};

/// Calls of a handler that has no transaction.
#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Vec<(i64, u32)>>>);

impl Noted {
    fn each_once(&self, numbers: Range<i64>) {
        let mut calls = self.0.lock().unwrap().clone();
        calls.sort_unstable();
        assert_eq!(calls, numbers.map(|number| (number, 1)).collect::<Vec<_>>());
    }
}

#[handler(topic = "overridden", max_attempts = 1)]
async fn without(payload: &[u8], Attempt(attempt): Attempt, noted: State<Noted>) -> HandlerResult {
    noted.0.0.lock().unwrap().push((number(payload)?, attempt));
    Ok(())
}

/// A state of PostgreSQL, how the service comes to meet it, what the server then says of it, and how it
/// is mended.
struct Fault {
    begin: &'static str,
    says: &'static str,
    end: &'static str,
}

const FAULTS: [Fault; 4] = [
    Fault {
        begin: "alter role service password 'other'",
        says: "password authentication failed for user \"service\"",
        end: "alter role service password 'service'",
    },
    Fault {
        begin: "alter role service nologin",
        says: "role \"service\" is not permitted to log in",
        end: "alter role service login",
    },
    Fault {
        begin: "revoke insert on onceward_dedupe_0 from service",
        says: "permission denied for table onceward_dedupe_0",
        end: "grant insert on onceward_dedupe_0 to service",
    },
    Fault {
        begin: "alter database services allow_connections false",
        says: "database \"services\" is not currently accepting connections",
        end: "alter database services allow_connections true",
    },
];

/// The administrator of a server that has a database `services` of a role `service`.
struct Admin {
    services: Database,
    /// Of another database, which stays open.
    url: String,
}

impl Admin {
    async fn new(postgres: &OwnPostgres) -> Self {
        let admin = Database { url: postgres.url() };
        admin.execute("create role service login password 'service'").await;
        admin.execute("create database services owner service").await;
        let (server, _) = admin.url.rsplit_once('/').unwrap();
        let services = Database { url: format!("{server}/services") };
        Self { services, url: admin.url }
    }

    async fn execute(&self, sql: &str) {
        let here = Database { url: self.url.clone() };
        let database = if sql.contains("onceward_dedupe") { &self.services } else { &here };
        database.execute(sql).await;
    }

    /// Ends the service's connections, so that it needs new ones.
    async fn kick(&self) {
        self.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'service'")
            .await;
    }

    /// How often the server's log says something.
    async fn said(&self, what: &str) -> i64 {
        let what = what.replace('\'', "''");
        let count = format!(
            "select (length(log) - length(replace(log, '{what}', ''))) / {} from pg_read_file( \
             current_setting('data_directory') || '/../postgres.log') as log",
            what.len()
        );
        let there = Database { url: self.url.clone() };
        there.number(&format!("select ({count})::bigint")).await
    }

    fn service_url(&self) -> String {
        let (_, place) = self.services.url.split_once('@').unwrap();
        format!("postgres://service:service@{place}")
    }
}

/// With and without a transaction. Each has one attempt only, so that a single one that is charged
/// would end in the dead-letter topic and not in the effects.
#[tokio::test(flavor = "multi_thread")]
async fn what_postgresql_refuses_onceward_itself_is_no_record_s_fault() {
    let stack = stack_or_leave_out!();
    let postgres = OwnPostgres::start_new();
    let admin = Admin::new(&postgres).await;
    let mut world = World::new(Stack { database_url: postgres.url(), ..stack }, 1).await;
    world.database = Database { url: admin.service_url() };
    world.database.execute("create table effects (place bigserial, number bigint not null)").await;
    let (script, noted) = (Script::good(), Noted::default());
    let other = unique("group");
    let app = world.app().state(script.clone()).state(noted.clone());
    let app = app.handler(one {}.route().topic(&world.topic).group(&world.group).max_attempts(1));
    let running = Running::start(app.handler(without {}.route().topic(&world.topic).group(&other)));
    let caught_up = async || {
        world.caught_up().await;
        world.stack.caught_up(&other, &world.topic, 1).await;
    };
    let mut sent = 0..10;
    world.send_numbers(sent.clone()).await;
    caught_up().await;
    for fault in &FAULTS {
        let before = admin.said(fault.says).await;
        admin.execute(fault.begin).await;
        admin.kick().await;
        sent = sent.end..sent.end + 10;
        world.send_numbers(sent.clone()).await;
        // Of each group twice, or of one group more often.
        eventually(fault.says, async || admin.said(fault.says).await >= before + 4).await;
        admin.execute(fault.end).await;
        caught_up().await;
    }
    sent = sent.end..sent.end + 10;
    a_locked_table(&world, &admin, sent.clone()).await;
    caught_up().await;
    assert!(running.is_running());
    running.stop().await.unwrap();
    world.effects_once_in_order(0..sent.end).await;
    script.blames_only(&[]);
    (0..sent.end).for_each(|number| assert_eq!(script.calls_of(number), 1, "{number}"));
    noted.each_once(0..sent.end);
}

/// The role has a limit for statements that is shorter than the lock is held.
async fn a_locked_table(world: &World, admin: &Admin, numbers: Range<i64>) {
    const WAITED: &str = "canceling statement due to lock timeout";
    let before = admin.said(WAITED).await;
    admin.execute("alter role service set statement_timeout = '100ms'").await;
    admin.kick().await;
    let mut locker = admin.services.connect().await;
    locker.execute("begin; lock table onceward_dedupe in access exclusive mode").await.unwrap();
    world.send_numbers(numbers).await;
    eventually(WAITED, async || admin.said(WAITED).await >= before + 2).await;
    locker.execute("commit").await.unwrap();
    assert_eq!(admin.said("canceling statement due to statement timeout").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_s_statement_timeout_holds_for_the_handler_s_statements() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let name: String = sqlx::query_scalar("select quote_ident(current_database())")
        .fetch_one(&mut world.database.connect().await)
        .await
        .unwrap();
    world.database.execute(&format!("alter database {name} set statement_timeout = '200ms'")).await;
    let script = Script::new(Misdeed::FailsInSql("select pg_sleep(20)"), [3]);
    world.send_numbers(0..6).await;
    let running = Running::start(world.app().state(script.clone()).handler(world.route(one {})));
    eventually("it is charged", async || script.attempts(3) >= 2).await;
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..6).await;
    script.blames_only(&[3]);
}

/// Another handler may get the number after a restore from before the first one had it.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_whose_number_is_another_s_does_nothing_until_it_has_it_again() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let (script, noted, other) = (Script::good(), Noted::default(), unique("group"));
    let app = world.app().state(script.clone()).state(noted.clone()).handler(world.route(one {}));
    let running = Running::start(app.handler(without {}.route().topic(&world.topic).group(&other)));
    world.send_numbers(0..5).await;
    world.caught_up().await;
    world.stack.caught_up(&other, &world.topic, 1).await;
    // How often the numbers are looked at.
    let looks = "select seq_scan + idx_scan from pg_stat_user_tables where relname = 'onceward_scope'";
    let before = world.database.number(looks).await;
    world.database.execute("update onceward_scope set handler = handler || '-of-another'").await;
    world.send_numbers(5..10).await;
    eventually("both have looked, and again", async || world.database.number(looks).await >= before + 8)
        .await;
    world.effects_once_in_order(0..5).await;
    assert_eq!(world.claims().await, 10);
    world.database.execute("update onceward_scope set handler = replace(handler, '-of-another', '')").await;
    world.caught_up().await;
    world.stack.caught_up(&other, &world.topic, 1).await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..10).await;
    script.blames_only(&[]);
    noted.each_once(0..10);
}

#[handler(topic = "overridden")]
async fn selects_all(
    payload: &[u8],
    Attempt(attempt): Attempt,
    script: State<Script>,
    tx: &mut Tx,
) -> HandlerResult {
    script.play(number(payload)?, attempt, tx).await?;
    sqlx::query("select * from planes").fetch_all(tx).await?;
    Ok(())
}

/// PostgreSQL refuses what the connection has prepared before.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_altered_beside_the_handler_costs_one_repetition_and_no_attempt() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.database.execute("create table planes (id int); insert into planes values (1)").await;
    let script = Script::good();
    let running = Running::start(world.app().state(script.clone()).handler(world.route(selects_all {})));
    for round in 0..3 {
        world.send_numbers(round * 5..(round + 1) * 5).await;
        world.caught_up().await;
        world.database.execute(&format!("alter table planes add column seats{round} int")).await;
    }
    running.stop().await.unwrap();
    world.effects_once_in_order(0..15).await;
    script.blames_only(&[]);
    assert!((0..15).all(|number| script.calls_of(number) <= 2), "{:?}", script.calls());
}
