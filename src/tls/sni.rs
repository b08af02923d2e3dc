//! Which certificate a client gets, by the name it asks for (SNI, RFC 6066
//! section 3).
//!
//! Exact names first, then wildcards of one label, then the default. It does
//! not refuse unknown names: the default pair answers them, and the client
//! judges.
//!
//! Invariant: a wildcard stands for exactly one label; never for none or two.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::{Pair, SanName};

/// The pairs of one listener, by name.
///
/// Pairs of the same name (an ECDSA and an RSA one) stand in the order of the
/// configuration, and the first that can sign for the client is taken.
#[derive(Debug)]
pub(super) struct SniResolver {
    by_name: HashMap<SanName, Vec<Arc<CertifiedKey>>>,
    /// In the order of the configuration; the first is the default.
    all: Vec<Arc<CertifiedKey>>,
}

impl SniResolver {
    pub(super) fn new(pairs: &[Arc<Pair>]) -> Self {
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        for pair in pairs {
            for name in &pair.names {
                by_name
                    .entry(name.clone())
                    .or_default()
                    .push(Arc::clone(&pair.certified_key));
            }
        }
        let all = pairs.iter().map(|p| Arc::clone(&p.certified_key)).collect();
        Self { by_name, all }
    }

    fn pick(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let named = |name: SanName| self.by_name.get(&name).map_or(&[][..], Vec::as_slice);
        let name = name.map(str::to_ascii_lowercase).unwrap_or_default();
        let parent = name
            .split_once('.')
            .filter(|(label, parent)| !label.is_empty() && !parent.is_empty())
            .map(|(_, parent)| parent.to_owned());
        let exact = named(SanName::Exact(name));
        let wildcard = parent.map_or(&[][..], |parent| named(SanName::Wildcard(parent)));
        let in_order = || exact.iter().chain(wildcard).chain(&self.all);
        in_order()
            .find(|candidate| candidate.key.choose_scheme(schemes).is_some())
            // None can sign: rustls then refuses with the right alert.
            .or_else(|| in_order().next())
            .cloned()
    }
}

impl ResolvesServerCert for SniResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pick(hello.server_name(), hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::certificates::Ca;

    const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
    const BOTH: &[SignatureScheme] = &[
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::RSA_PSS_SHA256,
    ];
    const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];

    #[track_caller]
    fn assert_picks(resolver: &SniResolver, name: Option<&str>, expected: &Pair) {
        let picked = resolver.pick(name, ECDSA).unwrap();
        assert!(
            Arc::ptr_eq(&picked, &expected.certified_key),
            "{name:?} should get {expected:?}"
        );
    }

    #[test]
    fn exact_then_wildcard_then_default() {
        let ca = Ca::new("ca");
        let default = ca.issue(&["default.test"]).pair();
        let wildcard = ca.issue(&["*.Example.com"]).pair();
        let chat = ca.issue(&["chat.example.com", "other.test"]).pair();
        let resolver = SniResolver::new(&[default.clone(), wildcard.clone(), chat.clone()]);
        for (name, expected) in [
            (Some("chat.example.com"), &chat),
            (Some("CHAT.example.COM"), &chat),
            (Some("other.test"), &chat),
            (Some("www.example.com"), &wildcard),
            (Some("default.test"), &default),
            // A wildcard is one label: not two, not none, not an empty one.
            (Some("a.b.example.com"), &default),
            (Some("example.com"), &default),
            (Some(".example.com"), &default),
            (Some("wwwexample.com"), &default),
            (Some("*.example.com"), &wildcard),
            (Some("unknown.test"), &default),
            (Some(""), &default),
            (None, &default),
        ] {
            assert_picks(&resolver, name, expected);
        }
    }

    #[test]
    fn of_two_pairs_for_one_name_the_one_that_the_client_can_verify() {
        let ca = Ca::new("ca");
        let ecdsa = ca.issue(&["a.test"]).pair();
        let rsa = ca.issue_rsa(&["a.test"]).pair();
        let resolver = SniResolver::new(&[ecdsa.clone(), rsa.clone()]);
        let pick = |schemes| resolver.pick(Some("a.test"), schemes).unwrap();
        assert!(Arc::ptr_eq(&pick(BOTH), &ecdsa.certified_key));
        assert!(Arc::ptr_eq(&pick(RSA), &rsa.certified_key));
        assert!(Arc::ptr_eq(&pick(&[]), &ecdsa.certified_key));
    }
}
