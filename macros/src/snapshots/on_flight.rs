// What `#[handler(topic = "flights", group = "totals", timeout = "30s", formerly = "sums")]` leaves.

/// Adds a departure to its plane's totals, once.
pub(crate) async fn on_flight(
    Json(flight): Json<Flight<'_>>,
    tx: &mut Tx,
    Key(tailnum): Key<&str>,
) -> HandlerResult {
    tx.add(tailnum, flight.distance).await
}
/// The handler that `#[handler]` made of [`fn@on_flight`].
#[allow(non_camel_case_types)]
#[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
pub(crate) struct on_flight {}
const _: () = {
    const _: () = ::core::assert!(
        ! < Json < Flight < '_ > > as ::onceward::__private::Argument > ::PUBLISHES,
        "a handler with a transaction cannot publish directly: sent after COMMIT, a crash loses the record; sent \
                 before it, a rollback leaves a ghost. Write it to an outbox table in the transaction"
    );
    const _: () = ::core::assert!(
        ! < Key < & str > as ::onceward::__private::Argument > ::PUBLISHES,
        "a handler with a transaction cannot publish directly: sent after COMMIT, a crash loses the record; sent \
                 before it, a rollback leaves a ghost. Write it to an outbox table in the transaction"
    );
    pub struct __Args<'a>(
        Json<Flight<'a>>,
        Key<&'a str>,
        ::core::marker::PhantomData<&'a ()>,
    );
    impl ::onceward::__private::Handler for on_flight {
        type Args<'a> = __Args<'a>;
        const BATCH: bool = false;
        const TRANSACTION: bool = true;
        const FALLIBLE: bool = true;
        fn settings(&self) -> ::onceward::__private::Settings {
            ::onceward::__private::Settings::new("on_flight")
                .topic("flights")
                .group("totals")
                .timeout(::core::time::Duration::from_millis(30000u64))
                .formerly("sums")
        }
        fn extract<'a>(
            &'a self,
            run: ::onceward::__private::Run<'a>,
            context: &'a ::onceward::__private::Context,
        ) -> ::core::result::Result<Self::Args<'a>, ::onceward::__private::Rejected> {
            ::core::result::Result::Ok(
                __Args(
                    <Json<
                        Flight<'_>,
                    > as ::onceward::__private::Argument>::extract(run, context)?,
                    <Key<
                        &str,
                    > as ::onceward::__private::Argument>::extract(run, context)?,
                    ::core::marker::PhantomData,
                ),
            )
        }
        #[inline(always)]
        fn call<'a, 'r: 'a>(
            &'a self,
            args: Self::Args<'r>,
            delivery: ::onceward::__private::Delivery<'a>,
        ) -> impl ::core::future::Future<
            Output = ::onceward::__private::HandlerResult<::onceward::__private::Handled>,
        > + ::core::marker::Send + 'a {
            ::onceward::__private::FutureExt::map(
                on_flight(args.0, delivery.into_tx(), args.1),
                |result| ::onceward::__private::IntoHandledInTransaction::into_handled_in_transaction(
                    result,
                ),
            )
        }
        fn check(
            &self,
            context: &::onceward::__private::Context,
        ) -> ::core::result::Result<(), ::std::string::String> {
            <Json<Flight<'_>> as ::onceward::__private::Argument>::check(context)?;
            <Key<&str> as ::onceward::__private::Argument>::check(context)?;
            ::core::result::Result::Ok(())
        }
    }
};
