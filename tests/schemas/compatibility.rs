//! What a handler cannot read is found out at the start.

use super::*;
use onceward::SchemaCheck;
use stub::Trouble;

impl World {
    /// The versions of a subject, with ids from 1 on.
    fn has_versions(&self, subject: &str, schemas: &[&str]) {
        let versions: Vec<_> = (1..=schemas.len()).collect();
        let path = format!("/subjects/{subject}/versions");
        self.registry.answers(&path, serde_json::json!(versions).to_string());
        for (version, schema) in versions.iter().zip(schemas) {
            let body =
                serde_json::json!({"id": version, "version": version, "subject": subject, "schema": schema});
            self.registry.answers(&format!("{path}/{version}"), body.to_string());
        }
    }

    fn checked(&self, check: SchemaCheck) -> App {
        let mut config = Config::default();
        config.schema_registry.check = Some(check);
        self.app(self.route(one {}), &Seen::default()).config(config)
    }
}

/// What `one` does not read: it lacks the number.
const OTHER: &str =
    r#"{"type": "record", "name": "Numbered", "fields": [{"name": "text", "type": "string"}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_does_not_fit_a_version_is_refused_with_the_field() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.has_versions(&format!("{}-value", world.topic), &[NUMBER, OTHER]);
    let error = Running::start(world.checked(SchemaCheck::Refuse)).ended().await.unwrap_err();
    let topic = &world.topic;
    assert_eq!(
        error.to_string(),
        format!(
            "handler `one`: cannot read what version 2 of subject `{topic}-value` writes: missing field `number`, \
             which those records do not have (`#[serde(default)]` would stand in for it); change its type, or set its \
             `schema_check` to `off`"
        )
    );
    for check in [SchemaCheck::Warn, SchemaCheck::Off] {
        world.send(0, &framed(1, &datum(1))).await;
        let running = Running::start(world.checked(check));
        world.caught_up().await;
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handler_may_be_left_out_of_the_check_or_held_to_it() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.has_versions(&format!("{}-value", world.topic), &[NUMBER, OTHER]);
    let with = |of_all, of_one: Option<SchemaCheck>| {
        let mut config = Config::default();
        config.schema_registry.check = Some(of_all);
        let mut route = world.route(one {});
        if let Some(check) = of_one {
            route = route.schema_check(check);
        }
        world.app(route, &Seen::default()).config(config)
    };
    let held = Running::start(with(SchemaCheck::Off, Some(SchemaCheck::Refuse))).ended().await;
    assert!(held.unwrap_err().to_string().contains("missing field `number`"));
    let mut by_config = Config::default();
    by_config.handlers.entry("one".into()).or_default().schema_check = Some(SchemaCheck::Warn);
    for app in
        [with(SchemaCheck::Refuse, Some(SchemaCheck::Off)), with(SchemaCheck::Refuse, None).config(by_config)]
    {
        world.send(0, &framed(1, &datum(1))).await;
        let running = Running::start(app);
        world.caught_up().await;
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_fits_all_versions_is_not_and_what_was_checked_is_known() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let more =
        NUMBER.replace(r#""type": "int"}"#, r#""type": "int"}, {"name": "more", "type": ["null", "long"]}"#);
    world.has_versions(&format!("{}-value", world.topic), &[NUMBER, &more]);
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(one {}), &seen));
    world.send(0, &framed(1, &datum(1))).await;
    world.send(0, &framed(2, &[4, 0])).await;
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1, 2]);
    assert_eq!(world.registry.asked_for(1) + world.registry.asked_for(2), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_at_the_start_keeps_nobody_from_starting() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.registry.has(1, NUMBER);
    world.registry.is_in(Trouble::Says("503 Service Unavailable\r\n\r\n"));
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(one {}), &seen));
    eventually("it is asked for the subject", async || world.registry.asked() > 0).await;
    world.registry.is_in(None);
    world.send(0, &framed(1, &datum(1))).await;
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1]);
}
