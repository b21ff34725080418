//! Records reach their handlers, in order, and their effects count once.

use onceward::prelude::*;
use std::sync::{Arc, Mutex};
use support::{Running, eventually, produce, stack_or_leave_out, unique};

#[derive(Default, Clone)]
struct Seen(Arc<Mutex<Vec<(String, String)>>>);

impl Seen {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[handler(topic = "overridden")]
async fn note(Key(key): Key<String>, payload: Bytes, seen: State<Seen>) -> HandlerResult {
    seen.0.0.lock().unwrap().push((key, String::from_utf8(payload.to_vec())?));
    Ok(())
}

fn records(count: usize, keys: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("key-{}", n % keys), n.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_starts_at_the_earliest_record_and_keeps_the_order_of_each_key() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("delivery", 3).await, unique("group"));
    produce(&stack.producer(), &topic, records(2000, 17)).await;
    let seen = Seen::default();
    let app = stack.app().state(seen.clone()).handler(note {}.route().topic(&topic).group(&group));
    let running = Running::start(app);
    eventually("all records are handled", async || seen.count() == 2000).await;
    stack.caught_up(&group, &topic, 3).await;
    running.stop().await.unwrap();
    let seen = seen.0.lock().unwrap();
    for key in 0..17 {
        let key = format!("key-{key}");
        let of_key: Vec<usize> =
            seen.iter().filter(|(k, _)| *k == key).map(|(_, n)| n.parse().unwrap()).collect();
        assert!(of_key.is_sorted(), "{key}");
    }
}

#[handler(topic = "overridden")]
async fn add(Key(key): Key<String>, payload: Bytes, tx: &mut Tx) -> HandlerResult {
    sqlx::query(
        "insert into totals as t (key, count, chain) values ($1, 1, md5($2))
         on conflict (key) do update set count = t.count + 1, chain = md5(t.chain || $2)",
    )
    .bind(key)
    .bind(std::str::from_utf8(&payload)?)
    .execute(tx)
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_in_a_transaction_count_once_over_restarts() {
    let stack = stack_or_leave_out!();
    let (topic, group, database) = (stack.topic("effects", 3).await, unique("group"), stack.database().await);
    database.execute("create table totals (key text primary key, count bigint, chain text)").await;
    let app = || {
        let route = add {}.route().topic(&topic).group(&group);
        stack.app().database_url(&database.url).migrate(true).handler(route)
    };
    let producer = stack.producer();
    for round in 1..=3 {
        produce(&producer, &topic, records(1000, 17)).await;
        let running = Running::start(app());
        stack.caught_up(&group, &topic, 3).await;
        running.stop().await.unwrap();
        assert_eq!(database.number("select sum(count)::bigint from totals").await, 1000 * round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_older_than_the_window_is_emptied_and_the_others_stay() {
    let stack = stack_or_leave_out!();
    let (topic, group, database) = (stack.topic("expiry", 1).await, unique("group"), stack.database().await);
    database.execute("create table totals (key text primary key, count bigint, chain text)").await;
    onceward::migrate(&database.url).await.unwrap();
    database
        .execute(
            "update onceward_bucket set opened_at = now() - interval '15 days';
             insert into onceward_bucket (bucket, opened_at, closed_at, sealed)
             values (-1, now() - interval '30 days', now() - interval '15 days', true);
             insert into onceward_bucket (bucket, opened_at, closed_at, sealed, expired_at)
             values (-2, now() - interval '40 days', now() - interval '30 days', true, now() - interval '1 hour');
             insert into onceward_dedupe_7 select gen_random_uuid(), 1, 0, 1, 0, n from generate_series(1, 7) n;
             insert into onceward_dedupe_6 select gen_random_uuid(), 1, 0, 1, 0, n from generate_series(1, 6) n",
        )
        .await;
    let route = add {}.route().topic(&topic).group(&group);
    produce(&stack.producer(), &topic, records(10, 1)).await;
    let running = Running::start(stack.app().database_url(&database.url).handler(route));
    stack.caught_up(&group, &topic, 1).await;
    let rows = "select count(*) from onceward_dedupe where slot in (6, 7)";
    eventually("the one is emptied", async || database.number(rows).await == 7).await;
    running.stop().await.unwrap();
    assert_eq!(
        database.number("select count(distinct event_key) from onceward_dedupe where slot in (0, 1)").await,
        10
    );
    let left = "select count(*) from onceward_bucket where (bucket = -1) = (expired_at is not null)";
    assert_eq!(
        database.number(left).await,
        3,
        "-1, nobody looks into any more; 0 and the new one are in use"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_dropped_leaves_its_group() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("dropped", 1).await, unique("group"));
    let app = || {
        let seen = Seen::default();
        let app = stack.app().state(seen.clone()).handler(note {}.route().topic(&topic).group(&group));
        (seen, app)
    };
    produce(&stack.producer(), &topic, records(10, 1)).await;
    let (seen, first) = app();
    tokio::select! {
        ended = first.run() => panic!("it ended by itself: {ended:?}"),
        () = eventually("the first one has handled all", async || seen.count() == 10) => {}
    }
    // It has drained and committed, so the next one gets what comes now, and no more.
    stack.caught_up(&group, &topic, 1).await;
    produce(&stack.producer(), &topic, records(5, 1)).await;
    let (seen, second) = app();
    let running = Running::start(second);
    stack.caught_up(&group, &topic, 1).await;
    running.stop().await.unwrap();
    assert_eq!(seen.count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_stay_go_on_when_a_member_joins_while_all_is_caught_up() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("stay", 4).await, unique("group"));
    let seen = Seen::default();
    let alarms = Arc::new(Mutex::new(Vec::new()));
    let app = || {
        let alarms = alarms.clone();
        let route = note {}.route().topic(&topic).group(&group);
        let alarm = move |partition: &_, offset| alarms.lock().unwrap().push(format!("{partition} {offset}"));
        stack.app().state(seen.clone()).on_out_of_range(alarm).handler(route)
    };
    let producer = stack.producer();
    produce(&producer, &topic, records(100, 20)).await;
    let first = Running::start(app());
    stack.caught_up(&group, &topic, 4).await;
    first.stop().await.unwrap();
    // This one gets its partitions at their ends, and has delivered nothing yet.
    let first = Running::start(app());
    for round in 1..=2 {
        let assigned = Arc::new(tokio::sync::Notify::new());
        let told = assigned.clone();
        let second = Running::start(app().on_assigned(move |_| told.notify_one()));
        assigned.notified().await;
        produce(&producer, &topic, records(100, 20)).await;
        stack.caught_up(&group, &topic, 4).await;
        second.stop().await.unwrap();
        assert_eq!(seen.count(), 100 + 100 * round);
    }
    first.stop().await.unwrap();
    assert_eq!(*alarms.lock().unwrap(), Vec::<String>::new());
}
