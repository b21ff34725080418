//! Serves the group: rebalances, commits and errors. The workers read the records themselves.

use crate::Error;
use crate::assignment::{Assignment, Consumer, Setup};
use crate::commit::Committer;
use crate::config::Resolved;
use crate::shutdown::Shutdown;
use crate::tail::Tails;
use crate::topics;
use crate::wake::Wake;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
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
    last_unreachable: Option<Instant>,
}

impl Poller {
    /// Joins the group. Must be called on the thread that runs it.
    pub(crate) fn subscribe(
        config: &Resolved,
        topics: &[String],
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
        let committer = Committer::new(config.commit_interval, config.session_timeout()?);
        let tails = Tails::new(&client, setup.runtime.clone());
        let assignment = Assignment::new(setup, wake.clone(), committer, tails);
        let mut consumer =
            Consumer::from_config_and_context(&client, assignment).map_err(failed("create the consumer"))?;
        let waker = wake.clone();
        consumer.set_nonempty_callback(move || waker.wake());
        let consumer = Arc::new(consumer);
        consumer.context().attach(&consumer);
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(failed(&format!("subscribe to {topics:?}")))?;
        Ok(Self { consumer, wake, shutdown, brokers: config.brokers.clone(), last_unreachable: None })
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
            assignment.find_positions();
            let until_commit = assignment.commit_if_due(&self.consumer);
            assignment.close_holes(&self.consumer);
            if looked.elapsed() >= LOOKS_EVERY {
                looked = Instant::now();
                assignment.look();
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
                self.passing_error(&error);
                return Ok(());
            }
        };
        Err(Error::Kafka { action: action.to_owned(), brokers: self.brokers.clone(), source: error })
    }

    fn passing_error(&mut self, error: &KafkaError) {
        let rarely = self.last_unreachable.is_none_or(|last| last.elapsed() > Duration::from_secs(10));
        if rarely {
            self.last_unreachable = Some(Instant::now());
            tracing::warn!(brokers = self.brokers, %error, "Kafka; going on");
        }
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
                tracing::warn!(%error, "while shutting down");
            }
            // A partition that came in between.
            assignment.begin_drain();
            drop(polling);
            self.wake.wait(IDLE);
        }
        let unfinished = assignment.end(&self.consumer, self.shutdown.left().max(Duration::from_secs(1)));
        let deadline = self.shutdown.deadline();
        self.leave();
        match unfinished {
            0 => Ok(()),
            partitions => Err(Error::Unfinished { partitions, deadline }),
        }
    }

    /// Leaves the group on this thread. A handler that cannot be stopped holds
    /// records, and with them the client: it is closed when the handler lets go.
    fn leave(self) {
        let mut consumer = self.consumer;
        let until = Instant::now() + Duration::from_secs(1);
        loop {
            match Arc::try_unwrap(consumer) {
                Ok(last) => return drop(last),
                Err(shared) if Instant::now() >= until => {
                    shared.unsubscribe();
                    tracing::warn!(
                        "a handler that does not stop holds records; the client stays open with it"
                    );
                    return;
                }
                Err(shared) => consumer = shared,
            }
            self.wake.wait(Duration::from_millis(5));
        }
    }
}
