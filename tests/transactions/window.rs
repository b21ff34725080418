//! What was done is known for the whole window, by when it was done: whatever timestamps its copies carry,
//! at the edges of buckets, and when PostgreSQL's clock is set back.

use super::*;
use onceward::by_hand::{Key, Open, Owner};
use support::stack_or_leave_out;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const WINDOW: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Moves the database's clock ahead of what it has noted of the buckets. A negative time sets it back.
async fn pass(database: &Database, seconds: i64) {
    let move_back = format!(
        "update onceward_bucket set opened_at = opened_at - make_interval(secs => {seconds}), \
         closed_at = closed_at - make_interval(secs => {seconds}), \
         expired_at = expired_at - make_interval(secs => {seconds})"
    );
    database.execute(&move_back).await;
}

async fn pass_days(database: &Database, keeper: &Owner, days: u32) {
    for _ in 0..days {
        pass(database, 24 * 60 * 60).await;
        keeper.keep_buckets().await.unwrap();
    }
}

async fn process(database: &Database, partition: i32) -> Owner {
    Owner::new(&database.url, partition, WINDOW, WINDOW).await.unwrap()
}

async fn current(database: &Database) -> i64 {
    database.number("select max(bucket)::bigint from onceward_bucket").await
}

async fn tables(database: &Database) -> i64 {
    database
        .number("select count(*) from pg_class where relkind in ('r', 'p') and relname like 'onceward%'")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_counts_once_for_a_whole_window_whatever_timestamps_the_copies_carry() {
    const MIDNIGHT: i64 = 1_764_115_200_000;
    let world = World::new(stack_or_leave_out!(), 2).await;
    let script = Script::good();
    let app = world.app().state(script.clone()).handler(world.route(one {}));
    let running = Running::start(app);
    let send = async |number: i64, partition, timestamp| {
        let id = number.to_string();
        let headers = vec![("ce_source", "/test"), ("ce_id", &*id)];
        world.send([Sent { number, partition, timestamp, headers, ..Sent::default() }]).await;
    };
    // An hour apart and more, by their timestamps; on both sides of midnight.
    let times =
        [MIDNIGHT - 1, MIDNIGHT + 3_600_001, MIDNIGHT - 40 * 86_400_000, 1, MIDNIGHT + 6 * 86_400_000];
    for (time, partition) in times.into_iter().zip([0, 0, 1, 1, 0]) {
        send(0, partition, Some(time)).await;
    }
    world.caught_up().await;
    world.effects_once_in_order(0..1).await;
    let keeper = process(&world.database, 9).await;
    // Copies of each number after an hour, 1, 6 and 13 days.
    for number in 1..4 {
        send(number, 0, None).await;
        world.caught_up().await;
        pass(&world.database, 3600).await;
        for (days, partition) in [(0, 1), (1, 0), (5, 1), (7, 0)] {
            pass_days(&world.database, &keeper, days).await;
            send(number, partition, None).await;
            world.caught_up().await;
        }
    }
    running.stop().await.unwrap();
    world.effects_once_in_order(0..4).await;
    assert!(current(&world.database).await >= 2, "several buckets");
    script.blames_only(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_years_of_timestamps_make_no_table() {
    const YEAR: i64 = 365 * 24 * 60 * 60 * 1000;
    let any_time = [("retention.ms", "-1"), ("message.timestamp.after.max.ms", "9223372036854775807")];
    let world = World::with_topic(stack_or_leave_out!(), 1, &any_time).await;
    onceward::migrate(&world.database.url).await.unwrap();
    let before = tables(&world.database).await;
    let times = (0..1000).map(|n| n * YEAR / 50).chain([i64::MAX, 32_503_680_000_000]);
    world
        .send((0..).zip(times).map(|(number, time)| Sent {
            number,
            timestamp: Some(time),
            ..Sent::default()
        }))
        .await;
    let mut config = config();
    config.dedupe_window_shorter_than_retention = Some(true);
    let running =
        Running::start(world.app().config(config).state(Script::good()).handler(world.route(one {})));
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..1002).await;
    assert_eq!(tables(&world.database).await, before);
    assert_eq!(world.claims().await, 1002);
}

/// As a server that took over does, whose clock is behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_makes_nobody_forget() {
    let database = stack_or_leave_out!().database().await;
    let (one, other) = (process(&database, 0).await, process(&database, 1).await);
    let begin_and_commit = async |owner: &Owner, key: u128| {
        let (open, fresh) = owner.begin(&[(key, false)]).await.unwrap();
        owner.commit(open).await.unwrap();
        fresh[0]
    };
    assert!(begin_and_commit(&one, 1).await);
    pass_days(&database, &one, 15).await;
    let bucket = current(&database).await;
    assert_eq!(bucket, 1);
    assert!(begin_and_commit(&one, 2).await);
    pass(&database, -3600).await;
    for owner in [&one, &other] {
        owner.keep_buckets().await.unwrap();
        assert!(!begin_and_commit(owner, 1).await);
        assert!(!begin_and_commit(owner, 2).await);
    }
    assert_eq!(current(&database).await, bucket, "it is the same one");
    // A record that comes while the clock is behind is known when it is right again.
    assert!(begin_and_commit(&one, 3).await);
    pass(&database, 3600).await;
    assert!(!begin_and_commit(&other, 3).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_window_is_forgotten_and_its_table_is_emptied() {
    let database = stack_or_leave_out!().database().await;
    let owner = process(&database, 0).await;
    let made = tables(&database).await;
    for key in 0..60 {
        let (open, fresh) = owner.begin(&[(key, false)]).await.unwrap();
        owner.commit(open).await.unwrap();
        assert_eq!(fresh, [true]);
        pass_days(&database, &owner, 1).await;
        pass(&database, 600).await;
        owner.keep_buckets().await.unwrap();
    }
    assert_eq!(tables(&database).await, made);
    let kept = database.number("select count(*) from onceward_dedupe").await;
    assert!((14..=30).contains(&kept), "{kept}");
    let keys: Vec<Key> = (0..60).map(|key| (key, false)).collect();
    let seen = owner.seen(&keys).await.unwrap();
    assert!(seen[60 - 14..].iter().all(|seen| *seen), "{seen:?}");
    assert!(!seen[..60 - 30].iter().any(|seen| *seen), "{seen:?}");
    assert!(database.number("select count(*) from onceward_bucket").await <= 8);
}

/// An edge, with a transaction on the one side that stays open.
struct Edge {
    database: Database,
    slow: Owner,
    open: Open,
}

impl Edge {
    /// A slow transaction claims the identity 1; then the next bucket is opened.
    async fn new(stack: &Stack) -> Self {
        let database = stack.database().await;
        let slow = process(&database, 0).await;
        let (open, fresh) = slow.begin(&[(1, false)]).await.unwrap();
        assert_eq!(fresh, [true]);
        pass_days(&database, &slow, 14).await;
        slow.keep_buckets().await.unwrap();
        assert_eq!(current(&database).await, 1);
        assert_eq!(database.number("select count(*) from onceward_bucket where sealed").await, 0);
        Self { database, slow, open }
    }

    /// Begins as another owner, which waits for the slow one.
    async fn waiting(&self) -> (Arc<Owner>, tokio::task::JoinHandle<Result<(Open, Vec<bool>), String>>) {
        let owner = Arc::new(process(&self.database, 1).await);
        let begin = tokio::spawn({
            let owner = owner.clone();
            async move { owner.begin(&[(1, false)]).await }
        });
        eventually("it waits", async || {
            let waiting = "select count(*) from pg_stat_activity where datname = current_database() \
                           and wait_event_type = 'Lock'";
            self.database.number(waiting).await == 1
        })
        .await;
        (owner, begin)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_on_both_sides_of_an_edge_meet() {
    let stack = stack_or_leave_out!();
    for commits in [true, false] {
        let edge = Edge::new(&stack).await;
        let (other, begin) = edge.waiting().await;
        if commits {
            edge.slow.commit(edge.open).await.unwrap();
        } else {
            edge.slow.rollback(edge.open).await.unwrap();
        }
        let (open, fresh) = begin.await.unwrap().unwrap();
        assert_eq!(fresh, [!commits]);
        other.commit(open).await.unwrap();
        // Sealed, the bucket before is only looked into.
        other.keep_buckets().await.unwrap();
        assert_eq!(edge.database.number("select count(*) from onceward_bucket where sealed").await, 1);
        for owner in [&edge.slow, &*other, &process(&edge.database, 2).await] {
            let (open, fresh) = owner.begin(&[(1, false), (2, false)]).await.unwrap();
            assert_eq!(fresh, [false, true]);
            owner.rollback(open).await.unwrap();
        }
    }
}

/// It has not learnt yet that there is another bucket.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_knows_an_older_bucket_begins_anew() {
    let database = stack_or_leave_out!().database().await;
    let (late, reader) = (process(&database, 0).await, process(&database, 2).await);
    let other = process(&database, 1).await;
    for owner in [&late, &reader] {
        assert_eq!(owner.seen(&[(1, false)]).await.unwrap(), [false]);
    }
    pass_days(&database, &other, 14).await;
    other.keep_buckets().await.unwrap();
    let (open, fresh) = other.begin(&[(1, false), (2, false)]).await.unwrap();
    assert_eq!(fresh, [true, true]);
    other.commit(open).await.unwrap();
    assert_eq!(reader.seen(&[(1, false), (3, false)]).await.unwrap(), [true, false]);
    let (open, fresh) = late.begin(&[(1, false), (3, false)]).await.unwrap();
    assert_eq!(fresh, [false, true]);
    late.commit(open).await.unwrap();
    assert_eq!(database.number("select count(*) from onceward_dedupe where slot = 0").await, 0);
    pass_days(&database, &other, 14).await;
    late.mark(&[(4, false)], true).await.unwrap();
    assert_eq!(database.number("select count(*) from onceward_dedupe where slot = 2").await, 1);
}

/// The one rule where states of several buckets meet: done wins over dead-lettered.
#[tokio::test(flavor = "multi_thread")]
async fn done_wins_over_dead_lettered_in_whichever_bucket_each_is() {
    let stack = stack_or_leave_out!();
    for sealed in [false, true] {
        let database = stack.database().await;
        let owner = process(&database, 0).await;
        // 1: a letter, 2: done and then a letter, 3: a letter and then done, 5: a letter of the later bucket.
        owner.mark(&[(1, false), (3, false)], false).await.unwrap();
        owner.mark(&[(2, false)], true).await.unwrap();
        let slow = process(&database, 1).await.begin(&[(9, false)]).await.unwrap().0;
        pass_days(&database, &owner, 14).await;
        if sealed {
            drop(slow);
            eventually("it is sealed", async || {
                owner.keep_buckets().await.unwrap();
                database.number("select count(*) from onceward_bucket where sealed").await == 1
            })
            .await;
        }
        // What a process knows of the buckets is half a minute old at most.
        let owner = process(&database, 0).await;
        owner.mark(&[(2, false), (5, false)], false).await.unwrap();
        owner.mark(&[(3, false)], true).await.unwrap();
        let again: Vec<Key> = (1..6).map(|key| (key, false)).collect();
        let back: Vec<Key> = (1..6).map(|key| (key, true)).collect();
        assert_eq!(owner.seen(&again).await.unwrap(), [true, true, true, false, true]);
        assert_eq!(owner.seen(&back).await.unwrap(), [false, true, true, false, false]);
        // A copy that was not sent back leaves the letter a letter.
        let (open, fresh) = owner.begin(&again).await.unwrap();
        assert_eq!(fresh, [false, false, false, true, false]);
        owner.commit(open).await.unwrap();
        assert_eq!(owner.seen(&back).await.unwrap(), [false, true, true, true, false]);
        let (open, fresh) = owner.begin(&back).await.unwrap();
        assert_eq!(fresh, [true, false, false, false, true], "sealed: {sealed}");
        owner.rollback(open).await.unwrap();
        assert_eq!(owner.seen(&back[..1]).await.unwrap(), [false], "it is a letter still");
        let (mut open, _) = owner.begin(&back[..1]).await.unwrap();
        open.unclaim(&back[..1]).await.unwrap();
        owner.commit(open).await.unwrap();
        let (open, fresh) = owner.begin(&back[..1]).await.unwrap();
        assert_eq!(fresh, [true], "what was given back can be claimed");
        owner.commit(open).await.unwrap();
        assert_eq!(owner.seen(&back[..4]).await.unwrap(), [true; 4]);
    }
}

/// A claim that names a table which is to be emptied is not waited for, and waits for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn emptying_a_table_waits_for_nobody() {
    let database = stack_or_leave_out!().database().await;
    let owner = process(&database, 0).await;
    let (open, _) = owner.begin(&[(1, false)]).await.unwrap();
    owner.commit(open).await.unwrap();
    let mut reader = database.connect().await;
    reader.execute("begin; select count(*) from onceward_dedupe_0").await.unwrap();
    pass_days(&database, &owner, 32).await;
    assert_eq!(database.number("select count(*) from onceward_dedupe where slot = 0").await, 1);
    let (open, fresh) = owner.begin(&[(2, false)]).await.unwrap();
    assert_eq!(fresh, [true]);
    owner.commit(open).await.unwrap();
    reader.execute("commit").await.unwrap();
    owner.keep_buckets().await.unwrap();
    assert_eq!(database.number("select count(*) from onceward_dedupe where slot = 0").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_distance_between_copies_leaves_out_what_was_closed_for_longer() {
    let database = stack_or_leave_out!().database().await;
    let near = Owner::new(&database.url, 0, WINDOW, HOUR).await.unwrap();
    let far = process(&database, 1).await;
    let (open, _) = far.begin(&[(1, false)]).await.unwrap();
    far.commit(open).await.unwrap();
    pass_days(&database, &far, 14).await;
    far.keep_buckets().await.unwrap();
    assert_eq!(near.seen(&[(1, false)]).await.unwrap(), [true], "it was closed just now");
    pass(&database, 2 * 3600).await;
    let near = Owner::new(&database.url, 0, WINDOW, HOUR).await.unwrap();
    assert_eq!(near.seen(&[(1, false)]).await.unwrap(), [false]);
    assert_eq!(far.seen(&[(1, false)]).await.unwrap(), [true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_kept_for_the_longest_window_of_all_services() {
    let database = stack_or_leave_out!().database().await;
    let short = Owner::new(&database.url, 0, DAY, DAY).await.unwrap();
    let (open, _) = short.begin(&[(1, false)]).await.unwrap();
    short.commit(open).await.unwrap();
    // Of another group, which the first knows nothing of.
    database
        .execute("insert into onceward_scope (group_id, handler, topics, keep) values ('other', 'h', '{}', '14 days')")
        .await;
    pass_days(&database, &short, 13).await;
    let kept = "select count(*) from onceward_dedupe";
    assert_eq!(database.number(kept).await, 1);
    database.execute("delete from onceward_scope where group_id = 'other'").await;
    pass_days(&database, &short, 3).await;
    assert_eq!(database.number(kept).await, 0);
}

const SEEDS: u64 = 1_000;
const KEYS: u128 = 6;

/// Two partitions' owners, each a process of its own, with the same identities; a third moves the buckets on.
#[tokio::test(flavor = "multi_thread")]
async fn two_partitions_at_an_edge_count_each_identity_once_in_any_interleaving() {
    let database = Arc::new(stack_or_leave_out!().database().await);
    database.execute("create table counted (seed bigint, key bigint)").await;
    let owners = [Arc::new(process(&database, 0).await), Arc::new(process(&database, 1).await)];
    let keeper = Arc::new(process(&database, 2).await);
    for seed in 0..SEEDS {
        let working: Vec<_> = (0..2)
            .map(|index| tokio::spawn(count_all(owners[index].clone(), seed, seed * 2 + index as u64)))
            .collect();
        let keeping = tokio::spawn(move_on(database.clone(), keeper.clone(), seed));
        for worker in working {
            worker.await.unwrap();
        }
        keeping.await.unwrap();
    }
    let counted =
        "select count(*) from (select seed, key from counted group by seed, key having count(*) = 1) once";
    let expected = i64::try_from(u128::from(SEEDS) * KEYS).unwrap();
    assert_eq!(database.number(counted).await, expected);
    assert_eq!(database.number("select count(*) from counted").await, expected);
    assert!(current(&database).await > 100, "the buckets moved on");
}

/// Counts each identity of a seed that is fresh, in runs of some, in transactions of different lengths of
/// which some fail.
async fn count_all(owner: Arc<Owner>, seed: u64, own: u64) {
    let mut random = fastrand::Rng::with_seed(own);
    let mut left: Vec<u128> = (0..KEYS).collect();
    while !left.is_empty() {
        let run: Vec<u128> = left.iter().copied().filter(|_| random.f64() < 0.6).collect();
        let keys: Vec<Key> = run.iter().map(|key| (u128::from(seed) << 64 | key, false)).collect();
        let pauses = [0, 0, 1, 3].map(|most| Duration::from_millis(random.u64(0..=most)));
        tokio::time::sleep(pauses[random.usize(0..4)]).await;
        // Deadlocks and waits that are too long are what a run begins anew after.
        let Ok((mut open, fresh)) = owner.begin(&keys).await else { continue };
        for (key, _) in run.iter().zip(&fresh).filter(|(_, fresh)| **fresh) {
            let count = format!("insert into counted values ({seed}, {key})");
            sqlx::query(&count).execute(open.tx()).await.unwrap();
        }
        tokio::time::sleep(pauses[random.usize(0..4)]).await;
        if random.f64() < 0.2 {
            owner.rollback(open).await.unwrap();
        } else {
            owner.commit(open).await.unwrap();
            left.retain(|key| !run.contains(key));
        }
    }
}

/// Lets days pass, and buckets be opened and sealed, while the others claim.
async fn move_on(database: Arc<Database>, keeper: Arc<Owner>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(!seed);
    for _ in 0..random.u32(1..4) {
        tokio::time::sleep(Duration::from_millis(random.u64(0..4))).await;
        if random.f64() < 0.6 {
            // After three of these the next bucket is opened.
            pass(&database, 16 * 24 * 60 * 60 / 3).await;
        }
        keeper.keep_buckets().await.unwrap();
    }
}
