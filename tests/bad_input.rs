//! What is wrong with a service or its surroundings is said in one sentence that names the setting and the
//! fix, before anything is consumed; what is wrong with a record costs nobody else anything.

use onceward::prelude::*;
use onceward::{Config, DedupeKind, Guarantee, Order, Start, Unmatched};
use rdkafka::producer::FutureRecord;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{PATIENCE, Running, Stack, fill, stack_or_leave_out, unique};

#[derive(Default, Clone)]
struct Sizes(Arc<AtomicUsize>);

#[handler(topic = "overridden")]
async fn count_bytes(payload: &[u8], sizes: State<Sizes>) {
    sizes.0.0.fetch_add(payload.len(), Ordering::Relaxed);
}

#[handler(topic = "overridden")]
async fn write(payload: &[u8], tx: &mut Tx) -> HandlerResult {
    sqlx::query("select length($1)").bind(payload).execute(tx).await?;
    Ok(())
}

/// A service that could consume a record, and the group whose offset would show it.
struct Service {
    stack: Stack,
    topic: String,
    group: String,
}

impl Service {
    async fn new(stack: Stack) -> Self {
        let (topic, group) = (stack.topic("refused", 1).await, unique("group"));
        fill(&stack, &topic, 0, 1).await;
        Self { stack, topic, group }
    }

    fn app(&self) -> App {
        self.on(self.stack.app())
    }

    /// The service on other servers or settings.
    fn on(&self, app: App) -> App {
        let route = count_bytes {}.route().topic(&self.topic).group(&self.group);
        app.state(Sizes::default()).handler(route)
    }

    /// The same with a handler that takes a transaction.
    fn with_transaction(&self) -> App {
        self.stack.app().handler(write {}.route().topic(&self.topic).group(&self.group))
    }

    /// What the application says when it refuses to run: one line, and nothing was consumed.
    async fn refusal(&self, app: App) -> String {
        let error = format!("{:?}", Running::start(app).ended().await.unwrap_err());
        assert!(!error.contains('\n'), "{error}");
        assert_eq!(self.stack.committed(&self.group, &self.topic, 0), None, "{error}");
        error
    }

    async fn is_refused(&self, app: App, names: &[&str]) {
        let error = self.refusal(app).await;
        for name in names {
            assert!(error.contains(name), "`{name}` is missing in: {error}");
        }
    }
}

fn config(set: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    set(&mut config);
    config
}

