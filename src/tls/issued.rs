//! Certificates that come while the process runs, by name, and what a CA is
//! shown before it gives one (tls-alpn-01, RFC 8737).
//!
//! It asks nobody for them and keeps no file: `acme` does. There is no pair
//! for any name but its own: a name whose certificate has not come is refused
//! rather than answered with another's, which the client could not accept.
//!
//! Invariant: a certificate that proves a name is shown only to who asks for
//! nothing else.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::Pair;
use super::provider;

/// One for the process: a listener of a new generation has what an old one had.
#[derive(Debug, Default)]
pub struct Issued {
    pairs: RwLock<HashMap<String, Arc<Pair>>>,
    proofs: RwLock<HashMap<String, Proof>>,
}

/// What a CA is shown for one order.
#[derive(Clone, Debug)]
pub struct Proof(Arc<CertifiedKey>);

/// Why a proof could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error("the certificate of the proof: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("the key of the proof: {0}")]
    Key(#[from] rustls::Error),
}

impl Issued {
    pub fn get(&self, name: &str) -> Option<Arc<Pair>> {
        read(&self.pairs).get(name).cloned()
    }

    /// From the next handshake on.
    pub fn put(&self, name: &str, pair: Arc<Pair>) {
        write(&self.pairs).insert(name.to_owned(), pair);
    }

    /// The same, unless the name has one.
    pub fn put_missing(&self, name: String, pair: Arc<Pair>) {
        write(&self.pairs).entry(name).or_insert(pair);
    }

    pub fn retain(&self, is_used: impl Fn(&str) -> bool) {
        write(&self.pairs).retain(|name, _| is_used(name));
    }

    /// The names, and when their certificates end.
    pub fn ends(&self) -> Vec<(String, SystemTime)> {
        let pairs = read(&self.pairs);
        let ends = pairs
            .iter()
            .map(|(name, pair)| (name.clone(), pair.not_after));
        ends.collect()
    }

    /// Shows a CA that asks for `name` a certificate with `digest`, the SHA-256
    /// of its key authorization (RFC 8737 section 3), until it is withdrawn or
    /// another order for the name shows its own.
    ///
    /// # Errors
    /// If no such certificate can be made.
    pub fn prove(&self, name: &str, digest: &[u8; 32]) -> Result<Proof, ProofError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain = vec![certificate.der().clone()];
        // Not `from_der`: it takes the certificate for one whose extensions it must
        // know.
        let key = provider().key_provider.load_private_key(key)?;
        let proof = Proof(Arc::new(CertifiedKey::new(chain, key)));
        write(&self.proofs).insert(name.to_owned(), proof.clone());
        Ok(proof)
    }

    /// Leaves what another order shows: one that was given up may end after the
    /// next for its name has begun.
    pub fn withdraw(&self, name: &str, proof: &Proof) {
        let mut proofs = write(&self.proofs);
        if proofs
            .get(name)
            .is_some_and(|it| Arc::ptr_eq(&it.0, &proof.0))
        {
            proofs.remove(name);
        }
    }
}

/// Maps of finished values are sound whatever their holder died of.
fn read<T>(map: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    map.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(map: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    map.write().unwrap_or_else(PoisonError::into_inner)
}

/// The certificates of one listener.
#[derive(Debug)]
pub(super) struct IssuedResolver {
    issued: Arc<Issued>,
    /// The first of them that has come serves clients that ask for none of these.
    names: Vec<String>,
}

impl IssuedResolver {
    pub(super) fn new(issued: Arc<Issued>, names: &[String]) -> Self {
        let names = names.to_vec();
        Self { issued, names }
    }

    fn pick(&self, name: Option<&str>) -> Option<Arc<Pair>> {
        let name = name.map(str::to_ascii_lowercase).unwrap_or_default();
        match self.names.contains(&name) {
            true => self.issued.get(&name),
            false => self.names.iter().find_map(|name| self.issued.get(name)),
        }
    }
}

impl ResolvesServerCert for IssuedResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pair = self.pick(hello.server_name())?;
        Some(Arc::clone(&pair.certified_key))
    }
}

/// The proofs.
#[derive(Debug)]
pub(super) struct ProofResolver(pub(super) Arc<Issued>);

