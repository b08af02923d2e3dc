//! Certificates for this room's tests, made afresh each time.
//!
//! Not part of the product. Keys live in memory and temporary directories only.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256,
    date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls_pemfile::Item;

use crate::config::CertificatePair;
use crate::tls::pair::{Pair, PairError, PairFiles};

pub(in crate::tls) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(in crate::tls) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        Self { issuer }
    }

    pub(in crate::tls) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// Writes the CA certificate and returns its path.
    pub(in crate::tls) fn write(&self, dir: &Path, name: &str) -> std::path::PathBuf {
        let path = dir.join(name);
        fs::write(&path, self.issuer.pem()).unwrap();
        path
    }

    /// A pair on P-256 that is valid from 1975 to 4096.
    pub(in crate::tls) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, KeyPair::generate().unwrap(), |_| ())
    }

    pub(in crate::tls) fn issue_rsa(&self, names: &[&str]) -> Issued {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        self.issue_with(names, key, |_| ())
    }

    /// A pair that is valid in the given years only, from 1 January each.
    pub(in crate::tls) fn issue_for_years(&self, names: &[&str], from: i32, until: i32) -> Issued {
        self.issue_with(names, KeyPair::generate().unwrap(), |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        })
    }

    pub(in crate::tls) fn issue_with(
        &self,
        names: &[&str],
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            leaf: certificate.der().clone(),
            leaf_pem: certificate.pem(),
            ca_pem: self.issuer.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

pub(in crate::tls) struct Issued {
    leaf: CertificateDer<'static>,
    leaf_pem: String,
    ca_pem: String,
    key_pem: String,
}

impl Issued {
    pub(in crate::tls) fn leaf(&self) -> CertificateDer<'static> {
        self.leaf.clone()
    }

    pub(in crate::tls) fn leaf_pem(&self) -> String {
        self.leaf_pem.clone()
    }

    /// The leaf, then its CA.
    pub(in crate::tls) fn chain_pem(&self) -> String {
        format!("{}{}", self.leaf_pem, self.ca_pem)
    }

    /// PKCS#8.
    pub(in crate::tls) fn key_pem(&self) -> String {
        self.key_pem.clone()
    }

    /// Writes `STEM.pem` and `STEM.key`.
    pub(in crate::tls) fn write(&self, dir: &Path, stem: &str) -> CertificatePair {
        write_pair(dir, stem, &self.chain_pem(), &self.key_pem)
    }

    /// Written, loaded and proven.
    pub(in crate::tls) fn pair(&self) -> Arc<Pair> {
        let dir = tempfile::tempdir().unwrap();
        load(&self.write(dir.path(), "pair"), today()).unwrap()
    }
}

/// Reads and proves a pair, without regard to an earlier one.
pub(in crate::tls) fn load(
    pair: &CertificatePair,
    now: SystemTime,
) -> Result<Arc<Pair>, PairError> {
    PairFiles::read(pair)?.load(now)
}

pub(in crate::tls) fn write_pair(
    dir: &Path,
    stem: &str,
    chain: &str,
    key: &str,
) -> CertificatePair {
    let pair = CertificatePair {
        chain: dir.join(format!("{stem}.pem")),
        key: dir.join(format!("{stem}.key")),
    };
    fs::write(&pair.chain, chain).unwrap();
    fs::write(&pair.key, key).unwrap();
    pair
}

/// A fixed moment: 1 January 2030.
pub(in crate::tls) fn today() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000)
}

/// The same P-256 key in its older form: PKCS#8 wraps SEC1.
pub(in crate::tls) fn sec1_pem(pkcs8_pem: &str) -> String {
    rewrap(pkcs8_pem, "EC PRIVATE KEY")
}

/// The same RSA key in its older form: PKCS#8 wraps PKCS#1.
pub(in crate::tls) fn pkcs1_pem(pkcs8_pem: &str) -> String {
    rewrap(pkcs8_pem, "RSA PRIVATE KEY")
}

fn rewrap(pkcs8_pem: &str, label: &str) -> String {
    let (item, _) = rustls_pemfile::read_one_from_slice(pkcs8_pem.as_bytes())
        .unwrap()
        .unwrap();
    let Item::Pkcs8Key(der) = item else {
        panic!("not PKCS#8: {item:?}")
    };
    let inner = pkcs8_content(der.secret_pkcs8_der());
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        base64(inner)
    )
}

/// The OCTET STRING of `SEQUENCE { INTEGER, SEQUENCE, OCTET STRING }`.
fn pkcs8_content(der: &[u8]) -> &[u8] {
    let (_, inside, _) = element(der);
    let (_, _, after_version) = element(inside);
    let (_, _, after_algorithm) = element(after_version);
    let (tag, content, _) = element(after_algorithm);
    assert_eq!(tag, 4);
    content
}

/// One DER element: its tag, its content, and what follows.
fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            let bytes = &der[2..2 + count];
            let length = bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b));
            (length, 2 + count)
        }
    };
    (der[0], &der[start..start + length], &der[start + length..])
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = (0..3).fold(0_usize, |n, i| {
            n << 8 | chunk.get(i).map_or(0, |b| usize::from(*b))
        });
        (0..4)
            .map(|i| match i <= chunk.len() {
                true => char::from(ALPHABET[bits >> (18 - 6 * i) & 63]),
                false => '=',
            })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
