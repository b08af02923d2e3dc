//! The rustls configuration of a listener.
//!
//! TLS 1.3 and 1.2, post-quantum key exchange first, no early data (a replayed
//! upgrade would be a second tunnel), no server-side session memory.
//!
//! Invariant: whatever can be wrong shows here, while a reload is prepared; a
//! finished configuration cannot fail for a reason of ours.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::issued::{Issued, IssuedResolver, ProofResolver};
use super::pem::{PemError, PemFile};
use super::provider;
use super::sni::SniResolver;
use super::staple::Served;
use super::tickets::{Policy, Tickets};
use crate::config::ClientCertificates;
use crate::exchange::CaDigest;

/// The TLS of one listener, ready for handshakes.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// For clients.
    pub(super) usual: Arc<ServerConfig>,
    /// For a CA that asks for a proof (RFC 8737).
    pub(super) proof: Option<Arc<ServerConfig>>,
    client_cas: Option<Arc<[CaDigest]>>,
}

impl ServerTls {
    /// Those that clients' certificates must be from, sorted; `None` if clients
    /// are not asked for any.
    pub fn client_cas(&self) -> Option<&Arc<[CaDigest]>> {
        self.client_cas.as_ref()
    }
}

/// For clients alone.
impl From<Arc<ServerConfig>> for ServerTls {
    fn from(usual: Arc<ServerConfig>) -> Self {
        Self {
            usual,
            proof: None,
            client_cas: None,
        }
    }
}

/// Where a listener's certificates come from.
#[derive(Clone, Debug)]
pub enum Certificates<'a> {
    /// At least one; the first serves clients whose SNI matches none.
    Files(&'a [Served]),
    /// Those of these names, as they are at each handshake.
    Issued(&'a Arc<Issued>, &'a [String]),
}

/// What a listener's TLS is made of.
#[derive(Clone, Debug)]
pub struct ServerOptions<'a> {
    pub certificates: Certificates<'a>,
    /// `None` does not ask for client certificates.
    pub client_certificates: Option<&'a ClientCertificates>,
    pub tls_1_3_only: bool,
    /// Whether HTTP/2 is offered, before HTTP/1.1.
    pub http2: bool,
}

/// Why a listener's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServerConfigError {
    #[error("a listener with TLS needs at least one certificate pair")]
    NoPair,
    #[error("client CA: {0}")]
    ClientCa(#[from] PemError),
    /// `index` counts from 1.
    #[error("client CA: certificate {index} in {} cannot be used: {reason}", path.display())]
    UnusableCa {
        path: PathBuf,
        index: usize,
        reason: rustls::Error,
    },
    #[error("client CA: {} cannot be used: {reason}", path.display())]
    UnusableCas { path: PathBuf, reason: String },
    #[error("tls cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Makes the configuration of one listener; reads the client CA and blocks.
///
/// `tickets` is the process's: connections resume over reloads and between
/// listeners, but never across a change of who is let in.
pub fn server_config(
    options: &ServerOptions<'_>,
    tickets: &Tickets,
) -> Result<ServerTls, ServerConfigError> {
    let resolver: Arc<dyn ResolvesServerCert> = match &options.certificates {
        Certificates::Files([]) => return Err(ServerConfigError::NoPair),
        Certificates::Files(served) => Arc::new(SniResolver::new(served)),
        Certificates::Issued(issued, names) => {
            Arc::new(IssuedResolver::new(Arc::clone(issued), names))
        }
    };
    let proof = match &options.certificates {
        Certificates::Files(_) => None,
        Certificates::Issued(issued, _) => Some(proof_config(Arc::clone(issued))?),
    };
    let versions: &[_] = match options.tls_1_3_only {
        true => &[&rustls::version::TLS13],
        false => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
    let (builder, policy) = match options.client_certificates {
        None => (builder.with_no_client_auth(), Policy::Anyone),
        Some(client) => {
            let file = PemFile::read(&client.ca)?;
            let cas = file.certificates()?;
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::new(root_store(client, &cas)?),
                provider(),
            );
            let verifier = match client.required {
                true => verifier.build(),
                false => verifier.allow_unauthenticated().build(),
            };
            let verifier = verifier.map_err(|reason| ServerConfigError::UnusableCas {
                path: client.ca.clone(),
                reason: reason.to_string(),
            })?;
            (
                builder.with_client_cert_verifier(verifier),
                Policy::certified(cas, client.required),
            )
        }
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = vec![super::HTTP_1_1.to_vec()];
    if options.http2 {
        config.alpn_protocols.insert(0, super::HTTP_2.to_vec());
    }
    let client_cas = policy.digests();
    config.ticketer = tickets.of(policy)?;
    // Session ids (TLS 1.2) would need memory that dies with each generation.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(ServerTls {
        usual: Arc::new(config),
        proof,
        client_cas,
    })
}

