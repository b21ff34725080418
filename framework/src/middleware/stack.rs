//! Composes middleware: the one file full of generics.
//!
//! A stack is a list of types, `(first, (second, (third, ())))`, outermost first.
//! The compiler sees through all of it, so a record costs no allocation; it is
//! erased once a run, at the route.
//!
//! What makes the futures of a call is always inlined: each of them holds the next one, and is
//! else copied byte by byte where it is handed out, for each record.

use super::{
    CatchPanic, DeadLetter, Idempotency, Middleware, Next, NextRun, RecordMiddleware, Retry, Timeout, Trace,
};
use crate::handler::delivery::Delivery;
use crate::middleware::bound::Parts;
use crate::{Error, Handler, HandlerResult, Outcome, Outcomes, Run};
use std::any::type_name;
use std::future::Future;

/// The default list of middleware around a handler.
pub type DefaultStack =
    (DeadLetter, (Retry, (Idempotency, (Each<Trace>, (Each<CatchPanic>, (Each<Timeout>, ()))))));

/// Makes it.
pub(crate) fn default_stack() -> DefaultStack {
    let each = (Each(Trace), (Each(CatchPanic), (Each(Timeout::of_route()), ())));
    (DeadLetter, (Retry, (Idempotency, each)))
}

/// A list element: a [`RecordMiddleware`], around each call of the handler.
#[derive(Debug, Clone, Copy)]
pub struct Each<M>(pub M);

/// A list element: a [`Middleware`], around the whole run.
#[derive(Debug, Clone, Copy)]
pub struct Around<M>(pub M);

/// The kind of a list element, for the check at startup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layer {
    /// [`DeadLetter`], around runs.
    DeadLetter,
    /// [`Retry`], around runs.
    Retry,
    /// [`Idempotency`], between the two kinds.
    Idempotency,
    /// Around each call, by its type's name.
    Each(&'static str),
    /// Around the run, by its type's name.
    Around(&'static str),
}

/// A list of middleware, outermost first: nested pairs of [`Each`], [`Around`],
/// [`DeadLetter`], [`Retry`] and [`Idempotency`] that end in `()`.
pub trait Stack: Send + Sync + 'static {
    /// Adds what the list holds, outermost first.
    fn layers(&self, list: &mut Vec<Layer>);

    /// Takes a run through the part of the list that wraps runs, down to
    /// [`Idempotency`].
    #[doc(hidden)]
    fn run<'a, H: Handler>(
        &'a self,
        run: Run<'a>,
        parts: &'a Parts<H>,
    ) -> impl Future<Output = Outcomes> + Send + 'a;

    /// Takes one call through the part of the list that wraps calls, down to
    /// `handler`.
    #[doc(hidden)]
    fn call<'a, N: Next<'a>>(
        &'a self,
        delivery: Delivery<'a>,
        handler: N,
    ) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a;
}

impl Stack for () {
    fn layers(&self, _: &mut Vec<Layer>) {}

    async fn run<'a, H: Handler>(&'a self, run: Run<'a>, _: &'a Parts<H>) -> Outcomes {
        unreachable!("a list without Idempotency is refused at startup: {run:?}")
    }

    #[inline(always)]
    fn call<'a, N: Next<'a>>(
        &'a self,
        delivery: Delivery<'a>,
        handler: N,
    ) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a {
        handler.run(delivery)
    }
}

/// A middleware around runs that uses what its route is set to.
macro_rules! of_route {
    ($middleware:ident) => {
        impl<S: Stack> Stack for ($middleware, S) {
            fn layers(&self, list: &mut Vec<Layer>) {
                list.push(Layer::$middleware);
                self.1.layers(list);
            }

            fn run<'a, H: Handler>(
                &'a self,
                run: Run<'a>,
                parts: &'a Parts<H>,
            ) -> impl Future<Output = Outcomes> + Send + 'a {
                self.0.run(run, &self.1, parts)
            }

            #[inline(always)]
            fn call<'a, N: Next<'a>>(
                &'a self,
                delivery: Delivery<'a>,
                handler: N,
            ) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a {
                self.1.call(delivery, handler)
            }
        }
    };
}

of_route!(DeadLetter);
of_route!(Retry);
of_route!(Idempotency);

