//! A Kafka of one test, that can be broken.

use crate::own::Own;
use crate::{Proxy, Signal, Stack};

/// A Kafka of its own, that can be broken.
#[derive(Debug)]
pub struct Breakable {
    /// Its servers: this Kafka, and the others of all.
    pub stack: Stack,
    own: Own,
}

impl Breakable {
    /// Starts it.
    pub fn start(stack: Stack) -> Self {
        let mut kafka = Self { stack, own: Own::with_libs("kafka") };
        kafka.own.start_new("kafka");
        kafka.stack.brokers = kafka.own.variable("KAFKA_BROKERS");
        kafka
    }

    /// A network that can be broken, for clients that reach it at the proxy's address.
    pub async fn proxy(&self) -> Proxy {
        let (host, port) = self.stack.brokers.rsplit_once(':').expect("a host and a port");
        let port: u16 = port.parse().expect("a number");
        // The listener for it, and the port at which that is advertised.
        Proxy::at(port + 4, &format!("{host}:{}", port + 3)).await
    }

    /// Runs `stack/ctl` on it.
    pub fn ctl(&self, words: &[&str]) {
        self.own.ctl(words);
    }

    /// Sends the broker's process a signal.
    pub fn signal(&self, signal: Signal) {
        self.own.signal("STACK_PID_KAFKA", signal);
    }
}

impl Drop for Breakable {
    fn drop(&mut self) {
        self.own.remove(&["stop", "kafka", "--kill"]);
    }
}
