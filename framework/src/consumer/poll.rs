//! Serves the group: rebalances, commits and errors. The workers read the records themselves.

use crate::Error;
use crate::base::wake::Wake;
use crate::config::Resolved;
use crate::consumer::assignment::{Assignment, Consumer, Setup};
use crate::consumer::client_events::GroupTroubles;
use crate::consumer::commit::Committer;
use crate::consumer::shutdown::Shutdown;
use crate::consumer::subscription::Subscription;
use crate::consumer::tail::Tails;
use crate::kafka::client::{Consumer as _, FromClientConfigAndContext, KafkaError, RDKafkaErrorCode};
use crate::kafka::client_config::ClientSettings as _;
use crate::kafka::topics;
use crate::telemetry::condition::{ConditionKind, Told};
use crate::telemetry::group::seconds;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the thread sleeps at most when nothing wakes it.
const IDLE: Duration = Duration::from_millis(50);

/// How often it is looked at how the group is.
const LOOKS_EVERY: Duration = Duration::from_millis(500);

/// The one thread that owns a group's consumer. Nothing a handler does can keep it
/// from polling; only a drain does, for its short deadline.
pub(crate) struct Poller {
    consumer: Arc<Consumer>,
    wake: Arc<Wake>,
    shutdown: Shutdown,
    brokers: String,
    subscription: Subscription,
    troubles: GroupTroubles,
}

impl Poller {
    /// Joins the group. Must be called on the thread that runs it.
    pub(crate) fn subscribe(
        config: &Resolved,
        mut subscription: Subscription,
        setup: Setup,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let failed = |action: &str| {
            let action = action.to_owned();
            move |source| config.failed(action, source)
        };
        let wake = Arc::new(Wake::this_thread());
        shutdown.wakes(&wake);
        let client = config.consumer(&setup.group);
        let troubles = GroupTroubles::new(config, &setup.group);
        let committer = Committer::new(config.commit_interval, config.session_timeout()?);
        let tails = Tails::new(&client, setup.runtime.clone());
        let assignment = Assignment::new(setup, wake.clone(), committer, tails);
        let mut consumer =
            Consumer::from_config_and_context(&client, assignment).map_err(failed("create the consumer"))?;
        let waker = wake.clone();
        consumer.set_nonempty_callback(move || waker.wake());
        let consumer = Arc::new(consumer);
        consumer.context().attach(&consumer);
        subscription.begin(&consumer)?;
        Ok(Self { consumer, wake, shutdown, brokers: config.brokers.clone(), subscription, troubles })
    }