impl<M: Middleware, S: Stack> Stack for (Around<M>, S) {
    fn layers(&self, list: &mut Vec<Layer>) {
        list.push(Layer::Around(type_name::<M>()));
        self.1.layers(list);
    }

    async fn run<'a, H: Handler>(&'a self, run: Run<'a>, parts: &'a Parts<H>) -> Outcomes {
        self.0.0.call(run, &RestOfRun { stack: &self.1, parts }).await
    }

    #[inline(always)]
    fn call<'a, N: Next<'a>>(
        &'a self,
        delivery: Delivery<'a>,
        handler: N,
    ) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a {
        self.1.call(delivery, handler)
    }
}

impl<M: RecordMiddleware, S: Stack> Stack for (Each<M>, S) {
    fn layers(&self, list: &mut Vec<Layer>) {
        list.push(Layer::Each(type_name::<M>()));
        self.1.layers(list);
    }

    fn run<'a, H: Handler>(
        &'a self,
        run: Run<'a>,
        parts: &'a Parts<H>,
    ) -> impl Future<Output = Outcomes> + Send + 'a {
        self.1.run(run, parts)
    }

    #[inline(always)]
    fn call<'a, N: Next<'a>>(
        &'a self,
        delivery: Delivery<'a>,
        handler: N,
    ) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a {
        self.0.0.call(delivery, RestOfCall { stack: &self.1, handler })
    }
}

/// The rest of a list, for a run.
struct RestOfRun<'r, S, H> {
    stack: &'r S,
    parts: &'r Parts<H>,
}

impl<S: Stack, H: Handler> NextRun for RestOfRun<'_, S, H> {
    fn run<'a>(&'a self, run: Run<'a>) -> impl Future<Output = Outcomes> + Send + 'a {
        self.stack.run(run, self.parts)
    }
}

/// The rest of a list, for a call, and what comes after it.
struct RestOfCall<'r, S, N> {
    stack: &'r S,
    handler: N,
}

impl<'a, S: Stack, N: Next<'a>> Next<'a> for RestOfCall<'a, S, N> {
    #[inline(always)]
    fn run(self, delivery: Delivery<'a>) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a {
        self.stack.call(delivery, self.handler)
    }
}

/// Puts an element at the inner end of a list.
pub trait Push<M> {
    /// The longer list.
    type Output;

    /// Puts it there.
    fn push(self, element: M) -> Self::Output;
}

impl<M> Push<M> for () {
    type Output = (M, ());

    fn push(self, element: M) -> Self::Output {
        (element, ())
    }
}

impl<F, S: Push<M>, M> Push<M> for (F, S) {
    type Output = (F, S::Output);

    fn push(self, element: M) -> Self::Output {
        (self.0, self.1.push(element))
    }
}