// --- settings ---

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_are_missing_or_impossible_are_refused_by_name() {
    let service = Service::new(stack_or_leave_out!()).await;
    let group = &service.group;
    service.is_refused(service.on(App::new()), &["`brokers`", "KAFKA_BROKERS"]).await;
    let app = service.on(App::new().brokers("kafka://127.0.0.1:9092"));
    service.is_refused(app, &["`brokers`", "`host:port`", "`://`"]).await;
    service.is_refused(service.stack.app(), &["`handlers`", "App::handler"]).await;
    let app = service.stack.app().handler(count_bytes {}.route().topic(&service.topic));
    service.is_refused(app.state(Sizes::default()), &["`count_bytes`", "`group`"]).await;
    let app = service.app().kafka("fetch.wait.max.millis", "100");
    service
        .is_refused(app, &["setting `kafka.fetch.wait.max.millis`", "No such configuration property"])
        .await;
    let app = service.app().kafka("fetch.wait.max.ms", "soon");
    service.is_refused(app, &["setting `kafka.fetch.wait.max.ms`", "must be a number, 0 .. 300000"]).await;
    let app = service.app().kafka("max.in.flight", "10");
    service.is_refused(app, &["setting `kafka`", "max.in.flight", "enable.idempotence"]).await;
    let app = service.app().kafka("enable.auto.commit", "true");
    service.is_refused(app, &["kafka.enable.auto.commit", "would undo a promise"]).await;
    let app = service.app().kafka("session.timeout.ms", "1000");
    service.is_refused(app, &["`drain_deadline`", "session.timeout.ms"]).await;
    let app = service.app().shutdown_deadline(Duration::from_secs(1));
    service.is_refused(app, &["`shutdown_deadline`", "`drain_deadline`"]).await;
    let app = service.app().config(config(|config| config.max_run_records = Some(0)));
    service.is_refused(app, &["`max_run_records`", "at least 1"]).await;
    let app = service.app().config(config(|config| config.max_in_flight = Some(10)));
    service.is_refused(app, &["`max_in_flight`", "`max_run_records` = 1000"]).await;
    let routes = |order, concurrency| {
        let route = count_bytes {}.route().topic(&service.topic).group(group).order(order);
        service.stack.app().state(Sizes::default()).handler(route.concurrency(concurrency))
    };
    service.is_refused(routes(Order::Key, 0), &["`count_bytes`", "`concurrency` is 0"]).await;
    service.is_refused(routes(Order::Partition, 8), &["`count_bytes`", "`order`", "one after the"]).await;
    let lossy = Guarantee::AtMostOnceLosingWorkInFlight;
    let with = write {}.route().topic(&service.topic).group(group).guarantee(lossy);
    let app = service.stack.app().database_url(&service.stack.database_url).handler(with);
    service.is_refused(app, &["`write`", "`&mut Tx`", "at_most_once_losing_work_in_flight"]).await;
    let by_key = count_bytes {}.route().topic(&service.topic).group(group).order(Order::Key);
    let app = service.stack.app().state(Sizes::default()).handler(by_key.guarantee(lossy));
    service.is_refused(app, &["`count_bytes`", "needs `order = \"partition\"`"]).await;
    let app = service.app().unmatched("flihgts", Unmatched::Skip);
    service.is_refused(app, &["`unmatched`", "flihgts", &service.topic]).await;
    let app = service.app().dedupe(DedupeKind::Postgres);
    service.is_refused(app, &["`database_url`", "DATABASE_URL"]).await;
    service.is_refused(service.with_transaction(), &["`write`", "DATABASE_URL"]).await;

    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{group}.toml"));
    for (text, names) in [
        ("drain_dedline = \"1s\"", "drain_dedline"),
        ("drain_deadline = 1", "drain_deadline"),
        ("start = \"tomorrow\"", "`earliest`"),
        ("\n\nbrokers = ", "line 3 of"),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = format!("{:?}", Config::file(&file).unwrap_err());
        assert!(error.contains(names) && !error.contains('\n'), "{error}");
    }
    std::fs::write(&file, "[handlers.count_byte]\ntopic = \"x\"").unwrap();
    let app = service.app().config(Config::file(&file).unwrap());
    service.is_refused(app, &["`handlers.count_byte`", "count_bytes"]).await;
    std::fs::remove_file(&file).unwrap();
    let error = format!("{:?}", Config::file(&file).unwrap_err());
    assert!(error.contains("cannot read the file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_could_take_one_record_are_refused() {
    let service = Service::new(stack_or_leave_out!()).await;
    let (topic, group) = (&service.topic, &service.group);
    let other = || write {}.route().group(group);
    let apart = |order| count_bytes {}.route().topic(topic).group(group).event("a").order(order);
    let app = service.stack.app().state(Sizes::default()).database_url(&service.stack.database_url);
    let app = app.handler(apart(Order::Key)).handler(other().topic(topic).event("b"));
    service.is_refused(app, &["`write`", "another `order`", "`count_bytes`", group]).await;
    let pattern = format!("^{}", &topic[..topic.len() - 2]);
    for route in [other().topic(topic), other().topic(&pattern), other().topic(topic).event("departed")] {
        let app = service.app().database_url(&service.stack.database_url).handler(route);
        service.is_refused(app, &["`write`", "`count_bytes`", group, "`event`"]).await;
    }
    let twin = count_bytes {}.route().topic("another").group(group);
    service.is_refused(service.app().handler(twin), &["`count_bytes`", "two handlers of this name"]).await;
    let broken = count_bytes {}.route().topic("^flights-(").group(unique("group"));
    let app = service.stack.app().state(Sizes::default()).handler(broken);
    service.is_refused(app, &["`count_bytes`", "^flights-(", "no regular expression"]).await;
}

// --- Kafka ---

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_does_not_answer_or_has_no_such_topic_is_said() {
    let service = Service::new(stack_or_leave_out!()).await;
    // Port 1 of this machine: nobody listens there.
    let app = service.on(App::new().brokers("127.0.0.1:1"));
    let since = std::time::Instant::now();
    service.is_refused(app, &["`127.0.0.1:1` refuses the connection", &service.topic]).await;
    assert!(since.elapsed() < Duration::from_secs(8), "the cause is known before the request is given up");
    let missing = unique("missing");
    let app = || {
        let route = count_bytes {}.route().topic(&missing).group(&service.group);
        service.stack.app().state(Sizes::default()).handler(route)
    };
    service.is_refused(app(), &[&missing, "does not exist", "`wait_for_topics`"]).await;
    let app = app().wait_for_topics(Duration::from_millis(300));
    service.is_refused(app, &[&missing, "does not exist"]).await;
    let illegal = count_bytes {}.route().topic("flights/2013").group(&service.group);
    let app = service.stack.app().state(Sizes::default()).handler(illegal);
    service.is_refused(app, &["flights/2013", "not a legal name", "`topic`"]).await;
}

impl Service {
    /// The service as a user who may do nothing but what was granted.
    fn limited(&self) -> App {
        let app = App::new().brokers(&self.stack.brokers_limited);
        self.on(with_login(app, "limited"))
    }

    fn grant(&self, words: &[&str]) {
        let status = Stack::ctl_command(&["tool", "org.apache.kafka.tools.AclCommand"])
            .args(["--bootstrap-server", &self.stack.brokers, "--add", "--allow-principal", "User:limited"])
            .args(words)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{words:?}: {status}");
    }
}

fn with_login(app: App, password: &str) -> App {
    app.kafka("security.protocol", "SASL_PLAINTEXT")
        .kafka("sasl.mechanism", "PLAIN")
        .kafka("sasl.username", "limited")
        .kafka("sasl.password", password)
        .kafka("session.timeout.ms", "6000")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_missing_is_named() {
    let service = Service::new(stack_or_leave_out!()).await;
    service.is_refused(service.limited(), &[&service.topic, "ACL", "READ"]).await;
    service.grant(&["--operation", "Read", "--topic", &service.topic]);
    let letters = format!("{}.dlq", service.topic);
    service.is_refused(service.limited(), &[&letters, "WRITE", "`dead_letter`"]).await;
    service.grant(&["--operation", "Write", "--topic", &letters]);
    service.is_refused(service.limited(), &[&letters, "may not make it", "CREATE", "`dead_letter`"]).await;
    service.grant(&["--operation", "Create", "--topic", &letters]);
    service.is_refused(service.limited(), &["group", "READ", "ACL"]).await;
    service.grant(&["--operation", "Read", "--group", &service.group]);
    let running = Running::start(service.limited());
    service.stack.caught_up(&service.group, &service.topic, 1).await;
    running.stop().await.unwrap();
}

/// What cannot be seen is not checked: it is no retention for ever.
#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_topic_that_may_not_be_seen_are_not_checked() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("unseen", 1).await, unique("group"));
    fill(&stack, &topic, 0, 1).await;
    let service = Service { stack, topic, group };
    let letters = format!("{}.dlq", service.topic);
    service.stack.topic_named(&letters, 1, &[]).await;
    service.grant(&["--operation", "Read", "--topic", &service.topic]);
    service.grant(&["--operation", "Read", "--operation", "Write", "--topic", &letters]);
    service.grant(&["--operation", "Read", "--group", &service.group]);
    let database = service.stack.database().await;
    let start = || {
        let app = service.limited().database_url(&database.url).migrate(true).dedupe(DedupeKind::Postgres);
        app.config(Config::default().dedupe_window_shorter_than_retention(false))
    };
    let running = Running::start(start());
    service.stack.caught_up(&service.group, &service.topic, 1).await;
    running.stop().await.unwrap();
    // With the right it is seen that the topic keeps its records for longer.
    service.stack.alter_topic(&service.topic, &[("retention.ms", "-1")]).await;
    service.grant(&["--operation", "DescribeConfigs", "--topic", &service.topic]);
    let error = start().run().await.unwrap_err().to_string();
    assert!(error.contains("`dedupe_window`") && error.contains("for ever"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_for_kafka_is_said_and_not_repeated() {
    let service = Service::new(stack_or_leave_out!()).await;
    let app = App::new().brokers(&service.stack.brokers_limited);
    let error = service.refusal(service.on(with_login(app, "hunter2"))).await;
    assert!(error.contains("kafka.sasl") && !error.contains("hunter2"), "{error}");
}

// --- PostgreSQL ---

#[tokio::test(flavor = "multi_thread")]
async fn a_database_url_that_does_not_work_is_said_without_its_password() {
    let service = Service::new(stack_or_leave_out!()).await;
    let good = &service.stack.database_url;
    let (base, _) = good.rsplit_once('/').unwrap();
    let no_such_database = format!("{base}/no_such_database");
    for (url, names) in [
        ("not a url", "postgres://user:password@host:port/database"),
        ("mysql://root:hunter2@127.0.0.1/x", "postgres://user:password@host:port/database"),
        ("postgres://app:hunter2#@127.0.0.1/x", "`%23`"),
        ("postgres://app:hunter2@127.0.0.1:1/x", "nobody listens at its host and port"),
        ("postgres://app:hunter2@no-such-host.invalid/x", "does not resolve"),
        (&no_such_database, "no_such_database"),
    ] {
        let error = service.refusal(service.with_transaction().database_url(url)).await;
        assert!(error.contains("`database_url`") && error.contains(names), "{url}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let with_tls = format!("{good}?sslmode=require");
    let error = service.refusal(service.with_transaction().database_url(&with_tls)).await;
    assert_eq!(error.matches("TLS").count(), 1, "{error}");
    assert!(error.contains("enable the feature `postgres-tls`"), "{error}");
    let empty = service.stack.database().await;
    let app = service.with_transaction().database_url(&empty.url);
    service.is_refused(app, &["migrate"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dedupe_window_shorter_than_what_a_topic_keeps_is_refused_unless_accepted() {
    let stack = stack_or_leave_out!();
    let keeps = [("retention.ms", "259200000")];
    let (topic, group) = (stack.topic_with("kept", 1, &keeps).await, unique("group"));
    fill(&stack, &topic, 0, 1).await;
    let service = Service { stack, topic, group };
    let database = service.stack.database().await;
    let app = |accepted| {
        let window = config(|config| {
            config.dedupe_window = Some(Duration::from_secs(2 * 24 * 60 * 60));
            config.dedupe_window_shorter_than_retention = accepted;
        });
        service.with_transaction().database_url(&database.url).migrate(true).config(window)
    };
    let names = ["`dedupe_window`", &service.topic, "3days", "`dedupe_window_shorter_than_retention = true`"];
    service.is_refused(app(None), &names).await;
    // Only whole segments are deleted, so the oldest record of one stays for longer.
    let set = async |segment: &str| {
        let settings = [("retention.ms", "86400000"), ("segment.ms", segment)];
        service.stack.alter_topic(&service.topic, &settings).await;
    };
    set("86400001").await;
    service.is_refused(app(None), &["`dedupe_window`", "`segment.ms` = 1day 1ms"]).await;
    set("86400000").await;
    let running = Running::start(app(None));
    service.stack.caught_up(&service.group, &service.topic, 1).await;
    running.stop().await.unwrap();
    let running = Running::start(app(Some(true)));
    service.stack.caught_up(&service.group, &service.topic, 1).await;
    running.stop().await.unwrap();
}

// --- secrets ---

/// What stands in every secret; no output may hold it.
const CANARY: &str = "canary-6f1d";

/// Reads its settings from the environment, and logs all that it can.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a service for another test"]
async fn a_service_of_the_environment() {
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).init();
    let app = App::from_env().unwrap().state(Sizes::default()).handler(count_bytes {});
    println!("{app:?}");
    // Not with `unwrap`: what a `main` prints is this.
    println!("{:?}", app.run().await);
}

/// Starts it, and gives all that it has said when it has ended.
async fn said(variables: &[(&str, &str)]) -> String {
    let mut service = tokio::process::Command::new(std::env::current_exe().unwrap());
    service.args(["--exact", "bad_input::a_service_of_the_environment", "--ignored", "--nocapture"]);
    service.envs(variables.iter().copied());
    // A variable of somebody else, that is not even text.
    service.env("SOMEBODY_ELSES", std::ffi::OsString::from_vec(vec![0xff]));
    let output = service.output().await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_repeated_in_anything_that_a_service_says() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("secrets", 1).await, unique("group"));
    let database = format!("postgres://app:{CANARY}@127.0.0.1:1/app");
    let secrets = [
        ("ONCEWARD_KAFKA__SECURITY_PROTOCOL", "sasl_plaintext"),
        ("ONCEWARD_KAFKA__SASL_MECHANISMS", "PLAIN"),
        ("ONCEWARD_KAFKA__SASL_USERNAME", CANARY),
        ("ONCEWARD_KAFKA__SASL_PASSWORD", CANARY),
        ("ONCEWARD_KAFKA__CLIENT_ID", CANARY),
        ("ONCEWARD_INSTANCE_ID", CANARY),
        ("ONCEWARD_SCHEMA_REGISTRY__URL", "http://127.0.0.1:1"),
        ("ONCEWARD_SCHEMA_REGISTRY__USERNAME", CANARY),
        ("ONCEWARD_SCHEMA_REGISTRY__PASSWORD", CANARY),
        ("ONCEWARD_HANDLERS__COUNT_BYTES__TOPIC", &topic),
        ("ONCEWARD_HANDLERS__COUNT_BYTES__GROUP", &group),
        ("ONCEWARD_DATABASE_URL", &database),
    ];
    for (more, says) in [
        (&[("KAFKA_BROKERS", "127.0.0.1:1")][..], "connect to PostgreSQL"),
        (&[("KAFKA_BROKERS", &*stack.brokers_limited), ("ONCEWARD_DEDUPE", "off")], "kafka.sasl"),
        (&[("KAFKA_BROKERS", "127.0.0.1:1"), ("ONCEWARD_DEDUPE", "off")], "refuses the connection"),
        (&[("KAFKA_BROKERS", CANARY)], "`KAFKA_BROKERS`"),
        (&[("ONCEWARD_KAFKA__SASL_PASSWD", CANARY)], "did you mean `sasl.password`?"),
    ] {
        let brokers = [("KAFKA_BROKERS", "127.0.0.1:1")];
        let output = said(&[&brokers, &secrets[..], more].concat()).await;
        assert!(output.contains(says), "`{says}` is missing in: {output}");
        assert!(!output.contains(CANARY), "{output}");
    }
}

// --- records ---

/// Bounds are for what waits; a record that is larger than all of them still goes through, alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_larger_than_every_bound_is_handled_like_any_other() {
    let stack = stack_or_leave_out!();
    let large = [("max.message.bytes", "4000000")];
    let (topic, group, sizes) =
        (stack.topic_with("large", 1, &large).await, unique("group"), Sizes::default());
    let producer: rdkafka::producer::FutureProducer =
        stack.client().set("message.max.bytes", "4000000").create().unwrap();
    let payload = "x".repeat(3_000_000);
    for payload in ["small", &payload, "small", &payload, &payload, "small"] {
        let record = FutureRecord::<str, str>::to(&topic).payload(payload);
        producer.send(record, PATIENCE).await.unwrap();
    }
    let bounds = config(|config| {
        config.max_run_bytes = Some(1000);
        config.max_in_flight_bytes = Some(1000);
        config.start = Some(Start::Earliest);
    });
    let app = stack
        .app()
        .config(bounds)
        .kafka("max.partition.fetch.bytes", "1000")
        .kafka("fetch.max.bytes", "1000000")
        .kafka("queued.max.messages.kbytes", "1000")
        .state(sizes.clone())
        .handler(count_bytes {}.route().topic(&topic).group(&group));
    let running = Running::start(app);
    stack.caught_up(&group, &topic, 1).await;
    running.stop().await.unwrap();
    assert_eq!(sizes.0.load(Ordering::Relaxed), 3 * payload.len() + 3 * "small".len());
}
