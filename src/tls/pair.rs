//! A certificate pair: a chain and the key that is proven to belong to it.
//!
//! Reads, parses, matches, and checks the dates. It does not remember earlier
//! pairs (`store` does) and does not verify the chain up to a CA: that is the
//! client's judgement, and a private CA is none of our business.
//!
//! Invariant: a [`Pair`] exists only if its key belongs to its first
//! certificate and the moment it was loaded lay within its validity.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::hash::Output;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, X509Certificate};

use super::pem::{PemError, PemFile};
use super::provider;
use crate::config::CertificatePair;

/// A chain with its key, ready for handshakes.
pub struct Pair {
    pub certified_key: Arc<CertifiedKey>,
    /// The DNS names of the leaf, in its order. A leaf without any serves only
    /// as a default.
    pub names: Vec<SanName>,
    /// The beginning of the leaf's validity.
    pub not_before: SystemTime,
    /// The end of the leaf's validity.
    pub not_after: SystemTime,
    content: Content,
}

/// A DNS name of a certificate, in lower case (RFC 5280 section 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SanName {
    Exact(String),
    /// What follows `*.`; the star stands for exactly one label (RFC 6125
    /// section 6.4.3).
    Wildcard(String),
}

/// Why a pair cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    #[error(transparent)]
    File(#[from] PemError),
    #[error("{chain}; {key}")]
    Files { chain: PemError, key: PemError },
    /// `index` counts from 1.
    #[error("certificate {index} in {} is broken: {reason}", chain.display())]
    Broken {
        chain: PathBuf,
        index: usize,
        reason: String,
    },
    #[error("the private key in {} cannot be used: {reason}", key.display())]
    KeyUnusable { key: PathBuf, reason: rustls::Error },
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), chain.display())]
    Mismatch { chain: PathBuf, key: PathBuf },
    /// `index` counts from 1.
    #[error("the private key belongs to certificate {index} in {}, which must come first", chain.display())]
    LeafNotFirst { chain: PathBuf, index: usize },
    #[error("the certificate in {} is not valid before {from}", chain.display())]
    NotYetValid {
        chain: PathBuf,
        from: String,
        at: SystemTime,
    },
    #[error("the certificate in {} expired at {at}", chain.display())]
    Expired { chain: PathBuf, at: String },
}

impl Pair {
    /// Reads and proves a pair; blocks. Both may be one file.
    ///
    /// # Errors
    /// What is wrong with the files, or that the certificate is not valid now.
    pub fn load(place: &CertificatePair, now: SystemTime) -> Result<Arc<Self>, PairError> {
        PairFiles::read(place)?.load(now)
    }

    /// Whether it is for this very name, in lower case.
    pub fn is_for(&self, name: &str) -> bool {
        self.names.contains(&SanName::Exact(name.to_owned()))
    }

    /// Whether the leaf's validity is over.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.not_after < now
    }

    /// Time left until the leaf expires; zero when it has.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}

/// Both files of a pair as they were when read.
pub(super) struct PairFiles {
    chain: PemFile,
    key: PemFile,
}

impl PairFiles {
    pub(super) fn read(pair: &CertificatePair) -> Result<Self, PairError> {
        let (chain, key) = both(PemFile::read(&pair.chain), PemFile::read(&pair.key))?;
        Ok(Self { chain, key })
    }

    /// Whether `pair` was loaded from files with this very content.
    pub(super) fn are_those_of(&self, pair: &Pair) -> bool {
        self.content() == pair.content
    }

