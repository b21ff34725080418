//! Checks the form of `brokers`. librdkafka accepts anything, and then waits.

use crate::error::Error;
use std::net::Ipv6Addr;

const FORM: &str = "must be `host:port`, several with commas";
/// What librdkafka takes before an address.
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// The addresses without what stands around them.
///
/// # Errors
/// If one is not an address; the error says why, and does not repeat it.
pub(super) fn checked(brokers: &str) -> Result<String, Error> {
    let addresses: Vec<&str> = brokers.split(',').map(str::trim).collect();
    for (place, address) in addresses.iter().enumerate() {
        if let Some(problem) = problem(address) {
            let which = if addresses.len() > 1 { format!(" (address {})", place + 1) } else { String::new() };
            return Err(Error::config("brokers", format!("{FORM}{which}: {problem}")));
        }
    }
    Ok(addresses.join(","))
}

fn problem(address: &str) -> Option<&'static str> {
    let (protocol, rest) = match address.split_once("://") {
        Some((protocol, rest)) => (Some(protocol.to_ascii_lowercase()), rest),
        None => (None, address),
    };
    if address.is_empty() {
        return Some("nothing stands between two commas, or at an end");
    }
    if address.contains(['"', '\'', '`']) {
        return Some("quotes are part of the value here; leave them out");
    }
    if address.contains(';') || address.contains(char::is_whitespace) {
        return Some("only commas stand between addresses");
    }
    if protocol.is_some_and(|protocol| !PROTOCOLS.contains(&&*protocol)) {
        return Some("leave out what stands before `://`; `kafka.security.protocol` says how to connect");
    }
    if rest.contains('@') {
        return Some("a login does not stand here; set `kafka.sasl.username` and `kafka.sasl.password`");
    }
    if rest.contains(['/', '?', '#']) {
        return Some("an address has no path");
    }
    if rest.parse::<Ipv6Addr>().is_ok() {
        return Some("an IPv6 address stands in brackets, as in `[::1]:9092`");
    }
    let Some((host, port)) = rest.rsplit_once(':') else {
        return Some("the port is missing, often 9092");
    };
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match inside {
        Some(inside) if inside.parse::<Ipv6Addr>().is_err() => {
            return Some("only an IPv6 address stands in brackets");
        }
        None if host.contains([':', '[', ']']) => {
            return Some("it has more than one `:`; an IPv6 address stands in brackets, as in `[::1]:9092`");
        }
        _ if host.is_empty() => return Some("the host is missing"),
        _ => {}
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Some("the port is no number from 1 to 65535"),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_librdkafka_can_use_is_taken() {
        for (brokers, checked_as) in [
            ("localhost:9092", "localhost:9092"),
            (" a:1 , b:2\n", "a:1,b:2"),
            (
                "PLAINTEXT://a:1,sasl_ssl://b.example.com:9093",
                "PLAINTEXT://a:1,sasl_ssl://b.example.com:9093",
            ),
            ("[::1]:9092,10.0.0.1:9092", "[::1]:9092,10.0.0.1:9092"),
            ("my_broker-1:9092", "my_broker-1:9092"),
        ] {
            assert_eq!(checked(brokers).unwrap(), checked_as);
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_form_and_without_the_value() {
        for (brokers, says) in [
            ("\"hunter2:9092\"", "quotes"),
            ("http://hunter2:9092", "`://`"),
            ("kafka://hunter2:9092", "`://`"),
            ("a:1;hunter2:2", "only commas"),
            ("a:1 hunter2:2", "only commas"),
            ("hunter2", "port is missing"),
            ("hunter2:", "no number"),
            ("hunter2:0", "no number"),
            ("hunter2:70000", "no number"),
            ("hunter2:9092:9093", "more than one"),
            ("::1", "brackets"),
            ("fe80::1:9092", "brackets"),
            ("[hunter2]:9092", "brackets"),
            (":9092", "host is missing"),
            ("a:1,,b:2", "nothing stands"),
            ("a:1,", "nothing stands"),
            ("user:hunter2@broker:9092", "`kafka.sasl.password`"),
            ("SASL_SSL://user:hunter2@broker:9092", "`kafka.sasl.password`"),
            ("hunter2:9092/kafka", "no path"),
        ] {
            let error = checked(brokers).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("`host:port`"), "{brokers}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(checked("a:1,b").unwrap_err().to_string().contains("(address 2)"));
    }
}
