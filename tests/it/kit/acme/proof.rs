//! How the CA comes to see that a name is its client's, and what it gives then.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, date_time_ymd};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::kit::tls::Authority;
use crate::kit::{dial, soon};

/// RFC 8555 section 8.3.
pub async fn by_http(
    address: &str,
    name: &str,
    token: &str,
    authorization: &str,
) -> Result<(), String> {
    let mut wire = dial(address).await;
    let path = format!("/.well-known/acme-challenge/{token}");
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n"))
        .await;
    let response = wire.response().await;
    match (response.head.status, response.text().trim_end()) {
        (200, text) if text == authorization => Ok(()),
        (status, _) => Err(format!("http-01 saw a {status} and not the proof")),
    }
}

/// RFC 8737 section 3.
pub async fn by_tls(address: &str, name: &str, authorization: &str) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Anyone(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|e| e.to_string())?;
    let server = ServerName::try_from(name.to_owned()).expect("a name");
    let connector = TlsConnector::from(Arc::new(config));
    let connected = soon("the handshake of a proof", connector.connect(server, tcp)).await;
    let mut stream = connected.map_err(|error| format!("tls-alpn-01: {error}"))?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(b"acme-tls/1") {
        return Err("tls-alpn-01: another protocol".to_owned());
    }
    let shown = session.peer_certificates().expect("certificates")[0].clone();
    judge(&shown, name, authorization)?;
    // Nothing else is ever said on it.
    let mut rest = Vec::new();
    let read = soon("the end of a proof", stream.read_to_end(&mut rest)).await;
    match (read, rest.len()) {
        (Ok(_), 0) => Ok(()),
        _ => Err("tls-alpn-01: more than a proof".to_owned()),
    }
}

/// The one name, and the digest in a critical extension.
fn judge(shown: &CertificateDer<'_>, name: &str, authorization: &str) -> Result<(), String> {
    let (_, shown) = X509Certificate::from_der(shown).map_err(|e| e.to_string())?;
    let names = shown
        .subject_alternative_name()
        .map_err(|e| e.to_string())?;
    let names = names.ok_or("no names")?;
    if names.value.general_names != [GeneralName::DNSName(name)] {
        return Err("tls-alpn-01: other names".to_owned());
    }
    let mut expected = vec![0x04, 0x20];
    expected.extend_from_slice(digest(&SHA256, authorization.as_bytes()).as_ref());
    let extensions = shown.extensions().iter();
    let mut proofs = extensions.filter(|it| it.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
    match proofs.next() {
        Some(proof) if proof.critical && proof.value == expected => Ok(()),
        _ => Err("tls-alpn-01: not the proof".to_owned()),
    }
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let of = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, of)
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // webpki knows no certificate with the extension of a proof, and would not
        // look at its key.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The public key that a request asks a certificate for.
struct Asked(Vec<u8>);

impl PublicKeyData for Asked {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Authority {
    /// The chain for this request (DER of PKCS#10), if it is for this one name
    /// and signed by its key.
    pub fn issue(
        &self,
        request: &[u8],
        name: &str,
        (validity, now): (Option<(Duration, Duration)>, SystemTime),
        for_another: bool,
    ) -> Result<String, String> {
        let parsed = X509CertificationRequest::from_der(request);
        let (_, request) = parsed.map_err(|error| error.to_string())?;
        let info = &request.certification_request_info;
        let names = request.requested_extensions().into_iter().flatten();
        let names: Vec<_> = names
            .filter_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            })
            .collect();
        if names != [&vec![GeneralName::DNSName(name)]] {
            return Err(format!("it asks for {names:?}"));
        }
        let key = info.subject_pki.subject_public_key.data.to_vec();
        let signature = &request.signature_value.data;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key)
            .verify(info.raw, signature)
            .map_err(|_| "its signature is wrong".to_owned())?;
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        let (before, after) = validity.unwrap_or_else(|| {
            let day = Duration::from_secs(86_400);
            (Duration::from_secs(3600), 90 * day)
        });
        let now = now.duration_since(UNIX_EPOCH).expect("now");
        params.not_before = date_time_ymd(1970, 1, 1) + (now - before);
        params.not_after = date_time_ymd(1970, 1, 1) + (now + after);
        Ok(match for_another {
            true => self.certify(params, &KeyPair::generate().expect("a key")),
            false => self.certify(params, &Asked(key)),
        })
    }
}
