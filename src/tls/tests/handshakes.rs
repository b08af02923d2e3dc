//! Servers, clients and handshakes in memory, for this room's tests.
//!
//! Not part of the product.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::{client, server};

use super::certificates::{Ca, Issued};
use crate::config::ClientCertificates;
use crate::tls::accept::{AcceptError, accept};
use crate::tls::facts::Facts;
use crate::tls::pem::PemFile;
use crate::tls::provider;
use crate::tls::server::{Certificates, ServerOptions, ServerTls, server_config};
use crate::tls::staple::{Served, Staple};
use crate::tls::tickets::Tickets;

/// How a server is set up; clones share their tickets, as reloads do, and keep
/// all earlier configurations alive, as connections do.
#[derive(Clone)]
pub(in crate::tls) struct Servers {
    served: Served,
    client_certificates: Option<ClientCertificates>,
    tls_1_3_only: bool,
    tickets: Arc<Tickets>,
    live: Arc<Mutex<Vec<Arc<ServerConfig>>>>,
}

impl Servers {
    pub(in crate::tls) fn of(issued: &Issued) -> Self {
        Self {
            served: issued.pair().into(),
            client_certificates: None,
            tls_1_3_only: false,
            tickets: Arc::default(),
            live: Arc::default(),
        }
    }

    pub(in crate::tls) fn serving(self, issued: &Issued) -> Self {
        let served = issued.pair().into();
        Self { served, ..self }
    }

    pub(in crate::tls) fn stapling(mut self, staple: Staple) -> Self {
        self.served.staple = Some(Arc::new(staple));
        self
    }

    pub(in crate::tls) fn asking(self, ca: &Path, required: bool) -> Self {
        let client_certificates = Some(ClientCertificates {
            ca: ca.to_owned(),
            required,
            subject_header: None,
        });
        Self {
            client_certificates,
            ..self
        }
    }

    pub(in crate::tls) fn only_tls_1_3(self) -> Self {
        Self {
            tls_1_3_only: true,
            ..self
        }
    }

    pub(in crate::tls) fn config(&self) -> Arc<ServerConfig> {
        let options = ServerOptions {
            certificates: Certificates::Files(std::slice::from_ref(&self.served)),
            client_certificates: self.client_certificates.as_ref(),
            tls_1_3_only: self.tls_1_3_only,
            http2: true,
        };
        let config = server_config(&options, &self.tickets).unwrap().usual;
        self.live.lock().unwrap().push(Arc::clone(&config));
        config
    }
}

/// How a client is set up, by rustls alone.
#[derive(Clone)]
pub(in crate::tls) struct Clients {
    roots: RootCertStore,
    own: Option<Arc<CertifiedKey>>,
    tls_1_2_only: bool,
    alpn: Vec<Vec<u8>>,
}

impl Clients {
    pub(in crate::tls) fn trusting(ca: &Ca) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate()).unwrap();
        Self {
            roots,
            own: None,
            tls_1_2_only: false,
            alpn: vec![b"http/1.1".to_vec()],
        }
    }

    pub(in crate::tls) fn with(self, issued: &Issued) -> Self {
        let own = Some(Arc::clone(&issued.pair().certified_key));
        Self { own, ..self }
    }

    /// A certificate that a pair would not let pass, such as an expired one.
    pub(in crate::tls) fn with_unproven(self, issued: &Issued) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let written = issued.write(dir.path(), "client");
        let key = PemFile::read(&written.key).unwrap().private_key().unwrap();
        let own = CertifiedKey::from_der(vec![issued.leaf()], key, &provider()).unwrap();
        Self {
            own: Some(Arc::new(own)),
            ..self
        }
    }

    pub(in crate::tls) fn only_tls_1_2(self) -> Self {
        Self {
            tls_1_2_only: true,
            ..self
        }
    }

    pub(in crate::tls) fn with_alpn(self, alpn: &[&[u8]]) -> Self {
        let alpn = alpn.iter().map(|p| p.to_vec()).collect();
        Self { alpn, ..self }
    }

    /// A client that remembers the sessions of its earlier connections.
    pub(in crate::tls) fn config(&self) -> Arc<ClientConfig> {
        let versions: &[_] = match self.tls_1_2_only {
            true => &[&version::TLS12],
            false => &[&version::TLS13],
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own))))
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = Resumption::in_memory_sessions(8);
        Arc::new(config)
    }
}

type Accepted = (server::TlsStream<DuplexStream>, Facts);
type Connected = client::TlsStream<DuplexStream>;

/// One handshake; what each side makes of it.
pub(in crate::tls) async fn handshake(
    server: impl Into<ServerTls>,
    client: Arc<ClientConfig>,
    name: &str,
) -> (Result<Accepted, AcceptError>, io::Result<Connected>) {
    let (server_side, client_side) = duplex(64 * 1024);
    let name = name.to_owned().try_into().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let turns = Semaphore::const_new(1);
    tokio::join!(
        accept(server.into(), server_side, deadline, &turns),
        TlsConnector::from(client).connect(name, client_side),
    )
}

/// A handshake with `a.test` that must work, and a byte from the server, so
/// that the client has read the tickets before it.
pub(in crate::tls) async fn exchange(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> Facts {
    let (accepted, connected) = handshake(server, client, "a.test").await;
    let ((mut server, facts), mut client) = (accepted.unwrap(), connected.unwrap());
    server.write_all(b"x").await.unwrap();
    server.flush().await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    facts
}

/// The OCSP response that a client is shown; empty if none.
pub(in crate::tls) async fn stapled(server: Arc<ServerConfig>, client: &Clients) -> Vec<u8> {
    let shown = Arc::new(Shown::default());
    let mut config = ClientConfig::clone(&client.config());
    let verifier: Arc<dyn ServerCertVerifier> = shown.clone();
    config.dangerous().set_certificate_verifier(verifier);
    let (accepted, connected) = handshake(server, Arc::new(config), "a.test").await;
    accepted.unwrap();
    connected.unwrap();
    let seen = shown.0.lock().unwrap().take();
    seen.expect("a certificate")
}

/// Believes everything, and remembers the OCSP response.
#[derive(Debug, Default)]
struct Shown(Mutex<Option<Vec<u8>>>);

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Some(ocsp.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
