//! Checks a database's URL. Its errors do not repeat the URL, which holds a password.

use crate::error::{BoxError, Error};
use sqlx::postgres::PgConnectOptions;
use std::io::ErrorKind;
use std::str::FromStr;

const FORM: &str = "is not a PostgreSQL URL, `postgres://user:password@host:port/database`";
const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Whether a URL is meant for PostgreSQL.
pub(crate) fn is_postgres(url: &str) -> bool {
    let scheme = url.trim_start().split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("postgres" | "postgresql"))
}

/// Reads a URL.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, Error> {
    let url = url.trim();
    // sqlx looks at no scheme. Its error is left out: it quotes the URL.
    let parsed = PgConnectOptions::from_str(url).ok().filter(|_| is_postgres(url));
    let refused = |problem: String| Error::config("database_url", problem);
    match (parsed, problem(url)) {
        (Some(options), None) => Ok(options),
        (_, Some(problem)) => Err(refused(problem)),
        (None, None) => Err(refused(FORM.to_owned())),
    }
}

fn problem(url: &str) -> Option<String> {
    let form = |problem: &str| Some(format!("{FORM}: {problem}"));
    if url.starts_with(['"', '\'']) {
        return form("quotes are part of the value here; leave them out");
    }
    let Some((_, rest)) = url.split_once("://").filter(|_| is_postgres(url)) else {
        return form("it must begin with `postgres://`");
    };
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (after, fragment) = after.split_once('#').unwrap_or((after, ""));
    let (path, query) = after.split_once('?').unwrap_or((after, ""));
    // Behind the host, an `@` is that of a login that was cut short, but for one in a parameter.
    let is_cut_short =
        [path, fragment, query.split('=').next().unwrap_or("")].iter().any(|part| part.contains('@'));
    if is_cut_short {
        return form(
            "in a user name or password, `/` is written `%2F`, `#` is `%23`, `?` is `%3F`, `@` is `%40`, `:` is \
             `%3A` and `%` is `%25`",
        );
    }
    let hosts = authority.rsplit('@').next().unwrap_or(authority);
    if hosts.contains(',') {
        return form("it takes one host; give one address that leads to the primary");
    }
    for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
        let is_mode = MODES.iter().any(|mode| mode.eq_ignore_ascii_case(value));
        if matches!(name, "sslmode" | "ssl-mode") && !is_mode {
            return Some(format!("has an `sslmode` that is none of `{}`", MODES.join("`, `")));
        }
    }
    None
}

/// What helps where the server cannot be used because of how it is connected to.
pub(crate) fn note(error: BoxError) -> Result<BoxError, Error> {
    let refused = |problem: &str| Err(Error::config("database_url", problem));
    match error.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Tls(why)) if why.to_string().contains("without TLS support") => refused(
            "asks for TLS by its `sslmode`, and this program was built without; enable the feature `postgres-tls`",
        ),
        Some(sqlx::Error::Database(why))
            if is_plain_text_refused(why.message()) && !cfg!(feature = "postgres-tls") =>
        {
            refused(
                "leads to a server that wants TLS from this user, and this program was built without; enable the \
                 feature `postgres-tls`",
            )
        }
        Some(sqlx::Error::Io(why)) => match of_connection(why) {
            Some(what) => Ok(Unreachable { what, source: error }.into()),
            None => Ok(error),
        },
        _ => Ok(error),
    }
}

/// Why PostgreSQL cannot be reached, in words of ours.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct Unreachable {
    what: &'static str,
    source: BoxError,
}

fn of_connection(error: &std::io::Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            Some("nobody listens at its host and port; correct them, or start PostgreSQL there")
        }
        ErrorKind::TimedOut => Some("its host does not answer; perhaps a firewall stands between"),
        // The kind is none that is stable.
        _ if error.to_string().contains("lookup address") => {
            Some("its host's name does not resolve; correct it, or look at the DNS")
        }
        _ => None,
    }
}

/// Whether `pg_hba.conf` has nothing for a connection without TLS, as PostgreSQL words it.
fn is_plain_text_refused(message: &str) -> bool {
    message.contains("pg_hba.conf") && (message.contains("no encryption") || message.contains("SSL off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_sqlx_can_use_is_taken() {
        for url in [
            "postgres://app:secret@127.0.0.1:5432/app",
            "postgresql://app@db.example.com/app?sslmode=require",
            "postgres://app:p%23a%2Fb%40c@db/app?sslmode=Verify-Full",
            "postgres://app:p@ss@db/app\n",
            "postgres:///app?host=/var/run/postgresql",
            "postgres://[::1]:5432/app",
            "postgres://db/app?user=app@corp",
        ] {
            assert!(options(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn any_other_is_refused_with_what_is_wrong_and_without_itself() {
        for (url, says) in [
            ("mysql://app:hunter2@db/app", "`postgres://`"),
            ("hunter2", "`postgres://`"),
            ("\"postgres://app:hunter2@db/app\"", "quotes"),
            ("postgres://app:hunt#er2@db/app", "%23"),
            ("postgres://app:hunt/er2@db/app", "%2F"),
            ("postgres://app:hun@t/er2@db/app", "%2F"),
            ("postgres://app:1#er2@db/app", "%23"),
            ("postgres://app:hunt?er2@db/app", "%3F"),
            ("postgres://app:hunter2@a:1,b:2/app", "one host"),
            ("postgres://app:hunter2@db/app?sslmode=required", "`verify-full`"),
            ("postgres://app:hunter2@db:port/app", "postgres://user:password@host:port/database"),
        ] {
            let error = options(url).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("`database_url`"), "{url}: {error}");
            assert!(!error.contains("er2") && !error.contains("hunt"), "{error}");
        }
    }
}
