//! Finds out why no broker answers, where that can be known.

use crate::kafka::topics::is_refused_login;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long librdkafka's own errors are waited for, which it says in its own time.
const EVENTS: Duration = Duration::from_secs(1);
/// How long one address may take to let itself be connected to.
const CONNECT: Duration = Duration::from_millis(500);

/// Why no broker answers.
pub(crate) enum Unreachable {
    /// It answers, and lets nobody in.
    Login(KafkaError),
    /// As far as this machine can tell.
    Because(String),
}

/// Looks at what the client has met with, and at the addresses themselves: the client keeps its
/// reasons for itself. `None` where a broker may only be slow.
pub(crate) fn why(client: &BaseConsumer, brokers: &str) -> Option<Unreachable> {
    let mut has_failed = false;
    let until = Instant::now() + EVENTS;
    while Instant::now() < until {
        let Some(Err(error)) = client.poll(Duration::from_millis(100)) else { continue };
        match error.rdkafka_error_code() {
            code if is_refused_login(code) => return Some(Unreachable::Login(error)),
            Some(RDKafkaErrorCode::SSL) => {
                let problem = "TLS to the broker fails; check `kafka.security.protocol` and `kafka.ssl.*`";
                return Some(Unreachable::Because(problem.to_owned()));
            }
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve,
            ) => has_failed = true,
            _ => {}
        }
    }
    if !has_failed {
        return None;
    }
    let problems: Vec<String> = brokers.split(',').map(problem).collect();
    Some(Unreachable::Because(problems.join(", ")))
}

/// What is wrong with an address that the client has failed to use.
fn problem(address: &str) -> String {
    let address = address.trim();
    let place = address.split_once("://").map_or(address, |(_, place)| place);
    let mut refused = format!("`{place}` does not resolve to an address");
    for resolved in place.to_socket_addrs().into_iter().flatten().take(3) {
        refused = match TcpStream::connect_timeout(&resolved, CONNECT) {
            Ok(_) => {
                return format!(
                    "`{place}` takes the connection and closes it; perhaps it expects TLS or a login: check \
                     `kafka.security.protocol`"
                );
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                format!("`{place}` refuses the connection; nobody listens there")
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                format!("`{place}` does not answer; perhaps a firewall stands between")
            }
            Err(error) => format!("`{place}` cannot be connected to: {error}"),
        };
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn each_cause_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().to_string();
        assert!(problem(&format!("PLAINTEXT://{open}")).contains("`kafka.security.protocol`"));
        drop(listener);
        assert!(problem(&open).contains(&format!("`{open}` refuses the connection")));
        assert!(problem("no-such-host.invalid:9092").contains("does not resolve"));
    }
}