/// For a CA, which shows no certificate, whatever is asked of clients.
fn proof_config(issued: Arc<Issued>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(ProofResolver(issued)));
    config.alpn_protocols = vec![super::ACME_TLS_1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Strict, unlike a system's store: each of these was chosen by the operator.
fn root_store(
    client: &ClientCertificates,
    cas: &[rustls::pki_types::CertificateDer<'static>],
) -> Result<RootCertStore, ServerConfigError> {
    let mut roots = RootCertStore::empty();
    for (at, ca) in cas.iter().enumerate() {
        roots
            .add(ca.clone())
            .map_err(|reason| ServerConfigError::UnusableCa {
                path: client.ca.clone(),
                index: at + 1,
                reason,
            })?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::accept::AcceptError;
    use crate::tls::facts::Facts;
    use crate::tls::tests::certificates::Ca;
    use crate::tls::tests::handshakes::{Clients, Servers, exchange, handshake};

    /// The server's verdict on one connection.
    async fn verdict(server: &Servers, client: &Clients) -> Result<Facts, AcceptError> {
        let (accepted, _) = handshake(server.config(), client.config(), "a.test").await;
        accepted.map(|(_, facts)| facts)
    }

    fn label(verdict: Result<Facts, AcceptError>) -> &'static str {
        verdict.unwrap_err().label()
    }

    #[tokio::test]
    async fn post_quantum_tls_1_3_is_the_default() {
        let ca = Ca::new("ca");
        let server = Servers::of(&ca.issue(&["a.test"]));
        let facts = verdict(&server, &Clients::trusting(&ca)).await.unwrap();
        assert_eq!(
            facts,
            Facts {
                version: "TLSv1.3",
                cipher: "TLS13_AES_256_GCM_SHA384",
                key_exchange: Some("X25519MLKEM768".to_owned()),
                alpn: Some("http/1.1".to_owned()),
                sni: Some("a.test".to_owned()),
                client_subject: None,
                client_not_after: None,
                resumed: false,
            }
        );
    }

    #[tokio::test]
    async fn tls_1_2_is_spoken_unless_it_is_switched_off() {
        let ca = Ca::new("ca");
        let server = Servers::of(&ca.issue(&["a.test"]));
        let client = Clients::trusting(&ca).only_tls_1_2();
        let facts = verdict(&server, &client).await.unwrap();
        assert_eq!(facts.version, "TLSv1.2");
        let server = server.only_tls_1_3();
        assert_eq!(label(verdict(&server, &client).await), "protocol");
        let facts = verdict(&server, &Clients::trusting(&ca)).await.unwrap();
        assert_eq!(facts.version, "TLSv1.3");
    }

    #[tokio::test]
    async fn alpn_without_a_common_protocol_is_refused() {
        let ca = Ca::new("ca");
        let server = Servers::of(&ca.issue(&["a.test"]));
        let client = Clients::trusting(&ca).with_alpn(&[b"http/1.1", b"h2"]);
        let alpn = verdict(&server, &client).await.unwrap().alpn;
        assert_eq!(alpn.as_deref(), Some("h2"));
        let client = client.with_alpn(&[b"h3"]);
        assert_eq!(label(verdict(&server, &client).await), "protocol");
        let client = client.with_alpn(&[]);
        assert_eq!(verdict(&server, &client).await.unwrap().alpn, None);
    }

    #[tokio::test]
    async fn client_certificates_required_optional_and_of_a_wrong_ca() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, other) = (Ca::new("ca"), Ca::new("other"));
        let ca_file = ca.write(dir.path(), "ca.pem");
        let server = Servers::of(&ca.issue(&["a.test"]));
        let without = Clients::trusting(&ca);
        let good = Clients::trusting(&ca).with(&ca.issue(&["client"]));
        let bad = Clients::trusting(&ca).with(&other.issue(&["client"]));
        let old = ca.issue_for_years(&["client"], 2000, 2001);
        let old = Clients::trusting(&ca).with_unproven(&old);
        for version_12 in [false, true] {
            for required in [true, false] {
                let server = server.clone().asking(&ca_file, required);
                let client = |client: &Clients| match version_12 {
                    true => client.clone().only_tls_1_2(),
                    false => client.clone(),
                };
                let facts = verdict(&server, &client(&good)).await.unwrap();
                assert_eq!(
                    facts.client_subject.as_deref(),
                    Some("CN=rcgen self signed cert")
                );
                for refused in [&bad, &old] {
                    let verdict = verdict(&server, &client(refused)).await;
                    assert_eq!(label(verdict), "bad_client_certificate");
                }
                let verdict = verdict(&server, &client(&without)).await;
                match required {
                    true => assert_eq!(label(verdict), "no_client_certificate"),
                    false => assert_eq!(verdict.unwrap().client_subject, None),
                }
            }
        }
    }

    #[tokio::test]
    async fn sessions_resume_over_a_reload_with_a_new_certificate() {
        let ca = Ca::new("ca");
        let before = Servers::of(&ca.issue(&["a.test"]));
        let after = before.clone().serving(&ca.issue(&["a.test"]));
        for client in [
            Clients::trusting(&ca),
            Clients::trusting(&ca).only_tls_1_2(),
        ] {
            let client = client.config();
            assert!(!exchange(before.config(), Arc::clone(&client)).await.resumed);
            assert!(exchange(after.config(), client).await.resumed);
        }
    }

    #[tokio::test]
    async fn resumed_sessions_keep_the_client_that_was_verified() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("ca");
        let server = Servers::of(&ca.issue(&["a.test"])).asking(&ca.write(dir.path(), "ca"), true);
        let client = Clients::trusting(&ca).with(&ca.issue(&["client"])).config();
        let first = exchange(server.config(), Arc::clone(&client)).await;
        let second = exchange(server.config(), client).await;
        assert!(!first.resumed && second.resumed);
        assert_eq!(first.client_subject, second.client_subject);
        assert!(first.client_subject.is_some());
    }

    #[tokio::test]
    async fn no_ticket_survives_a_change_of_who_is_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, other) = (Ca::new("ca"), Ca::new("other"));
        let old_ca = ca.write(dir.path(), "ca.pem");
        let new_ca = other.write(dir.path(), "other.pem");
        let open = Servers::of(&ca.issue(&["a.test"]));
        let optional = open.clone().asking(&old_ca, false);
        let required = open.clone().asking(&old_ca, true);
        let replaced = open.clone().asking(&new_ca, true);
        for tls_1_2 in [false, true] {
            let version = |client: Clients| match tls_1_2 {
                true => client.only_tls_1_2(),
                false => client,
            };
            let anonymous = || version(Clients::trusting(&ca)).config();
            for before in [&open, &optional] {
                let client = anonymous();
                exchange(before.config(), Arc::clone(&client)).await;
                let (accepted, _) = handshake(required.config(), client, "a.test").await;
                assert_eq!(accepted.unwrap_err().label(), "no_client_certificate");
            }
            let client = Clients::trusting(&ca).with(&ca.issue(&["client"]));
            let client = version(client).config();
            exchange(required.config(), Arc::clone(&client)).await;
            let (accepted, _) = handshake(replaced.config(), client, "a.test").await;
            assert_eq!(accepted.unwrap_err().label(), "bad_client_certificate");
        }
    }

    #[test]
    fn what_is_wrong_shows_before_it_is_used() {
        let options = |certificates, client_certificates| ServerOptions {
            certificates: Certificates::Files(certificates),
            client_certificates,
            tls_1_3_only: false,
            http2: true,
        };
        let tickets = Tickets::default();
        let none = server_config(&options(&[], None), &tickets);
        assert!(matches!(none, Err(ServerConfigError::NoPair)));
        let dir = tempfile::tempdir().unwrap();
        let served = [Ca::new("ca").issue(&["a.test"]).pair().into()];
        let client = ClientCertificates {
            ca: dir.path().join("ca.pem"),
            required: true,
            subject_header: None,
        };
        let error = || server_config(&options(&served, Some(&client)), &tickets).unwrap_err();
        assert!(matches!(error(), ServerConfigError::ClientCa(_)));
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&client.ca, junk).unwrap();
        assert!(error().to_string().contains("certificate 1 in"));
    }
}
