//! Calls of the handler through the middleware that stand around each.

use super::attempts::{Attempt, Attempts};
use crate::dedupe::tx::Tx;
use crate::dedupe::{Claim, StoreError};
use crate::error::panic::without_panic;
use crate::extract::batch::Rejected;
use crate::handler::delivery::{Call, Delivery};
use crate::handler::{Handled, Handler};
use crate::middleware::bound::Parts;
use crate::middleware::{Next, Stack};
use crate::{HandlerError, HandlerResult, Outcome, Record, Run};

/// The parts that a call of the handler needs.
pub(super) struct Calls<'r, S, H> {
    stack: &'r S,
    pub(super) parts: &'r Parts<H>,
}

impl<'r, S: Stack, H: Handler> Calls<'r, S, H> {
    pub(super) fn new(stack: &'r S, parts: &'r Parts<H>) -> Self {
        Self { stack, parts }
    }

    /// Decodes what one call gets, and before it looks up what that needs. Not for inside a
    /// transaction.
    ///
    /// # Errors
    /// An outage of what has to be asked. The inner error is the record's.
    pub(super) async fn decode<'b>(&self, part: Run<'b>) -> Result<Result<H::Args<'b>, Rejected>, StoreError>
    where
        'r: 'b,
    {
        match self.decode_at_once(part) {
            Ok(args) => Ok(Ok(args)),
            Err(rejected) => self.look_up_and_decode(part, rejected).await,
        }
    }

    /// Decodes what was rejected, if that needs what can be looked up.
    async fn look_up_and_decode<'b>(
        &self,
        part: Run<'b>,
        rejected: Rejected,
    ) -> Result<Result<H::Args<'b>, Rejected>, StoreError>
    where
        'r: 'b,
    {
        #[cfg(feature = "schemas")]
        let mut rejected = rejected;
        #[cfg(feature = "schemas")]
        let mut before = None;
        #[cfg(feature = "schemas")]
        while let Some(lookup) = rejected.error.needed_lookup() {
            let looked_up = self.parts.bound.context.look_up_next(lookup, part, &mut before).await;
            looked_up.map_err(StoreError::Outage)?;
            match self.decode_at_once(part) {
                Ok(args) => return Ok(Ok(args)),
                Err(again) => rejected = again,
            }
        }
        let _ = part;
        Ok(Err(rejected))
    }

    /// Decodes what one call gets, if nothing has to be looked up for it.
    #[inline]
    pub(super) fn decode_at_once<'b>(&self, part: Run<'b>) -> Result<H::Args<'b>, Rejected>
    where
        'r: 'b,
    {
        match self.extract(part) {
            Ok(extracted) => extracted,
            Err(error) => Err(self.rejected_by_panic(part, error)),
        }
    }

    #[inline]
    fn extract<'b>(&self, part: Run<'b>) -> HandlerResult<Result<H::Args<'b>, Rejected>>
    where
        'r: 'b,
    {
        let parts = self.parts;
        without_panic("an extractor", || parts.handler.extract(part, &parts.bound.context))
    }

    #[cold]
    fn rejected_by_panic(&self, part: Run<'_>, error: HandlerError) -> Rejected {
        let panics = |record| self.extract(part.with(std::slice::from_ref(record))).is_err();
        Rejected { index: part.records().iter().position(panics).unwrap_or(0), error }
    }

    /// The identities of a part.
    pub(super) fn claims(&self, part: Run<'_>) -> Result<Vec<Claim>, Rejected> {
        let bound = &self.parts.bound;
        let oldest = bound.left_out.oldest();
        let claim = |(index, record): (usize, Record<'_>)| {
            let found = without_panic("the identity's function", || bound.identity.find(record));
            let found = found.map_err(|error| Rejected { index, error })?;
            bound.left_out.note(record, &found, oldest);
            Ok(Claim::new(found.identity, record))
        };
        part.iter().enumerate().map(claim).collect()
    }

    /// Calls the handler once.
    pub(super) async fn call(
        &self,
        part: Run<'_>,
        args: H::Args<'_>,
        tx: Option<&mut Tx>,
    ) -> HandlerResult<Handled> {
        let (call, mut slot) = (self.delivered(part), Slot::of(args));
        let invoke = Invoke { parts: self.parts, slot: &mut slot };
        let outcome = self.stack.call(Delivery::new(&call, tx), invoke).await?;
        Ok(slot.handled(outcome))
    }

    fn delivered<'b>(&self, part: Run<'b>) -> Call<'b>
    where
        'r: 'b,
    {
        let bound = &self.parts.bound;
        Call { run: part, timeout: bound.timeout, spans: &bound.spans }
    }

    /// Handles all of a part, whatever was done before.
    async fn handle(&self, part: Run<'_>) -> Attempt {
        if H::BATCH { self.handle_together(part).await } else { self.handle_each(part).await }
    }

    async fn handle_each(&self, part: Run<'_>) -> Attempt {
        let mut outcomes = Vec::with_capacity(part.len());
        for (index, record) in part.records().iter().enumerate() {
            if index > 0 && (part.is_draining() || part.is_cut()) {
                break;
            }
            let outcome = match self.handle_one(&part, record).await {
                Err(error) => match error.into_held() {
                    Ok(held) if outcomes.is_empty() => return Attempt::Blameless(held.into()),
                    // What was done before it counts; it is met again, and first.
                    Ok(_) => break,
                    Err(error) => Outcome::Failed(error),
                },
                Ok(outcome) => outcome,
            };
            let failed = matches!(outcome, Outcome::Failed(_));
            outcomes.push(outcome);
            if failed {
                break;
            }
            part.told_done();
        }
        Attempt::Done(outcomes)
    }

    /// Decodes one record and calls the handler with it.
    // Made for each record, so what is taken apart before the next await is not kept.
    #[expect(clippy::manual_async_fn, reason = "an async fn moves its arguments once more")]
    fn handle_one<'b>(
        &'b self,
        part: &'b Run<'b>,
        record: &'b Record<'b>,
    ) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'b {
        async move {
            let one = part.with(std::slice::from_ref(record));
            let args = match self.decode_at_once(one) {
                Ok(args) => args,
                // Boxed: rare, and large in a future that is made for each record.
                Err(rejected) => match Box::pin(self.look_up_and_decode(one, rejected)).await {
                    Ok(decoded) => decoded.map_err(|rejected| rejected.error)?,
                    Err(StoreError::Outage(outage)) => return Err(HandlerError::outage(outage)),
                    Err(error) => return Err(HandlerError::new(error)),
                },
            };
            let (call, mut slot) = (self.delivered(one), Slot::of(args));
            let invoke = Invoke { parts: self.parts, slot: &mut slot };
            let outcome = self.stack.call(Delivery::new(&call, None), invoke).await?;
            for_one(slot.handled(outcome))
        }
    }

    async fn handle_together(&self, part: Run<'_>) -> Attempt {
        let args = match self.decode(part).await {
            Ok(Ok(args)) => args,
            Ok(Err(rejected)) => return Attempt::Culprit(rejected.index, rejected.error),
            Err(error) => return error.into(),
        };
        match self.call(part, args, None).await.and_then(|handled| for_each(handled, part.len())) {
            Ok(results) => Attempt::Done(results.into_iter().map(Into::into).collect()),
            Err(error) => match error.into_held() {
                Ok(held) => Attempt::Blameless(held.into()),
                Err(error) => Attempt::Failed(error),
            },
        }
    }
}

