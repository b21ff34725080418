//! TLS to the registry: whom to trust, and our own certificate.

use crate::Error;
use crate::config::schema_registry::SchemaRegistryConfig;
use crate::error::BoxError;
use reqwest_middleware::reqwest::ClientBuilder;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use std::path::Path;
use std::sync::Arc;

/// Sets what a client uses for `https`. It has to be set also where no address is one: a client
/// asks the process for a provider otherwise, and there need be none.
pub(super) fn with_certificates(
    http: ClientBuilder,
    config: &SchemaRegistryConfig,
    is_used: bool,
) -> Result<ClientBuilder, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let refused = |error| Error::config("schema_registry", format!("cannot use TLS: {error}"));
    let tls = ClientConfig::builder_with_provider(provider.clone());
    let tls = tls.with_safe_default_protocol_versions().map_err(refused)?;
    let tls = if is_used || config.ca.is_some() {
        let ours = config.ca.as_deref().map(|path| ca(path).map_err(cannot_use("schema_registry.ca", path)));
        let verifier = Verifier::new_with_extra_roots(ours.transpose()?.unwrap_or_default(), provider)
            .map_err(refused)?;
        tls.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    } else {
        // A machine without any certificates is no reason not to start.
        tls.with_root_certificates(RootCertStore::empty())
    };
    let tls = match config.identity.as_deref() {
        Some(path) => identity(path)
            .and_then(|(chain, key)| Ok(tls.with_client_auth_cert(chain, key)?))
            .map_err(cannot_use("schema_registry.identity", path))?,
        None => tls.with_no_client_auth(),
    };
    Ok(http.tls_backend_preconfigured(tls))
}

fn ca(path: &Path) -> Result<Vec<CertificateDer<'static>>, BoxError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&std::fs::read(path)?).collect::<Result<_, _>>()?;
    if found.is_empty() { Err("it holds no certificate".into()) } else { Ok(found) }
}

/// A certificate, with those between it and who is trusted, and the key.
fn identity(path: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), BoxError> {
    let pem = std::fs::read(path)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| format!("it has to hold the certificate's key, not encrypted: {error}"))?;
    Ok((ca(path)?, key))
}

fn cannot_use(setting: &'static str, path: &Path) -> impl Fn(BoxError) -> Error {
    move |error| {
        Error::config(setting, format!("cannot use `{}`: {}", path.display(), super::describe(&*error)))
    }
}

/// Which setting helps where this is why there is no connection.
pub(super) fn note(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut error = error;
    // It is no source of what it is inside of.
    while let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        error = inner;
    }
    match error.downcast_ref()? {
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            // Of another CA of the same name.
            | AlertDescription::DecryptError
            // So says a server of TLS 1.2 that has got none.
            | AlertDescription::HandshakeFailure,
        ) => Some(
            "the registry wants to know us by a certificate that it trusts; give a file with that and its key in \
             setting `schema_registry.identity`",
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Some(
            "we do not trust the registry's certificate; give a file with that of its CA in setting \
             `schema_registry.ca`",
        ),
        _ => None,
    }
}