impl ResolvesServerCert for ProofResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        let proofs = read(&self.0.proofs);
        proofs.get(&name).map(|proof| Arc::clone(&proof.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::accept::AcceptError;
    use crate::tls::server::{Certificates, ServerOptions, ServerTls, server_config};
    use crate::tls::tests::certificates::Ca;
    use crate::tls::tests::handshakes::{Clients, handshake};
    use crate::tls::tickets::Tickets;

    fn listener(issued: &Arc<Issued>, names: &[&str]) -> ServerTls {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let options = ServerOptions {
            certificates: Certificates::Issued(issued, &names),
            client_certificates: None,
            tls_1_3_only: true,
            http2: true,
        };
        server_config(&options, &Tickets::default()).unwrap()
    }

    #[tokio::test]
    async fn each_name_has_its_own_or_none_and_strangers_the_first() {
        let ca = Ca::new("ca");
        let issued = Arc::<Issued>::default();
        let resolver = IssuedResolver::new(
            Arc::clone(&issued),
            &["a.test".to_owned(), "b.test".to_owned()],
        );
        assert!(resolver.pick(None).is_none());
        let b = ca.issue(&["b.test"]).pair();
        issued.put("b.test", Arc::clone(&b));
        issued.put("other.test", ca.issue(&["other.test"]).pair());
        assert!(resolver.pick(Some("a.test")).is_none());
        for name in [Some("B.test"), Some("other.test"), None] {
            assert!(Arc::ptr_eq(&resolver.pick(name).unwrap(), &b), "{name:?}");
        }
        let a = ca.issue(&["a.test"]).pair();
        issued.put("a.test", Arc::clone(&a));
        assert!(Arc::ptr_eq(&resolver.pick(Some("a.test")).unwrap(), &a));
        assert!(Arc::ptr_eq(&resolver.pick(None).unwrap(), &a));
        issued.retain(|name| name == "b.test");
        assert!(resolver.pick(Some("a.test")).is_none());
    }

    #[tokio::test]
    async fn a_name_without_a_certificate_is_refused_and_called_so() {
        let issued = Arc::<Issued>::default();
        let ca = Ca::new("ca");
        let client = Clients::trusting(&ca);
        let tls = listener(&issued, &["a.test"]);
        let (accepted, _) = handshake(tls.clone(), client.config(), "a.test").await;
        assert_eq!(accepted.unwrap_err().label(), "no_certificate");
        // What comes meanwhile holds from the next handshake on.
        issued.put("a.test", ca.issue(&["a.test"]).pair());
        let (accepted, connected) = handshake(tls, client.config(), "a.test").await;
        assert!(accepted.is_ok() && connected.is_ok());
    }

    #[tokio::test]
    async fn a_proof_is_shown_only_to_who_asks_for_nothing_else() {
        let ca = Ca::new("ca");
        let issued = Arc::<Issued>::default();
        issued.put("a.test", ca.issue(&["a.test"]).pair());
        let proof = issued.prove("a.test", &[7; 32]).unwrap();
        let tls = listener(&issued, &["a.test"]);
        let client = Clients::trusting(&ca);
        let ask = |alpn: &[&[u8]]| handshake_with(&tls, client.clone().with_alpn(alpn));
        // No client of the web knows the extension of a proof, which is critical.
        let (accepted, connected) = ask(&[b"acme-tls/1"]).await;
        assert_eq!(accepted, "refused_by_client");
        assert!(
            connected
                .unwrap_err()
                .contains("UnsupportedCriticalExtension")
        );
        let (accepted, connected) = ask(&[b"http/1.1", b"acme-tls/1"]).await;
        assert_eq!((accepted, connected), ("ok", Ok(())));
        // One that another order has replaced takes nothing with it.
        let next = issued.prove("a.test", &[8; 32]).unwrap();
        issued.withdraw("a.test", &proof);
        assert_eq!(ask(&[b"acme-tls/1"]).await.0, "refused_by_client");
        issued.withdraw("a.test", &next);
        assert_eq!(ask(&[b"acme-tls/1"]).await.0, "no_certificate");
    }

    async fn handshake_with(
        tls: &ServerTls,
        client: Clients,
    ) -> (&'static str, Result<(), String>) {
        let (accepted, connected) = handshake(tls.clone(), client.config(), "a.test").await;
        let label = |error: AcceptError| error.label();
        let connected = connected.map(drop).map_err(|error| error.to_string());
        (accepted.map_or_else(label, |_| "ok"), connected)
    }

    #[tokio::test]
    async fn listeners_of_files_show_no_proof() {
        let ca = Ca::new("ca");
        let server = crate::tls::tests::handshakes::Servers::of(&ca.issue(&["a.test"]));
        let client = Clients::trusting(&ca).with_alpn(&[b"acme-tls/1"]);
        let (accepted, _) = handshake(server.config(), client.config(), "a.test").await;
        assert_eq!(accepted.unwrap_err().label(), "protocol");
    }
}
