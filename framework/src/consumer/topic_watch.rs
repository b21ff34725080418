//! A side road: notices topics that were deleted and made again under their names.
//!
//! librdkafka follows the new topic's id by itself, and goes on in it at the old position: past
//! records that nobody has handled. It raises no event then. So the broker is asked for the ids of a
//! group's topics, in one request, now and then, and soon after something looks like it.

use crate::base::sync::lock;
use crate::base::wake::Wake;
use crate::consumer::positions::Topics;
use crate::kafka::admin::Teller;
use crate::kafka::client::{BaseConsumer, ConsumerContext};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How often the broker is asked.
const EVERY: Duration = Duration::from_secs(5);
/// The same after it has not answered.
const AFTER_SILENCE: Duration = Duration::from_secs(30);
/// How long it has for its answer.
const LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct TopicWatch {
    next: Instant,
    wake: Arc<Wake>,
    asked: Arc<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    busy: AtomicBool,
    failed: AtomicBool,
    answer: Mutex<Option<Topics>>,
}

impl TopicWatch {
    pub(crate) fn new(wake: Arc<Wake>) -> Self {
        Self { next: Instant::now() + EVERY, wake, asked: Arc::default() }
    }

    /// Has the broker asked at the next look.
    pub(crate) fn hurry(&mut self) {
        self.next = Instant::now();
    }

    /// What the broker said, once.
    pub(crate) fn answer(&self) -> Option<Topics> {
        lock(&self.asked.answer).take()
    }

    /// Asks the broker, on another thread, if it is time.
    pub(crate) fn look<C: ConsumerContext + 'static>(
        &mut self,
        consumer: &Arc<BaseConsumer<C>>,
        teller: &Arc<Teller>,
        runtime: &Handle,
        topics: impl FnOnce() -> Vec<String>,
    ) {
        if Instant::now() < self.next || self.asked.busy.load(Ordering::Acquire) {
            return;
        }
        let failed = self.asked.failed.swap(false, Ordering::Relaxed);
        self.next = Instant::now() + if failed { AFTER_SILENCE } else { EVERY };
        let topics = topics();
        if topics.is_empty() || failed {
            return;
        }
        self.asked.busy.store(true, Ordering::Release);
        let (consumer, teller) = (Arc::downgrade(consumer), teller.clone());
        let (asked, wake) = (self.asked.clone(), self.wake.clone());
        runtime.spawn_blocking(move || {
            if let Some(consumer) = consumer.upgrade().filter(|consumer| !consumer.closed()) {
                let names: Vec<&str> = topics.iter().map(String::as_str).collect();
                match teller.topics(&consumer, &names, LIMIT) {
                    Ok(topics) => *lock(&asked.answer) = Some(topics),
                    Err(error) => {
                        asked.failed.store(true, Ordering::Relaxed);
                        tracing::debug!(%error, "the broker does not tell the topics' ids");
                    }
                }
            }
            asked.busy.store(false, Ordering::Release);
            wake.wake();
        });
    }
}
