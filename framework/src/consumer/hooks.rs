//! The application's functions for assigned, revoked and out-of-range partitions.

use crate::error::panic::without_panic;
use crate::{BoxError, Error, TopicPartition};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

type Step = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>> + Send>;
type ToldOfRange = Box<dyn Fn(&TopicPartition, i64) + Send + Sync>;
type Told = Box<dyn Fn(&[TopicPartition]) + Send + Sync>;

/// The application's hooks.
#[derive(Default)]
pub(crate) struct Hooks {
    assigned: Vec<Told>,
    revoked: Vec<Told>,
    out_of_range: Vec<ToldOfRange>,
}

impl Hooks {
    pub(crate) fn on_assigned(&mut self, hook: impl Fn(&[TopicPartition]) + Send + Sync + 'static) {
        self.assigned.push(Box::new(hook));
    }

    pub(crate) fn on_revoked(&mut self, hook: impl Fn(&[TopicPartition]) + Send + Sync + 'static) {
        self.revoked.push(Box::new(hook));
    }

    pub(crate) fn on_out_of_range(&mut self, hook: impl Fn(&TopicPartition, i64) + Send + Sync + 'static) {
        self.out_of_range.push(Box::new(hook));
    }

    pub(crate) fn assigned(&self, partitions: &[TopicPartition]) {
        self.assigned.iter().for_each(|hook| told(|| hook(partitions)));
    }

    pub(crate) fn revoked(&self, partitions: &[TopicPartition]) {
        self.revoked.iter().for_each(|hook| told(|| hook(partitions)));
    }

    pub(crate) fn out_of_range(&self, partition: &TopicPartition, committed: i64) {
        self.out_of_range.iter().for_each(|hook| told(|| hook(partition, committed)));
    }
}

/// They are called by librdkafka, past which no panic may go.
fn told(hook: impl FnOnce()) {
    if let Err(panic) = without_panic("a hook", hook) {
        tracing::error!(error = %panic, "a hook of the application failed");
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

/// Steps at the start or the end, in the order they were given.
#[derive(Default)]
pub(crate) struct Steps(Vec<Step>);

impl Steps {
    pub(crate) fn push<F, Fut>(&mut self, step: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.0.push(Box::new(|| Box::pin(step())));
    }

    pub(crate) async fn run(self, what: &str) -> Result<(), Error> {
        for step in self.0 {
            step().await.map_err(|source| Error::Internal { what: what.to_owned(), source })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Steps({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_hook_that_panics_keeps_no_other_from_being_told() {
        let (mut hooks, told) = (Hooks::default(), Arc::<AtomicUsize>::default());
        let count = told.clone();
        hooks.on_assigned(|_| panic!("a fault of the application's"));
        hooks.on_assigned(move |_| count.store(1, Ordering::Relaxed));
        hooks.assigned(&[]);
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }
}
