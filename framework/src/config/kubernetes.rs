//! Knows the environment variables that Kubernetes makes for a Service.

use std::net::IpAddr;

/// Whether this variable is one of those that Kubernetes puts into each pod for a Service named
/// `onceward` or `onceward-..`, by its name and by what is in it. Those are no settings.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let is_port = || value.parse::<u16>().is_ok();
    let is_address = || value.parse::<IpAddr>().is_ok();
    let is_url = || {
        value.split_once("://").is_some_and(|(protocol, rest)| is_protocol(protocol) && rest.contains(':'))
    };
    // A Service's name has no underscores, and no two dashes at its end.
    if name.contains("__") {
        return false;
    }
    if let Some((_, rest)) = name.split_once("_SERVICE_PORT") {
        return (rest.is_empty() || rest.starts_with('_')) && is_port();
    }
    if name.ends_with("_SERVICE_HOST") {
        return is_address();
    }
    if name.ends_with("_PORT") && is_url() {
        return true;
    }
    // `.._PORT_9092_TCP`, and the same with `_PROTO`, `_PORT`, `_ADDR`.
    let Some((_, rest)) = name.split_once("_PORT_") else { return false };
    let mut words = rest.split('_');
    let is_of_a_port = words.next().is_some_and(|number| number.parse::<u16>().is_ok())
        && words.next().is_some_and(|word| is_protocol(&word.to_ascii_lowercase()));
    is_of_a_port
        && match (words.next(), words.next()) {
            (None, _) => is_url(),
            (Some("PROTO"), None) => is_protocol(value),
            (Some("PORT"), None) => is_port(),
            (Some("ADDR"), None) => is_address(),
            _ => false,
        }
}

fn is_protocol(text: &str) -> bool {
    matches!(text, "tcp" | "udp" | "sctp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_a_service_are_known_and_no_other() {
        for (name, value) in [
            ("ONCEWARD_SERVICE_HOST", "10.0.0.1"),
            ("ONCEWARD_SERVICE_HOST", "fd00::1"),
            ("ONCEWARD_SERVICE_PORT", "80"),
            ("ONCEWARD_SERVICE_PORT_HTTP", "80"),
            ("ONCEWARD_SERVICE_PORT_HTTP_METRICS", "80"),
            ("ONCEWARD_PORT", "tcp://10.0.0.1:80"),
            ("ONCEWARD_PORT", "udp://[fd00::1]:53"),
            ("ONCEWARD_PORT_9092_TCP", "tcp://10.0.0.1:9092"),
            ("ONCEWARD_PORT_9092_TCP_PROTO", "tcp"),
            ("ONCEWARD_PORT_9092_TCP_PORT", "9092"),
            ("ONCEWARD_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("ONCEWARD_ORDERS_SERVICE_HOST", "10.0.0.1"),
            ("ONCEWARD_ORDERS_PORT_53_UDP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("ONCEWARD_SERVICE_HOST", "hunter2"),
            ("ONCEWARD_SERVICE_PORT", "http"),
            ("ONCEWARD_SERVICE_PORTS", "80"),
            ("ONCEWARD_PORT", "80"),
            ("ONCEWARD_PORT", "http://10.0.0.1:80"),
            ("ONCEWARD_PORT_X_TCP", "tcp://10.0.0.1:80"),
            ("ONCEWARD_PORT_80_TCP_NAME", "tcp"),
            ("ONCEWARD_KAFKA__X_SERVICE_HOST", "10.0.0.1"),
            ("ONCEWARD_DRAIN_DEADLIN", "5s"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}
