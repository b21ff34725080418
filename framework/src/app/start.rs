//! Reads an application's settings, checks them, and builds its consumers.

use super::binding::{Common, RouterParts, bind, routers};
#[cfg(feature = "schemas")]
use super::checks::check_schemas;
use super::checks::{check_policies, check_routes, check_topics};
use super::command::{self, Command};
use super::prepared::Prepared;
use super::signals::Signals;
use super::store::connect;
use crate::Error;
use crate::app::builder::App;
use crate::config::{Config, HandlerConfig, Origins, Resolved, handlers};
use crate::consumer::assignment::Setup;
use crate::consumer::shutdown::Shutdown;
use crate::consumer::subscription::{Subscription, letters_of};
use crate::dedupe::Dedupe;
use crate::failure::dead_letter::DeadLetters;
use crate::handler::Settings;
use crate::kafka::client_config::ClientSettings as _;
use crate::publish::Publishing;
use crate::routing::route::Routes;
#[cfg(feature = "schemas")]
use crate::schemas::Schemas;
use crate::telemetry::trace::Spans;
use crate::worker::partition::Limits;
use crate::worker::starts::Suspects;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::{self, UnboundedSender};

impl App {
    /// Runs the command given on the command line: `run` (the default), `migrate` (creates
    /// Onceward's tables and ends), `check` (does all checks of a start and ends), or `help`.
    ///
    /// `migrate` and `check` print a line that says what they found.
    ///
    /// # Errors
    /// As [`run`](Self::run), and for a command that does not exist.
    pub async fn command(mut self) -> Result<(), Error> {
        // A name of its own: the iterator is not `Send` and would live through the match.
        let command = std::env::args_os().nth(1).map(|command| command.to_string_lossy().into_owned());
        match Command::parse(command.as_deref()).inspect_err(|_| command::print_usage_to_stderr())? {
            Command::Run => self.run().await,
            Command::Migrate => {
                self.code.migrate = Some(true);
                let config = self.given.over(self.code);
                let origins = config.origins.clone();
                let checked = config.resolve().and_then(|config| config.check_times().map(|()| config));
                let config = checked.map_err(|error| origins.place(error))?;
                connect(&config).await.map_err(|error| origins.place(error))?;
                command::print(command::migrated(config.dedupe));
                Ok(())
            }
            Command::Check => {
                self.only_checks = true;
                command::print(self.prepare().await?.found().await?);
                Ok(())
            }
            Command::Help => {
                command::print(command::USAGE);
                Ok(())
            }
        }
    }

    /// Consumes until SIGTERM, SIGINT, the token of [`shutdown_on`](Self::shutdown_on), or an
    /// error. Then finishes the work in flight, commits, and leaves the groups.
    ///
    /// A second signal, at least one second after the first, ends the process at once, with exit
    /// code 128 + its number, unless another part of the process listens for that signal too.
    /// When this returns, signals have the effect again that they had before.
    ///
    /// # Errors
    /// Before anything is consumed: settings that are missing, unknown or impossible, topics
    /// and tables that do not exist or may not be used. Later: a consumer that was fenced or
    /// lost its permissions, a record whose policy is to stop, work that did not finish within
    /// `shutdown_deadline`.
    pub async fn run(mut self) -> Result<(), Error> {
        // A signal must not cancel what else hangs on the application's token.
        let (token, has_signals) = (self.token.child_token(), self.has_signals);
        let (start, stop) = (std::mem::take(&mut self.start), std::mem::take(&mut self.stop));
        let health = self.health.clone();
        let run = async {
            let prepared = self.prepare().await?;
            let _upkeep = prepared.upkeep();
            start.run("a hook on start").await?;
            let work = async {
                let consumed = prepared.consume(&token).await;
                let stopped = stop.run("a hook on stop").await;
                consumed.and(stopped)
            };
            match has_signals {
                true => Signals::listen()?.during(&token, work).await,
                false => work.await,
            }
        };
        let ended = run.await;
        health.ends(ended.as_ref().err());
        ended
    }

    /// Does all checks, and builds the consumers from the settings.
    async fn prepare(mut self) -> Result<Prepared, Error> {
        let given = std::mem::take(&mut self.given);
        let config = given.over(std::mem::take(&mut self.code));
        let origins = config.origins.clone();
        self.prepare_with(config).await.map_err(|error| origins.place(error))
    }

    async fn prepare_with(mut self, config: Config) -> Result<Prepared, Error> {
        let config = self.check(config).await?;
        let dedupe = connect(&config).await?;
        let groups = group(std::mem::take(&mut self.routes));
        for routes in groups.values() {
            check_topics(&config, routes, &self.policies).await?;
        }
        let health = self.health.clone();
        health.expect(groups.len(), config.stuck_after);
        let (sender, stop) = mpsc::unbounded_channel();
        let shutdown = Shutdown::new(config.shutdown_deadline);
        let setups = self.setups(&config, groups, &dedupe, sender).await?;
        Ok(Prepared { config, dedupe, setups, health, shutdown, stop })
    }

