//! Counts how records ended, with the feature `otel`: the counter `onceward.records` of
//! OpenTelemetry's global meter provider.
//!
//! | attribute | values |
//! |---|---|
//! | `onceward.outcome` | `completed`, `duplicate`, `skipped`, `dead_lettered` |
//! | `onceward.reason` | of a dead letter, see [`Reason`](crate::Reason): those that do not decode are `rejected` |
//! | `onceward.handler`, `messaging.consumer.group.name`, `messaging.destination.name` | who handled them, and their topic |

#[cfg(feature = "otel")]
pub(crate) use with_otel::Counts;
#[cfg(not(feature = "otel"))]
pub(crate) use without_otel::Counts;

#[cfg(not(feature = "otel"))]
mod without_otel {
    use crate::{Outcomes, Run};

    #[derive(Debug, Clone)]
    pub(crate) struct Counts;

    impl Counts {
        pub(crate) fn new(_: &str, _: &str) -> Self {
            Self
        }

        pub(crate) fn add(&self, _: Run<'_>, _: &Outcomes) {}
    }
}

#[cfg(feature = "otel")]
mod with_otel {
    use crate::{Outcome, Outcomes, Reason, Run};
    use opentelemetry::KeyValue;
    use opentelemetry::metrics::{Counter, Meter};
    use std::collections::HashMap;

    /// The counter of one route.
    #[derive(Debug, Clone)]
    pub(crate) struct Counts {
        records: Counter<u64>,
        group: String,
        handler: String,
    }

    impl Counts {
        pub(crate) fn new(group: &str, handler: &str) -> Self {
            Self::of(&opentelemetry::global::meter("onceward"), group, handler)
        }

        fn of(meter: &Meter, group: &str, handler: &str) -> Self {
            let records = meter
                .u64_counter("onceward.records")
                .with_unit("{record}")
                .with_description("Records that are finished, by how they ended.")
                .build();
            Self { records, group: group.to_owned(), handler: handler.to_owned() }
        }

        /// Counts a run at once, not record by record.
        pub(crate) fn add(&self, run: Run<'_>, outcomes: &Outcomes) {
            let mut counts: HashMap<(&'static str, Option<Reason>), u64> = HashMap::new();
            for outcome in outcomes.iter().filter(|outcome| outcome.is_finished()) {
                let reason = match outcome {
                    Outcome::DeadLettered(reason) => Some(*reason),
                    _ => None,
                };
                *counts.entry((outcome.name(), reason)).or_default() += 1;
            }
            for ((outcome, reason), count) in counts {
                let mut attributes = vec![
                    KeyValue::new("onceward.outcome", outcome),
                    KeyValue::new("onceward.handler", self.handler.clone()),
                    KeyValue::new("messaging.consumer.group.name", self.group.clone()),
                    KeyValue::new("messaging.destination.name", run.source().topic().to_owned()),
                ];
                attributes.extend(reason.map(|reason| KeyValue::new("onceward.reason", reason.as_str())));
                self.records.add(count, &attributes);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::TopicPartition;
        use crate::base::drain::Drain;
        use crate::record::run::RunClock;
        use crate::record::source::Source;
        use opentelemetry::metrics::MeterProvider;
        use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
        use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
        use std::sync::Arc;
        use std::time::Duration;

        #[test]
        fn records_are_counted_by_how_and_why_they_ended() {
            let exporter = InMemoryMetricExporter::default();
            let reader = PeriodicReader::builder(exporter.clone()).build();
            let provider = SdkMeterProvider::builder().with_reader(reader).build();
            let counts = Counts::of(&provider.meter("test"), "g", "h");
            let source = Source::new(TopicPartition::new("t", 0), "g".into());
            let clock = RunClock::start(Duration::from_secs(1), Arc::new(Drain::default()));
            let outcomes = Outcomes::new(vec![
                Outcome::Completed,
                Outcome::Completed,
                Outcome::DeadLettered(Reason::Rejected),
                Outcome::DeadLettered(Reason::MaxAttempts),
                Outcome::NotReached,
            ]);
            counts.add(Run::new(&[], &source, &clock), &outcomes);
            provider.force_flush().unwrap();
            let metrics = exporter.get_finished_metrics().unwrap();
            let metric = metrics[0].scope_metrics().next().unwrap().metrics().next().unwrap();
            let AggregatedMetrics::U64(MetricData::Sum(sum)) = metric.data() else { panic!("a counter") };
            let mut points: Vec<_> = sum
                .data_points()
                .map(|point| {
                    let value = |name: &str| {
                        let found = point.attributes().find(|attribute| attribute.key.as_str() == name);
                        found.map(|attribute| attribute.value.as_str().into_owned()).unwrap_or_default()
                    };
                    (value("onceward.outcome"), value("onceward.reason"), point.value())
                })
                .collect();
            points.sort();
            let point = |outcome: &str, reason: &str, count| (outcome.to_owned(), reason.to_owned(), count);
            assert_eq!(
                points,
                [
                    point("completed", "", 2),
                    point("dead_lettered", "max_attempts", 1),
                    point("dead_lettered", "rejected", 1),
                ]
            );
        }
    }
}
