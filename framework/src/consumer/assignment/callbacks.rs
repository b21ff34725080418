//! What librdkafka calls, on the poll thread and on its own.

use super::{Assignment, Consumer, Owned};
use crate::Error;
use crate::kafka::client::{
    ClientContext, ConsumerContext, KafkaError, KafkaResult, Offset, RDKafkaLogLevel, RDKafkaRespErr,
    Statistics, TopicPartitionList,
};
use crate::kafka::offsets;
use std::sync::atomic::Ordering;

impl ConsumerContext for Assignment {
    fn rebalance(&self, consumer: &Consumer, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.served.fetch_add(1, Ordering::Relaxed);
        let result = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.joined.fetch_add(1, Ordering::Relaxed);
                self.assigned(consumer, list)
            }
            // Also while the last handle is being dropped, which waits for the unassign.
            _ => self.revoked(consumer, list),
        };
        if let Err(error) = result {
            let error = Error::Internal { what: "a rebalance".to_owned(), source: error.into() };
            // Nobody listens only if the application is stopping already.
            let _ = self.setup.stop.send(error);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.served.fetch_add(1, Ordering::Relaxed);
        let gone = {
            let Owned { partitions, committer, .. } = &mut *self.owned();
            if result.is_ok() {
                self.contact.heard();
                for (element, text) in offsets.elements().iter().zip(offsets::metadata(offsets)) {
                    let owned = partitions.get_mut(&(element.topic().to_owned(), element.partition()));
                    if let (Some(owned), Offset::Offset(offset), Ok(())) =
                        (owned, element.offset(), element.error())
                    {
                        owned.acknowledge(offset, &text, *committer.room());
                    }
                }
            }
            committer.result(&result)
        };
        if gone {
            self.membership_gone();
        }
    }
}

impl ClientContext for Assignment {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.log.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    fn error(&self, _: KafkaError, reason: &str) {
        self.served.fetch_add(1, Ordering::Relaxed);
        // `poll` gives the error itself next, and whoever polls says it.
        self.log.keep_reason(reason);
    }
}
