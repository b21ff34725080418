//! Points at which the fault matrix ends the process; compiled in with a feature that no
//! release has.
//!
//! `FAULT_POINT=after_claim:3` ends it, without any clean-up, when this point is reached
//! for the third time.

pub(crate) use points::{point, point_once_sent};

#[cfg(feature = "faults")]
mod points {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    pub(crate) fn point(name: &str) {
        if is_now(name) {
            end(name);
        }
    }

    /// A point between the sending of a request and its answer.
    pub(crate) async fn point_once_sent<F: Future>(name: &str, request: F) -> F::Output {
        let (mut request, mut sent) = (pin!(request), false);
        poll_fn(|context| {
            let polled = request.as_mut().poll(context);
            if !std::mem::replace(&mut sent, true) && is_now(name) {
                // Another thread sends it, and nothing else shall go on here.
                #[allow(clippy::disallowed_methods)]
                std::thread::sleep(Duration::from_millis(fastrand::u64(..6)));
                end(name);
            }
            polled
        })
        .await
    }

    fn is_now(name: &str) -> bool {
        static PLAN: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
        let plan = PLAN.get_or_init(|| {
            let text = std::env::var("FAULT_POINT").ok()?;
            let (point, times) = text.split_once(':')?;
            Some((point.to_owned(), AtomicU64::new(times.parse().ok()?)))
        });
        plan.as_ref().is_some_and(|(point, left)| point == name && left.fetch_sub(1, Ordering::Relaxed) == 1)
    }

    fn end(name: &str) {
        tracing::warn!(name, "ending the process, as FAULT_POINT says");
        std::process::abort();
    }
}

#[cfg(not(feature = "faults"))]
mod points {
    #[inline(always)]
    pub(crate) fn point(_: &str) {}

    #[inline(always)]
    pub(crate) async fn point_once_sent<F: Future>(_: &str, request: F) -> F::Output {
        request.await
    }
}