    pub(super) fn load(&self, now: SystemTime) -> Result<Arc<Pair>, PairError> {
        let (chain, key) = both(self.chain.certificates(), self.key.private_key())?;
        let mut leaf = None;
        for (at, der) in chain.iter().enumerate() {
            let certificate = parse(der).map_err(|reason| self.broken(at + 1, reason))?;
            leaf.get_or_insert(certificate);
        }
        // `certificates` returns at least one.
        let Some(leaf) = leaf else {
            return Err(self.broken(1, "missing".to_owned()));
        };
        let names = dns_names(&leaf).map_err(|reason| self.broken(1, reason))?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|reason| PairError::KeyUnusable {
                key: self.key.path().to_owned(),
                reason,
            })?;
        let certified_key = CertifiedKey::new(chain.clone(), key);
        self.check_match(&certified_key)?;
        self.check_dates(&leaf, now)?;
        Ok(Arc::new(Pair {
            names,
            not_before: system_time(leaf.validity().not_before),
            not_after: system_time(leaf.validity().not_after),
            content: self.content(),
            certified_key: Arc::new(certified_key),
        }))
    }

    fn check_match(&self, certified_key: &CertifiedKey) -> Result<(), PairError> {
        if certified_key.keys_match().is_ok() {
            return Ok(());
        }
        let belongs_to = |der: &CertificateDer<'static>| {
            CertifiedKey::new(vec![der.clone()], Arc::clone(&certified_key.key))
                .keys_match()
                .is_ok()
        };
        let chain = self.chain.path().to_owned();
        match certified_key.cert.iter().position(belongs_to) {
            Some(at) => Err(PairError::LeafNotFirst {
                chain,
                index: at + 1,
            }),
            None => Err(PairError::Mismatch {
                chain,
                key: self.key.path().to_owned(),
            }),
        }
    }

    fn check_dates(&self, leaf: &X509Certificate<'_>, now: SystemTime) -> Result<(), PairError> {
        let validity = leaf.validity();
        let chain = || self.chain.path().to_owned();
        if now < system_time(validity.not_before) {
            return Err(PairError::NotYetValid {
                chain: chain(),
                from: validity.not_before.to_string(),
                at: system_time(validity.not_before),
            });
        }
        if now > system_time(validity.not_after) {
            return Err(PairError::Expired {
                chain: chain(),
                at: validity.not_after.to_string(),
            });
        }
        Ok(())
    }

    fn content(&self) -> Content {
        Content {
            chain: sha256(self.chain.bytes()),
            key: sha256(self.key.bytes()),
        }
    }

    fn broken(&self, index: usize, reason: String) -> PairError {
        PairError::Broken {
            chain: self.chain.path().to_owned(),
            index,
            reason,
        }
    }
}

/// Whatever is wrong with either file, so that one edit mends both.
fn both<C, K>(chain: Result<C, PemError>, key: Result<K, PemError>) -> Result<(C, K), PairError> {
    match (chain, key) {
        (Ok(chain), Ok(key)) => Ok((chain, key)),
        (Err(chain), Err(key)) => Err(PairError::Files { chain, key }),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(PairError::File(error)),
    }
}

/// Hashes of both files.
struct Content {
    chain: Output,
    key: Output,
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.chain.as_ref() == other.chain.as_ref() && self.key.as_ref() == other.key.as_ref()
    }
}

/// Parses one certificate to its last byte.
pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(format!("{} bytes follow its end", rest.len())),
        Err(e) => Err(e.to_string()),
    }
}

/// Before 1970 becomes 1970, and what lies beyond the clock its end: both only
/// move a date that is already absurd.
pub(super) fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn dns_names(leaf: &X509Certificate<'_>) -> Result<Vec<SanName>, String> {
    let Some(extension) = leaf
        .subject_alternative_name()
        .map_err(|e| format!("subject alternative name: {e}"))?
    else {
        return Ok(Vec::new());
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(dns) => SanName::parse(dns),
        _ => None,
    };
    Ok(extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .collect())
}

impl SanName {
    /// `None` for a star anywhere but as the whole first label: no client
    /// would accept it.
    fn parse(name: &str) -> Option<Self> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let parsed = match name.strip_prefix("*.") {
            Some(parent) => Self::Wildcard(parent.to_owned()),
            None => Self::Exact(name),
        };
        match &parsed {
            Self::Exact(rest) | Self::Wildcard(rest) if rest.is_empty() || rest.contains('*') => {
                None
            }
            _ => Some(parsed),
        }
    }
}

