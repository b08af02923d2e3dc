//! Certificates made on the spot, and TLS clients that trust them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::soon;
use super::wire::{Transport, Wire};

/// A chain and its key, as PEM text.
#[derive(Clone, Debug)]
pub struct Pair {
    pub chain: String,
    pub key: String,
}

impl Pair {
    pub fn leaf(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).expect("a certificate")
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key")
    }
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: rcgen::Certificate,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "longhaul test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("a root");
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    pub fn pem(&self) -> String {
        self.root.pem()
    }

    /// A server's pair for these names; the first is its common name too.
    pub fn pair(&self, names: &[&str]) -> Pair {
        self.sign(Self::params(names, ExtendedKeyUsagePurpose::ServerAuth))
    }

    /// A server's pair that was valid until yesterday's century.
    pub fn expired_pair(&self, names: &[&str]) -> Pair {
        let mut params = Self::params(names, ExtendedKeyUsagePurpose::ServerAuth);
        params.not_before = date_time_ymd(1999, 1, 1);
        params.not_after = date_time_ymd(1999, 12, 31);
        self.sign(params)
    }

    /// A server's pair that is valid from `start` on, to the second.
    pub fn early_pair(&self, names: &[&str], start: SystemTime) -> Pair {
        let mut params = Self::params(names, ExtendedKeyUsagePurpose::ServerAuth);
        let since_1970 = start.duration_since(UNIX_EPOCH).expect("a year of ours");
        params.not_before = date_time_ymd(1970, 1, 1) + since_1970;
        self.sign(params)
    }

    pub fn client_pair(&self, name: &str) -> Pair {
        self.sign(Self::params(&[name], ExtendedKeyUsagePurpose::ClientAuth))
    }

    fn params(names: &[&str], usage: ExtendedKeyUsagePurpose) -> CertificateParams {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let common = names[0].clone();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common);
        params.extended_key_usages = vec![usage];
        params
    }

    fn sign(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair {
            chain: leaf.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate for a key that only its owner has.
    pub fn certify(&self, params: CertificateParams, key: &impl rcgen::PublicKeyData) -> String {
        let leaf = params.signed_by(key, &self.issuer);
        leaf.expect("a certificate").pem()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).expect("a root");
        roots
    }

    /// A client that trusts this authority.
    pub fn client(&self) -> TlsClient {
        self.client_with(TlsVersion::Any, None)
    }

    pub fn client_with(&self, version: TlsVersion, pair: Option<&Pair>) -> TlsClient {
        let versions = match version {
            TlsVersion::Any => rustls::ALL_VERSIONS,
            TlsVersion::V12 => &[&rustls::version::TLS12],
            TlsVersion::V13 => &[&rustls::version::TLS13],
        };
        let builder = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(self.roots());
        let config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => builder
                .with_client_auth_cert(vec![pair.leaf()], pair.private_key())
                .expect("a client certificate"),
        };
        TlsClient { config }
    }

    /// A backend's side of TLS; with `Some`, only clients of that authority.
    pub fn acceptor(&self, pair: &Pair, clients: Option<&Self>) -> TlsAcceptor {
        let builder = match clients {
            None => ServerConfig::builder().with_no_client_auth(),
            Some(authority) => ServerConfig::builder().with_client_cert_verifier(
                WebPkiClientVerifier::builder(authority.roots().into())
                    .build()
                    .expect("roots"),
            ),
        };
        let mut config = builder
            .with_single_cert(vec![pair.leaf()], pair.private_key())
            .expect("a certificate");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config).into()
    }
}

#[derive(Clone, Copy, Debug)]
pub enum TlsVersion {
    Any,
    V12,
    V13,
}

#[derive(Clone)]
pub struct TlsClient {
    config: ClientConfig,
}

impl TlsClient {
    /// A client that trusts this one certificate.
    pub fn trusting(pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        roots.add(certificate).expect("a root");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        Self {
            config: builder.with_no_client_auth(),
        }
    }

    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols
            .iter()
            .map(|one| one.as_bytes().to_vec())
            .collect();
        self
    }

    /// The first thing that this client says.
    pub fn hello(&self, name: &str) -> Vec<u8> {
        let name = ServerName::try_from(name.to_owned()).expect("a server name");
        let config = Arc::new(self.config.clone());
        let mut client = rustls::ClientConnection::new(config, name).expect("a client");
        let mut hello = Vec::new();
        client.write_tls(&mut hello).expect("a hello");
        hello
    }

    /// Connects with `name` as SNI and as the name to verify (an IP address: no SNI).
    pub async fn connect(&self, address: &str, name: &str) -> std::io::Result<Wire> {
        let stream = soon("a connection", TcpStream::connect(address)).await?;
        self.over(Wire::new(Transport::Tcp(stream)), name).await
    }

    /// The same on a connection that is there.
    pub async fn over(&self, wire: Wire, name: &str) -> std::io::Result<Wire> {
        let name = ServerName::try_from(name.to_owned()).expect("a server name");
        let (Transport::Tcp(stream), ahead) = wire.into_parts() else {
            panic!("no TCP");
        };
        assert!(ahead.is_empty(), "unread bytes");
        soon("a TLS handshake", async {
            let connector = TlsConnector::from(Arc::new(self.config.clone()));
            let tls = connector.connect(name, stream).await?;
            Ok(Wire::new(Transport::Tls(Box::new(tls.into()))))
        })
        .await
    }
}

impl Wire {
    /// The certificate that the other side showed.
    pub fn peer_certificate(&self) -> CertificateDer<'static> {
        let (_, session) = self.tls().get_ref();
        session.peer_certificates().expect("certificates")[0].clone()
    }
}
