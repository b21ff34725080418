//! A registry behind TLS, which wants to know by a certificate who asks.

use super::*;
use onceward::AvroEncoder;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

/// Who signs certificates.
struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, unique("ca"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate and its key, in one text.
    fn signs(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> String {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        certificate.pem() + &key.serialize_pem()
    }

    fn signs_client(&self) -> String {
        self.signs("app", ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }

    /// A registry that this CA vouches for, and that lets in whom it vouches for.
    async fn registry(&self) -> Stub {
        let pem = self.signs("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let mut trusted = RootCertStore::empty();
        trusted.add(self.certificate()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(trusted.into(), provider.clone());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_client_cert_verifier(clients.build().unwrap());
        Stub::start_tls(config.with_single_cert(chain, key).unwrap()).await
    }
}

/// A file of its own, gone with it.
struct File(PathBuf);

impl File {
    fn of(text: &str) -> Self {
        let file = Self(std::env::temp_dir().join(unique("onceward")));
        std::fs::write(&file.0, text).unwrap();
        file
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap_or_default();
    }
}

fn asking(registry: &Stub, ca: &Path, identity: Option<&Path>) -> SchemaRegistryConfig {
    let mut config = SchemaRegistryConfig::at(&registry.url);
    (config.ca, config.identity) = (Some(ca.to_owned()), identity.map(Path::to_owned));
    config
}

/// What is wrong for who writes by a schema.
async fn problem(registry: &SchemaRegistryConfig) -> String {
    let encoder = AvroEncoder::new(registry, NUMBER).unwrap();
    encoder.value("orders", &Numbered { number: 1 }).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_waits_until_the_registry_knows_us_by_our_certificate() {
    let (ca, other) = (Ca::new(), Ca::new());
    let mut world = World::new(stack_or_leave_out!(), 1).await;
    world.registry = ca.registry().await;
    world.registry.has(1, NUMBER);
    world.send(0, &framed(1, &datum(1))).await;
    let (trusted, ours, stranger) =
        (File::of(&ca.pem), File::of(&ca.signs_client()), File::of(&other.signs_client()));
    let seen = Seen::default();
    let app = |identity| {
        let registry = asking(&world.registry, &trusted.0, identity);
        world.app(world.route(one {}), &seen).schema_registry(registry)
    };
    for identity in [None, Some(&*stranger.0)] {
        let before = world.registry.turned_away();
        let running = Running::start(app(identity));
        // At the start, and for the record at least twice.
        eventually("it is turned away", async || world.registry.turned_away() >= before + 3).await;
        running.stop().await.unwrap();
        assert!(seen.numbers().is_empty());
        assert!(world.letters().await.is_empty());
        // It is where the group began.
        assert!(matches!(world.stack.committed(&world.group, &world.topic, 0), None | Some(0)));
    }
    assert_eq!(world.registry.asked(), 0);
    let running = Running::start(app(Some(&*ours.0)));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1]);
    assert!(seen.all_at_first());
    assert!(world.letters().await.is_empty());
}

#[tokio::test]
async fn an_untrusted_certificate_is_answered_with_the_setting_to_correct() {
    let (ca, other) = (Ca::new(), Ca::new());
    let registry = ca.registry().await;
    let (trusted, ours) = (File::of(&ca.pem), File::of(&ca.signs_client()));
    let (untrusted, stranger) = (File::of(&other.pem), File::of(&other.signs_client()));
    for (identity, alert) in [(None, "CertificateRequired"), (Some(&*stranger.0), "UnknownCA")] {
        let said = problem(&asking(&registry, &trusted.0, identity)).await;
        assert!(said.contains(alert) && said.contains("setting `schema_registry.identity`"), "{said}");
    }
    let said = problem(&asking(&registry, &untrusted.0, Some(&ours.0))).await;
    assert!(said.contains("UnknownIssuer") && said.contains("setting `schema_registry.ca`"), "{said}");
    assert_eq!(registry.asked(), 0);
    // Whom it knows it tells what it does not have.
    let said = problem(&asking(&registry, &trusted.0, Some(&ours.0))).await;
    assert!(said.contains("does not have this schema") && registry.asked() > 0, "{said}");
}

#[tokio::test]
async fn a_file_that_is_no_certificate_is_refused_at_once() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (text, trusted) = (File::of("no certificate"), File::of(&ca.pem));
    let (ours, theirs) = (ca.signs_client(), other.signs_client());
    let mixed = &ours[..ours.find("-----BEGIN PRIVATE").unwrap()].to_owned();
    let mixed = File::of(&(mixed.clone() + &theirs[theirs.find("-----BEGIN PRIVATE").unwrap()..]));
    let problem = |ca: &File, identity: Option<&File>| {
        let mut config = SchemaRegistryConfig::at("https://localhost:1");
        (config.ca, config.identity) = (Some(ca.0.clone()), identity.map(|file| file.0.clone()));
        AvroEncoder::new(&config, NUMBER).unwrap_err().to_string()
    };
    for (said, setting, why) in [
        (problem(&text, None), "schema_registry.ca", "it holds no certificate"),
        (
            problem(&trusted, Some(&trusted)),
            "schema_registry.identity",
            "it has to hold the certificate's key",
        ),
        (problem(&trusted, Some(&mixed)), "schema_registry.identity", "KeyMismatch"),
        (problem(&File(PathBuf::from("/nowhere")), None), "schema_registry.ca", "cannot use `/nowhere`"),
    ] {
        assert!(said.contains(setting) && said.contains(why), "{said}");
    }
}