/// Refuses a list that would undo a promise.
pub(crate) fn check(handler: &str, layers: &[Layer]) -> Result<(), Error> {
    let refused = |problem: String| Err(Error::handler(handler, problem));
    let mut places = layers.iter().enumerate().filter(|(_, layer)| **layer == Layer::Idempotency);
    let (Some((place, _)), None) = (places.next(), places.next()) else {
        return refused(
            "its middleware list must have `Idempotency` once: it is where runs become calls; \
             `dedupe = \"off\"` turns it off"
                .into(),
        );
    };
    for layer in &layers[..place] {
        if let Layer::Each(name) = layer {
            return refused(format!(
                "`Each({name})` stands outside `Idempotency`, where it would split the runs that are committed \
                 together; move it after `Idempotency`, or wrap it in `Around` as a run middleware"
            ));
        }
    }
    for layer in &layers[place + 1..] {
        let name = match layer {
            Layer::Around(name) => format!("Around({name})"),
            Layer::Retry | Layer::DeadLetter => format!("{layer:?}"),
            Layer::Idempotency | Layer::Each(_) => continue,
        };
        return refused(format!(
            "`{name}` stands inside `Idempotency`, where there are calls and no runs, and where a retry would \
             repeat work inside one transaction; move it before `Idempotency`"
        ));
    }
    let position = |wanted: Layer| layers.iter().position(|layer| *layer == wanted);
    match (position(Layer::DeadLetter), position(Layer::Retry)) {
        (Some(dead_letter), Some(retry)) if dead_letter > retry => {
            return refused(
                "`DeadLetter` stands inside `Retry`, so it would come before the attempts are used up; move it \
                 before `Retry`"
                    .into(),
            );
        }
        (Some(_), None) => {
            return refused(
                "`DeadLetter` needs `Retry` after it, which says what is given up; add it (with \
                 `max_attempts = 1` nothing is tried again)"
                    .into(),
            );
        }
        _ => {}
    }
    for twice in [Layer::DeadLetter, Layer::Retry] {
        if layers.iter().filter(|layer| **layer == twice).count() > 1 {
            return refused(format!("`{twice:?}` stands in its middleware list twice; take one out"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicPartition;
    use crate::handler::delivery::Call;
    use crate::record::run::RunClock;
    use crate::record::source::Source;
    use crate::telemetry::trace::Spans;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_list_that_undoes_a_promise_is_refused_with_the_fix() {
        let refused = |layers: &[Layer]| check("h", layers).unwrap_err().to_string();
        let (each, around) = (Layer::Each("A"), Layer::Around("R"));
        assert!(check("h", &[around, Layer::Idempotency, each]).is_ok());
        assert!(refused(&[each]).contains("must have `Idempotency` once"));
        assert!(refused(&[Layer::Idempotency, Layer::Idempotency]).contains("once"));
        assert!(refused(&[each, Layer::Idempotency]).contains("move it after"));
        assert!(refused(&[Layer::Idempotency, around]).contains("move it before"));
        assert!(refused(&[Layer::Idempotency, Layer::Retry]).contains("inside one transaction"));
        let twisted = [Layer::Retry, Layer::DeadLetter, Layer::Idempotency];
        assert!(refused(&twisted).contains("before the attempts are used up"));
        assert!(refused(&[Layer::DeadLetter, Layer::Idempotency]).contains("needs `Retry`"));
        assert!(refused(&[Layer::Retry, Layer::Retry, Layer::Idempotency]).contains("twice"));
    }

    struct Handler;

    impl<'a> Next<'a> for Handler {
        async fn run(self, _: Delivery<'a>) -> HandlerResult<Outcome> {
            Ok(Outcome::Completed)
        }
    }

    /// Futures are moved to where they are polled, byte by byte: their size is time, for each
    /// record.
    #[test]
    fn the_future_of_a_call_is_small() {
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        let clock = RunClock::start(Duration::ZERO, Arc::default());
        let run = Run::new(&[], &source, &clock);
        let spans = Spans::default();
        let stack = default_stack();
        let call = Call { run, timeout: None, spans: &spans };
        let size = size_of_val(&stack.call(Delivery::new(&call, None), Handler));
        assert!(size <= 512, "{size} bytes");
    }

    /// A middleware without an `async fn`, which fails before there is a future.
    struct Panics;

    impl RecordMiddleware for Panics {
        fn call<'a, N: Next<'a>>(
            &'a self,
            delivery: Delivery<'a>,
            next: N,
        ) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a {
            assert!(delivery.timeout().is_some(), "no timeout");
            next.run(delivery)
        }
    }

    #[tokio::test]
    async fn a_panic_before_there_is_a_future_is_a_failure_too() {
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        let clock = RunClock::start(Duration::ZERO, Arc::default());
        let (run, spans) = (Run::new(&[], &source, &clock), Spans::default());
        let call = Call { run, timeout: None, spans: &spans };
        let stack = (Each(CatchPanic), (Each(Panics), ()));
        let error = stack.call(Delivery::new(&call, None), Handler).await.unwrap_err();
        assert!(error.to_string().contains("no timeout"), "{error}");
    }

    #[test]
    fn the_default_list_holds_what_the_docs_say() {
        let mut layers = Vec::new();
        default_stack().layers(&mut layers);
        assert!(check("h", &layers).is_ok());
        assert!(matches!(
            layers[..],
            [
                Layer::DeadLetter,
                Layer::Retry,
                Layer::Idempotency,
                Layer::Each(_),
                Layer::Each(_),
                Layer::Each(_)
            ]
        ));
    }
}
