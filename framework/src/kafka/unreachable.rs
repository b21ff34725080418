//! Finds out why no broker answers, where that can be known.

use crate::kafka::topics::is_refused_login;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long to wait for librdkafka's own errors, which it reports in its own time.
const EVENTS: Duration = Duration::from_secs(1);
/// How long one address may take to accept a connection.
const CONNECT: Duration = Duration::from_millis(500);
/// How long all addresses may take together, the look-up of their names included.
const ADDRESSES: Duration = Duration::from_millis(1500);

/// The context of a client at the start. One error says what is wrong; librdkafka would log the same
/// a dozen times before it.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
    }
}

impl ConsumerContext for Quiet {}

/// Why no broker answers.
pub(crate) enum Unreachable {
    /// It answers, and refuses the login.
    Login(KafkaError),
    /// As far as this machine can tell.
    Because(String),
}

/// Asks the client for its errors, and tries the addresses themselves: the client keeps its
/// reasons for itself. `None` where a broker may only be slow.
pub(crate) fn why(client: &BaseConsumer<Quiet>, brokers: &str) -> Option<Unreachable> {
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
    let tried = try_all(brokers, ADDRESSES);
    // A client whose connection is dropped on its way reports nothing for half a minute.
    if !has_failed && !tried.iter().all(|tried| matches!(tried, Tried::Fails(_))) {
        return None;
    }
    let problems: Vec<String> = tried.into_iter().map(Tried::problem).collect();
    Some(Unreachable::Because(problems.join(", ")))
}

/// The result of a try to connect to an address.
enum Tried {
    /// It takes connections.
    Connects(String),
    /// It does not, and why.
    Fails(String),
    /// The answer takes too long.
    Unknown(String),
}

impl Tried {
    /// The fault as a client sees it whose connection has failed.
    fn problem(self) -> String {
        match self {
            Self::Connects(place) => format!(
                "`{place}` takes the connection and closes it; perhaps it expects TLS or a login: check \
                 `kafka.security.protocol`"
            ),
            Self::Fails(problem) => problem,
            Self::Unknown(place) => format!(
                "the name in `{place}` was not resolved within {ADDRESSES:?}; check `brokers` and the DNS"
            ),
        }
    }
}

/// Tries all addresses at once: a name that does not resolve may take long.
fn try_all(brokers: &str, limit: Duration) -> Vec<Tried> {
    let until = Instant::now() + limit;
    let tries: Vec<_> = brokers
        .split(',')
        .map(place)
        .map(|place| {
            let (sender, tried) = mpsc::channel();
            let address = place.to_owned();
            std::thread::spawn(move || {
                // Fails only if nobody waits for it any more.
                let _ = sender.send(connect(&address));
            });
            (place, tried)
        })
        .collect();
    let wait = |(place, tried): (&str, mpsc::Receiver<Tried>)| {
        let left = until.saturating_duration_since(Instant::now());
        tried.recv_timeout(left).unwrap_or_else(|_| Tried::Unknown(place.to_owned()))
    };
    tries.into_iter().map(wait).collect()
}

/// `host:port` of a broker's address.
fn place(address: &str) -> &str {
    let address = address.trim();
    address.split_once("://").map_or(address, |(_, place)| place)
}

fn connect(place: &str) -> Tried {
    let mut problem = format!("`{place}` does not resolve to an address; check `brokers`");
    for resolved in place.to_socket_addrs().into_iter().flatten().take(3) {
        problem = match TcpStream::connect_timeout(&resolved, CONNECT) {
            Ok(_) => return Tried::Connects(place.to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                format!("`{place}` refuses the connection; nobody listens there")
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                format!("`{place}` does not answer; perhaps a firewall stands between")
            }
            Err(error) => format!("`{place}` cannot be connected to: {error}"),
        };
    }
    Tried::Fails(problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn problems(brokers: &str) -> String {
        let tried = try_all(brokers, Duration::from_secs(20));
        tried.into_iter().map(Tried::problem).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn each_cause_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().to_string();
        assert!(problems(&format!("PLAINTEXT://{open}")).contains("`kafka.security.protocol`"));
        drop(listener);
        let both = problems(&format!("{open}, no-such-host.invalid:9092"));
        assert!(both.contains(&format!("`{open}` refuses the connection")), "{both}");
        assert!(both.contains("`no-such-host.invalid:9092` does not resolve"), "{both}");
    }
}
