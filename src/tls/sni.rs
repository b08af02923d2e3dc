//! Which certificate a client gets, by the name it asks for (SNI, RFC 6066
//! section 3).
//!
//! Exact names first, then wildcards of one label, then the default. It does
//! not refuse unknown names: the default pair answers them, and the client
//! judges. With a certificate goes its OCSP response, until that is too old.
//!
//! Invariant: a wildcard stands for exactly one label; never for none or two.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::SanName;
use super::staple::{Served, Staple};

/// The pairs of one listener, by name.
///
/// Pairs of the same name (an ECDSA and an RSA one) stand in the order of the
/// configuration, and the first that can sign for the client is taken.
#[derive(Debug)]
pub(super) struct SniResolver {
    by_name: HashMap<SanName, Vec<Arc<Answer>>>,
    /// In the order of the configuration; the first is the default.
    all: Vec<Arc<Answer>>,
}

/// One certificate of the listener.
#[derive(Debug)]
struct Answer {
    bare: Arc<CertifiedKey>,
    /// The same with its OCSP response.
    stapled: Option<(Arc<Staple>, Arc<CertifiedKey>)>,
}

impl Answer {
    fn of(served: &Served) -> Self {
        let bare = Arc::clone(&served.pair.certified_key);
        let stapled = served.staple.as_ref().map(|staple| {
            let mut stapled = CertifiedKey::clone(&bare);
            stapled.ocsp = Some(staple.response.clone());
            (Arc::clone(staple), Arc::new(stapled))
        });
        Self { bare, stapled }
    }

    fn at(&self, now: impl FnOnce() -> SystemTime) -> Arc<CertifiedKey> {
        match &self.stapled {
            Some((staple, stapled)) if staple.is_valid(now()) => Arc::clone(stapled),
            _ => Arc::clone(&self.bare),
        }
    }
}

impl SniResolver {
    pub(super) fn new(certificates: &[Served]) -> Self {
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        let mut all = Vec::new();
        for served in certificates {
            let answer = Arc::new(Answer::of(served));
            for name in &served.pair.names {
                let same: &mut Vec<_> = by_name.entry(name.clone()).or_default();
                same.push(Arc::clone(&answer));
            }
            all.push(answer);
        }
        Self { by_name, all }
    }

    fn pick(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Answer> {
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
            .find(|candidate| candidate.bare.key.choose_scheme(schemes).is_some())
            // None can sign: rustls then refuses with the right alert.
            .or_else(|| in_order().next())
            .map(|answer| &**answer)
    }
}

impl ResolvesServerCert for SniResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let answer = self.pick(hello.server_name(), hello.signature_schemes())?;
        Some(answer.at(SystemTime::now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Pair;
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
            Arc::ptr_eq(&picked.bare, &expected.certified_key),
            "{name:?} should get {expected:?}"
        );
    }

    #[test]
    fn exact_then_wildcard_then_default() {
        let ca = Ca::new("ca");
        let default = ca.issue(&["default.test"]).pair();
        let wildcard = ca.issue(&["*.Example.com"]).pair();
        let chat = ca.issue(&["chat.example.com", "other.test"]).pair();
        let resolver =
            SniResolver::new(&[&default, &wildcard, &chat].map(|pair| Arc::clone(pair).into()));
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
        let resolver = SniResolver::new(&[&ecdsa, &rsa].map(|pair| Arc::clone(pair).into()));
        let pick = |schemes| resolver.pick(Some("a.test"), schemes).unwrap();
        assert!(Arc::ptr_eq(&pick(BOTH).bare, &ecdsa.certified_key));
        assert!(Arc::ptr_eq(&pick(RSA).bare, &rsa.certified_key));
        assert!(Arc::ptr_eq(&pick(&[]).bare, &ecdsa.certified_key));
    }
}