    /// Consumes until the shutdown, then drains, commits and leaves the group.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let consumed = self.consume();
        let drained = self.drain();
        consumed.and(drained)
    }

    fn consume(&mut self) -> Result<(), Error> {
        let assignment = self.consumer.context().clone();
        let mut looked = Instant::now();
        while !self.shutdown.has_begun() {
            let polling = assignment.polling();
            self.serve_events()?;
            self.subscription.refresh(&self.consumer)?;
            assignment.find_positions();
            let until_commit = assignment.commit_if_due(&self.consumer);
            assignment.close_holes(&self.consumer);
            if looked.elapsed() >= LOOKS_EVERY {
                looked = Instant::now();
                assignment.look(self.told());
            }
            if assignment.has_dead_worker() {
                return Err(Error::Internal {
                    what: "a partition's worker".into(),
                    source: "it panicked outside any handler; its partition stands still".into(),
                });
            }
            drop(polling);
            self.wake.wait(until_commit.clamp(Duration::from_millis(1), IDLE));
        }
        Ok(())
    }

    /// Serves rebalances, commit results, errors and logs until there are none.
    fn serve_events(&mut self) -> Result<(), Error> {
        loop {
            let served = self.consumer.context().served();
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    return Err(Error::Internal {
                        what: "reading".into(),
                        source: format!("a record came past its partition's queue: {message:?}").into(),
                    });
                }
                Some(Err(error)) => self.client_error(error)?,
                // `poll` says the same after a callback and when nothing is there.
                None if self.consumer.context().served() == served => return Ok(()),
                None => {}
            }
        }
    }

    /// Most errors pass: librdkafka reconnects by itself.
    fn client_error(&mut self, error: KafkaError) -> Result<(), Error> {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code();
        let action = match (&error, code) {
            (
                KafkaError::MessageConsumptionFatal(_),
                Some(Code::FencedInstanceId | Code::UnreleasedInstanceId),
            ) => "stay in the group: another member has the same `instance_id`",
            (KafkaError::MessageConsumptionFatal(_), _) => "go on consuming",
            (_, Some(Code::GroupAuthorizationFailed)) => {
                "join the group: the user has no READ permission on it (an ACL for the group is missing)"
            }
            (_, Some(Code::TopicAuthorizationFailed)) => {
                "read the topic: the user has no READ permission on it (an ACL for the topic is missing)"
            }
            (_, code) if topics::is_refused_login(code) => topics::LOGIN,
            (_, code) => {
                if let Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) =
                    code
                {
                    self.consumer.context().topics_may_have_changed();
                }
                self.passing_error(&error, code);
                return Ok(());
            }
        };
        Err(Error::kafka(action, &self.brokers, error))
    }

    fn passing_error(&mut self, error: &KafkaError, code: Option<RDKafkaErrorCode>) {
        let reason = self.consumer.context().log.take_reason().unwrap_or_else(|| error.to_string());
        self.troubles.note(code, &reason);
        if code == Some(RDKafkaErrorCode::UnknownTopicOrPartition) {
            self.subscription.look_soon();
        }
    }

    /// What the group is short of, besides what its partitions tell.
    fn told(&mut self) -> Vec<Told> {
        let assignment = self.consumer.context();
        let (_, group) = assignment.health();
        let mut told = self.troubles.told(assignment.joined());
        told.extend(self.subscription.told(group));
        if let Some(since) = assignment.silent_since() {
            let why = self.troubles.unreachable().map_or(String::new(), |why| format!(": {why}"));
            let (silent_for, brokers) = (seconds(since.elapsed()), &self.brokers);
            let sentence =
                format!("Kafka does not answer group {group} for {silent_for} (`brokers` = {brokers}){why}");
            told.push(Told::new(ConditionKind::Broker, sentence, since));
        }
        told
    }

    /// Lets workers finish while still polling: a consumer that closes sends no
    /// heartbeats, and a long drain inside the close would lose its commit.
    fn drain(mut self) -> Result<(), Error> {
        let assignment = self.consumer.context().clone();
        self.shutdown.begin();
        assignment.begin_drain();
        while !assignment.is_drained() && !self.shutdown.is_over() {
            let polling = assignment.polling();
            // What is wrong with the client now does not keep work from finishing.
            if let Err(error) = self.serve_events() {
                tracing::warn!(%error, "the client has a fault while it shuts down; work goes on");
            }
            // A partition that came in between.
            assignment.begin_drain();
            let (health, group) = assignment.health();
            health.polled(group);
            drop(polling);
            self.wake.wait(IDLE);
        }
        let unfinished = assignment.end(&self.consumer, self.shutdown.left().max(Duration::from_secs(1)));
        let deadline = self.shutdown.deadline();
        self.leave(unfinished);
        match unfinished {
            0 => Ok(()),
            partitions => Err(Error::Unfinished { partitions, deadline }),
        }
    }

    /// Leaves the group on this thread. A handler that cannot be stopped holds records, and with
    /// them the client, as does a request that is not answered: it is closed when they let go.
    fn leave(self, unfinished: usize) {
        let mut consumer = self.consumer;
        let until = Instant::now() + Duration::from_secs(1);
        loop {
            match Arc::try_unwrap(consumer) {
                Ok(last) => return drop(last),
                Err(shared) if Instant::now() >= until => {
                    shared.unsubscribe();
                    if unfinished > 0 {
                        tracing::warn!(
                            "a handler that does not stop holds records; the client stays open with it"
                        );
                    } else if shared.context().is_asking() {
                        tracing::info!(
                            "a request to the broker is not answered yet; the client stays open with it"
                        );
                    } else {
                        tracing::info!("the client is still in use, and is closed after that");
                    }
                    return;
                }
                Err(shared) => consumer = shared,
            }
            self.wake.wait(Duration::from_millis(5));
        }
    }
}