/// Dedupe is off: each attempt handles the part.
impl<S: Stack, H: Handler> Attempts for Calls<'_, S, H> {
    const CAN_KEEP_APART: bool = false;

    async fn attempt<'a>(&'a self, part: Run<'a>, _: bool) -> Attempt {
        self.handle(part).await
    }
}

/// The outcome of a call with one record.
#[inline]
pub(super) fn for_one(handled: Handled) -> HandlerResult<Outcome> {
    match handled {
        Handled::All(Outcome::Completed) => Ok(Outcome::Completed),
        Handled::All(outcome) => outcome.same_for_all(),
        each => for_each(each, 1)?.pop().expect("one result"),
    }
}

/// The results of a call with several records, one each.
pub(super) fn for_each(handled: Handled, len: usize) -> HandlerResult<Vec<HandlerResult<Outcome>>> {
    match handled {
        Handled::Each(results) if results.len() == len => {
            Ok(results.into_iter().map(|result| result?.same_for_all()).collect())
        }
        Handled::Each(results) => Err(HandlerError::new(format!(
            "the batch handler returned {} results for {len} records; it must return one each, in order",
            results.len()
        ))),
        Handled::All(outcome) => Ok((0..len).map(|_| outcome.same_for_all()).collect()),
        Handled::Publish(_) => unreachable!("published where the handler was called"),
    }
}

/// The inner end of the middleware list: the handler.
struct Invoke<'a, 'r, H: Handler + 'r> {
    parts: &'a Parts<H>,
    slot: &'a mut Slot<H::Args<'r>>,
}

/// What a call takes and gives past the middleware, which neither see it nor move it.
struct Slot<A> {
    args: Option<A>,
    /// What a batch handler says of each record, which its one outcome cannot.
    each: Option<Vec<HandlerResult<Outcome>>>,
}

impl<A> Slot<A> {
    fn of(args: A) -> Self {
        Self { args: Some(args), each: None }
    }

    fn handled(self, outcome: Outcome) -> Handled {
        self.each.map_or(Handled::All(outcome), Handled::Each)
    }
}

impl<'a, 'r: 'a, H: Handler> Next<'a> for Invoke<'a, 'r, H> {
    #[inline(always)]
    #[expect(clippy::manual_async_fn, reason = "an async fn moves its arguments once more")]
    fn run(self, delivery: Delivery<'a>) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a {
        async move {
            let args = self.slot.args.take().expect("called once");
            let cause = delivery.record();
            let records = match self.parts.handler.call(args, delivery).await {
                Ok(Handled::All(outcome)) => return Ok(outcome),
                Ok(Handled::Each(results)) => {
                    self.slot.each = Some(results);
                    return Ok(Outcome::Completed);
                }
                Ok(Handled::Publish(records)) => records,
                Err(error) => return Err(error),
            };
            // Boxed: as above.
            Box::pin(self.parts.bound.publishing.publish_all(records, cause, !H::BATCH)).await?;
            Ok(Outcome::Completed)
        }
    }
}