    /// Checks all that can be checked without PostgreSQL and Kafka.
    async fn check(&mut self, config: Config) -> Result<Resolved, Error> {
        let needs_database = self.routes.iter().any(|route| route.takes_transaction());
        let config = config.without_foreign_database(needs_database);
        let (overrides, origins) = (config.handlers.clone(), config.origins.clone());
        let config = config.resolve()?;
        config.check_times()?;
        self.override_settings(&overrides, &origins)?;
        config.check_properties()?;
        #[cfg(feature = "schemas")]
        self.context.set_schemas(Schemas::new(&config.schema_registry)?);
        check_routes(&self.routes, &self.context, &config)?;
        check_policies(&self.policies, &self.routes, &self.context)?;
        #[cfg(feature = "schemas")]
        match check_schemas(&self.routes, &self.context, &self.policies, &config).await {
            // A record will wait for it, if it has to.
            Err(error @ Error::Registry { .. }) if !self.only_checks => {
                tracing::warn!(?error, "handlers are not checked against the schema registry");
            }
            checked => checked?,
        }
        Ok(config)
    }

    /// The setup of each group's thread.
    async fn setups(
        mut self,
        config: &Resolved,
        groups: BTreeMap<String, Routes>,
        dedupe: &Dedupe,
        stop: UnboundedSender<Error>,
    ) -> Result<Vec<(Subscription, Setup)>, Error> {
        let unread = letters_of(groups.values());
        let spans = Spans::new(config.trace);
        let publishing = Arc::new(Publishing::new(config, &spans)?);
        self.context.set_publishing(publishing.clone());
        let letters = DeadLetters::new(config, &spans)?;
        let context = Arc::new(self.context);
        let common = Common { dedupe: dedupe.clone(), context, letters, publishing, spans };
        let (hooks, policies) = (Arc::new(self.hooks), Arc::new(self.policies));
        let suspects: Arc<Suspects> = Arc::default();
        let mut setups = Vec::new();
        for (name, routes) in groups {
            let group: Arc<str> = name.into();
            let subscription = Subscription::new(config, &routes, unread.clone())?;
            let handlers = routes.iter().map(|route| route.settings().name.clone()).collect();
            let routers = routers(RouterParts {
                group: group.clone(),
                bound: bind(routes, &group, &common, &self.retired).await?,
                policies: policies.clone(),
                context: common.context.clone(),
                letters: common.letters.to(None, None),
                unread: unread.clone(),
                stop: stop.clone(),
            });
            let setup = Setup {
                group,
                routers,
                limits: limits(config),
                drain_deadline: config.drain_deadline,
                start: config.start,
                out_of_range: config.out_of_range,
                hooks: hooks.clone(),
                health: self.health.clone(),
                handlers,
                suspects: suspects.clone(),
                runtime: tokio::runtime::Handle::current(),
                stop: stop.clone(),
            };
            setups.push((subscription, setup));
        }
        Ok(setups)
    }

    /// Overrides the handlers' settings in code by those of a file or the environment.
    fn override_settings(
        &mut self,
        overrides: &BTreeMap<String, HandlerConfig>,
        origins: &Origins,
    ) -> Result<(), Error> {
        let names: Vec<String> = self.routes.iter().map(|route| route.settings().name.clone()).collect();
        let meant = handlers::meant(overrides.keys(), &names, origins)?;
        for route in &mut self.routes {
            let name = route.settings().name.clone();
            for (given, _) in meant.iter().filter(|(_, handler)| **handler == name) {
                override_settings(route.settings_mut(), overrides[given].clone());
            }
        }
        Ok(())
    }
}

fn limits(config: &Resolved) -> Limits {
    Limits {
        records: config.max_run_records,
        bytes: config.max_run_bytes,
        time: config.max_run_time,
        in_flight: config.max_in_flight,
        in_flight_bytes: config.max_in_flight_bytes,
    }
}

/// Overrides a handler's settings by a file or the environment.
fn override_settings(settings: &mut Settings, given: HandlerConfig) {
    if let Some(topic) = given.topic {
        settings.topics = vec![topic];
    }
    settings.group = given.group.or(settings.group.take());
    settings.timeout = given.timeout.or(settings.timeout);
    settings.order = given.order.unwrap_or(settings.order);
    settings.guarantee = given.guarantee.unwrap_or(settings.guarantee);
    settings.concurrency = given.concurrency.or(settings.concurrency);
    settings.max_run_records = given.max_run_records.or(settings.max_run_records);
    let retry = &mut settings.failure.retry;
    retry.max_attempts = given.max_attempts.unwrap_or(retry.max_attempts);
    retry.max_elapsed = given.max_elapsed.unwrap_or(retry.max_elapsed);
    retry.backoff = given.backoff.unwrap_or(retry.backoff);
    retry.max_backoff = given.max_backoff.unwrap_or(retry.max_backoff);
    settings.dead_letter = given.dead_letter.or(settings.dead_letter.take());
    settings.rejected = given.rejected.or(settings.rejected.take());
    settings.max_starts = given.max_starts.or(settings.max_starts);
    #[cfg(feature = "schemas")]
    {
        settings.schema_check = given.schema_check.or(settings.schema_check);
    }
}

/// The routes of each consumer group.
fn group(routes: Routes) -> BTreeMap<String, Routes> {
    let mut groups: BTreeMap<String, Routes> = BTreeMap::new();
    for route in routes {
        let group = route.settings().group.clone().unwrap_or_default();
        groups.entry(group).or_default().push(route);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_can_run_in_a_spawned_task() {
        fn is_send<T: Send>(_: fn(App) -> T) {}
        is_send(App::run);
        is_send(App::command);
    }
}
