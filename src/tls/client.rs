//! The rustls configuration of an upstream, and the name that is asked of a
//! backend.
//!
//! Backends are always verified; there is no switch to turn that off, because
//! an own CA file is as easy. It does not dial.
//!
//! Invariant: a connection to a backend is used only after its certificate was
//! verified for the name that the configuration says, or for the host of its
//! address.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::pair::Pair;
use super::pem::{PemError, PemFile};
use super::provider;
use crate::config::BackendAddress;

/// Why an upstream's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientConfigError {
    #[error("upstream CA: {0}")]
    Ca(#[from] PemError),
    /// `index` counts from 1.
    #[error("upstream CA: certificate {index} in {} cannot be used: {reason}", path.display())]
    UnusableCa {
        path: PathBuf,
        index: usize,
        reason: rustls::Error,
    },
    #[error("the system has no CA certificates: {reason}; name a CA file in the upstream's tls")]
    NoSystemCa { reason: String },
    #[error("tls cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Why there is no name to verify a backend for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerNameError {
    #[error("a backend on a Unix socket has no host name; set server_name in the upstream's tls")]
    UnixSocket,
    #[error("{0:?} is neither a host name nor an IP address")]
    Invalid(String),
}

/// Makes the configuration of one upstream; reads CA files and blocks.
///
/// `ca` names a file with the only CAs to trust, `None` the system's.
/// `client_certificate` is presented to every backend that asks. The caller
/// sets [`super::SEND_BUFFER`] on each connection.
pub fn client_config(
    ca: Option<&Path>,
    client_certificate: Option<&Pair>,
) -> Result<Arc<ClientConfig>, ClientConfigError> {
    let roots = match ca {
        Some(path) => own_roots(path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match client_certificate {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let own = SingleCertAndKey::from(Arc::clone(&pair.certified_key));
            let own: Arc<dyn ResolvesClientCert> = Arc::new(own);
            builder.with_client_cert_resolver(own)
        }
    };
    config.alpn_protocols = vec![super::HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

/// The same for a connection on which HTTP/2 is to be spoken and nothing else.
pub fn client_config_for_http2(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![super::HTTP_2.to_vec()];
    Arc::new(config)
}

/// The name to send as SNI and to verify: `configured`, or else the host of
/// the backend's address. An IP address is verified as such (RFC 5280 section
/// 4.2.1.6, iPAddress) and not sent as SNI.
pub fn server_name(
    configured: Option<&str>,
    address: &BackendAddress,
) -> Result<ServerName<'static>, ServerNameError> {
    let name = match (configured, address) {
        (Some(name), _) => name,
        (None, BackendAddress::Tcp { host, .. }) => host,
        (None, BackendAddress::Unix(_)) => return Err(ServerNameError::UnixSocket),
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name);
    // A trailing dot is for the resolver; certificates do not have it.
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    ServerName::try_from(bare.to_owned()).map_err(|_| ServerNameError::Invalid(name.to_owned()))
}

fn own_roots(path: &Path) -> Result<RootCertStore, ClientConfigError> {
    let mut roots = RootCertStore::empty();
    for (at, ca) in PemFile::read(path)?.certificates()?.into_iter().enumerate() {
        roots
            .add(ca)
            .map_err(|reason| ClientConfigError::UnusableCa {
                path: path.to_owned(),
                index: at + 1,
                reason,
            })?;
    }
    Ok(roots)
}

/// The bundle of the distribution, or what `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// name. Single bad certificates in it are passed over: the operator did not
/// choose them.
fn system_roots() -> Result<RootCertStore, ClientConfigError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason = match found.errors.first() {
            Some(error) => error.to_string(),
            None => "none found".to_owned(),
        };
        return Err(ClientConfigError::NoSystemCa { reason });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::tls::facts::Facts;
    use crate::tls::tests::certificates::Ca;
    use crate::tls::tests::handshakes::{Servers, handshake};

    /// Both sides' view of a connection to a backend.
    async fn connect(
        backend: &Servers,
        ca: &Path,
        pair: Option<&Pair>,
        name: &str,
    ) -> (Option<Facts>, io::Result<()>) {
        let client = client_config(Some(ca), pair).unwrap();
        let (accepted, connected) = handshake(backend.config(), client, name).await;
        (accepted.ok().map(|(_, facts)| facts), connected.map(|_| ()))
    }

    #[tokio::test]
    async fn backends_are_verified_by_the_own_ca_and_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, other) = (Ca::new("ca"), Ca::new("other"));
        let own = ca.write(dir.path(), "ca.pem");
        let foreign = other.write(dir.path(), "other.pem");
        let backend = Servers::of(&ca.issue(&["a.test", "127.0.0.1", "::1"]));
        for name in ["a.test", "127.0.0.1", "::1"] {
            let (facts, connected) = connect(&backend, &own, None, name).await;
            connected.unwrap();
            assert_eq!(facts.unwrap().alpn.as_deref(), Some("http/1.1"));
        }
        for (ca, name) in [
            (&foreign, "a.test"),
            (&own, "b.test"),
            (&own, "127.0.0.2"),
            (&foreign, "127.0.0.1"),
        ] {
            let (facts, connected) = connect(&backend, ca, None, name).await;
            let refused = connected.unwrap_err().to_string();
            assert!(refused.contains("certificate"), "{name}: {refused}");
            assert_eq!(facts, None);
        }
    }

    #[tokio::test]
    async fn the_client_certificate_is_presented() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("ca");
        let own = ca.write(dir.path(), "ca.pem");
        let backend = Servers::of(&ca.issue(&["a.test"])).asking(&own, true);
        let pair = ca.issue(&["longhaul"]).pair();
        let (facts, _) = connect(&backend, &own, Some(&pair), "a.test").await;
        assert!(facts.unwrap().client_subject.is_some());
        let (facts, _) = connect(&backend, &own, None, "a.test").await;
        assert_eq!(facts, None);
    }

    #[test]
    fn a_bad_ca_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let error = client_config(Some(&path), None).unwrap_err().to_string();
        assert!(error.contains("ca.pem cannot be read"), "{error}");
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, junk).unwrap();
        let error = client_config(Some(&path), None).unwrap_err().to_string();
        assert!(error.contains("certificate 1 in"), "{error}");
    }

    #[test]
    fn names_come_from_the_configuration_or_the_address() {
        let tcp = |host: &str| BackendAddress::Tcp {
            host: host.to_owned(),
            port: 1,
        };
        let unix = BackendAddress::Unix(PathBuf::from("/x.sock"));
        for (configured, address, expected) in [
            (None, tcp("a.test"), Ok("a.test")),
            (None, tcp("a.test."), Ok("a.test")),
            (None, tcp("10.0.0.1"), Ok("10.0.0.1")),
            (None, tcp("::1"), Ok("::1")),
            (None, tcp("[::1]"), Ok("::1")),
            (Some("b.test"), tcp("10.0.0.1"), Ok("b.test")),
            (Some("b.test"), unix.clone(), Ok("b.test")),
            (None, unix, Err(ServerNameError::UnixSocket)),
            (
                None,
                tcp("a b"),
                Err(ServerNameError::Invalid("a b".to_owned())),
            ),
        ] {
            let name = server_name(configured, &address);
            let name = name.map(|name| name.to_str().into_owned());
            assert_eq!(name, expected.map(str::to_owned), "{address:?}");
        }
    }
}