impl fmt::Display for SanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// Leaves out the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// SHA-256 by way of a cipher suite, which spares a dependency.
fn sha256(bytes: &[u8]) -> Output {
    match TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider.hash(bytes),
        SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider.hash(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::certificates::{Ca, load, pkcs1_pem, sec1_pem, today, write_pair};

    fn error(pair: &CertificatePair) -> String {
        load(pair, today()).unwrap_err().to_string()
    }

    #[test]
    fn loads_a_matching_pair_with_its_names_and_dates() {
        let dir = tempfile::tempdir().unwrap();
        let issued =
            Ca::new("ca").issue_for_years(&["A.Test", "*.B.test", "127.0.0.1", "::1"], 2029, 2031);
        let pair = load(&issued.write(dir.path(), "a"), today()).unwrap();
        assert_eq!(
            pair.names,
            [
                SanName::Exact("a.test".to_owned()),
                SanName::Wildcard("b.test".to_owned())
            ]
        );
        assert_eq!(pair.certified_key.cert.len(), 2);
        assert_eq!(pair.remaining(today()).as_secs() / 86_400, 365);
        assert!(!pair.is_expired(today()));
        assert!(pair.is_expired(today() + Duration::from_secs(366 * 86_400)));
    }

    #[test]
    fn both_files_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let pair = CertificatePair {
            chain: dir.path().join("a.pem"),
            key: dir.path().join("a.key"),
        };
        let missing = error(&pair);
        let (chain, key) = missing.split_once("; ").unwrap();
        assert!(chain.contains("a.pem cannot be read"), "{chain}");
        assert!(key.contains("a.key cannot be read"), "{key}");
        write_pair(dir.path(), "a", "", "");
        let empty = error(&pair);
        let (chain, key) = empty.split_once("; ").unwrap();
        assert!(chain.ends_with("a.pem is empty"), "{chain}");
        assert!(key.ends_with("a.key is empty"), "{key}");
    }

    #[test]
    fn all_three_kinds_of_key_match() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("ca");
        let (ecdsa, rsa) = (ca.issue(&["a.test"]), ca.issue_rsa(&["a.test"]));
        for (chain, key) in [
            (ecdsa.chain_pem(), ecdsa.key_pem()),
            (ecdsa.chain_pem(), sec1_pem(&ecdsa.key_pem())),
            (rsa.chain_pem(), rsa.key_pem()),
            (rsa.chain_pem(), pkcs1_pem(&rsa.key_pem())),
        ] {
            let pair = write_pair(dir.path(), "a", &chain, &key);
            load(&pair, today()).unwrap();
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("ca");
        let (one, two, rsa) = (ca.issue(&["a"]), ca.issue(&["a"]), ca.issue_rsa(&["a"]));
        for key in [two.key_pem(), rsa.key_pem()] {
            let pair = write_pair(dir.path(), "a", &one.chain_pem(), &key);
            assert!(matches!(
                load(&pair, today()),
                Err(PairError::Mismatch { .. })
            ));
            let text = error(&pair);
            assert!(text.contains("a.key") && text.contains("a.pem"), "{text}");
        }
    }

    #[test]
    fn a_leaf_that_is_not_first_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("ca");
        let (one, two) = (ca.issue(&["a"]), ca.issue(&["b"]));
        let chain = format!("{}{}", two.leaf_pem(), one.leaf_pem());
        let pair = write_pair(dir.path(), "a", &chain, &one.key_pem());
        assert!(error(&pair).contains("belongs to certificate 2"));
    }

    #[test]
    fn dates_are_inclusive_on_both_ends() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("ca");
        let second = Duration::from_secs(1);
        let from_today = ca.issue_for_years(&["a"], 2030, 2031);
        let from_today = from_today.write(dir.path(), "from");
        assert!(load(&from_today, today()).is_ok());
        let early = load(&from_today, today() - second).unwrap_err();
        assert!(matches!(early, PairError::NotYetValid { .. }));
        let until_today = ca.issue_for_years(&["a"], 2029, 2030);
        let until_today = until_today.write(dir.path(), "until");
        assert!(load(&until_today, today()).is_ok());
        let late = load(&until_today, today() + second).unwrap_err();
        assert!(matches!(late, PairError::Expired { .. }));
        assert!(late.to_string().contains("2030"), "{late}");
    }

    #[test]
    fn broken_certificates_and_keys_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let issued = Ca::new("ca").issue(&["a"]);
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let chain = format!("{}{junk}", issued.leaf_pem());
        let pair = write_pair(dir.path(), "a", &chain, &issued.key_pem());
        assert!(error(&pair).contains("certificate 2 in"));
        let junk = junk.replace("CERTIFICATE", "PRIVATE KEY");
        let pair = write_pair(dir.path(), "b", &issued.chain_pem(), &junk);
        assert!(error(&pair).contains("b.key cannot be used"));
    }

    #[test]
    fn only_whole_first_labels_are_wildcards() {
        for (text, expected) in [
            ("A.b", Some(SanName::Exact("a.b".to_owned()))),
            ("a.b.", Some(SanName::Exact("a.b".to_owned()))),
            ("*.A.b", Some(SanName::Wildcard("a.b".to_owned()))),
            ("w*.a.b", None),
            ("a.*.b", None),
            ("*.*.b", None),
            ("*", None),
            ("*.", None),
            ("", None),
        ] {
            assert_eq!(SanName::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_pair_never_shows_its_key() {
        let pair = Ca::new("ca").issue(&["a.test"]).pair();
        let shown = format!("{pair:?}");
        assert!(
            shown.contains("a.test") && !shown.contains("key"),
            "{shown}"
        );
    }
}
