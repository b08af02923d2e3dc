//! PEM files: certificate chains, private keys and CA bundles.
//!
//! The only file that uses rustls-pemfile (archived; see `deny.toml`), so that
//! replacing it is a change of one file. It does not look inside certificates
//! and does not decide whether a key fits one: `pair` does.
//!
//! Invariant: a file that was cut off in the middle of a write is an error,
//! never a shorter chain, as far as PEM can show it. (A cut exactly between
//! two sections cannot be seen; the next event of the watch brings the rest.)

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::Item;

use crate::files::{self, FileError};

/// More than any CA bundle in use; bounds what a wrong path can cost.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// What is wrong with a PEM file, and which file it is.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", path.display())]
pub struct PemError {
    pub path: PathBuf,
    pub problem: PemProblem,
}

/// The ways in which a PEM file can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum PemProblem {
    #[error("cannot be read: {0}")]
    Unreadable(FileError),
    #[error("is empty")]
    Empty,
    #[error("is in binary DER form, and PEM is needed")]
    Der,
    #[error("holds bytes that are not text")]
    NotText,
    #[error("is cut off: a section has no end")]
    CutOff,
    #[error("has a broken line in a section: {0}")]
    BrokenSection(String),
    #[error("holds no certificate")]
    NoCertificate,
    #[error("holds a private key and no certificate; are chain and key swapped?")]
    KeyInsteadOfChain,
    #[error("holds no private key")]
    NoKey,
    #[error("holds a certificate and no private key; are chain and key swapped?")]
    ChainInsteadOfKey,
    #[error("holds {0} private keys, and exactly one is needed")]
    SeveralKeys(usize),
    #[error("holds an encrypted private key; remove its passphrase with `openssl pkey`")]
    EncryptedKey,
}

/// One file, read at one moment.
pub(crate) struct PemFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl PemFile {
    /// Reads the whole file; blocks.
    pub(super) fn read(path: &Path) -> Result<Self, PemError> {
        let read = files::open(path).and_then(|file| files::read(&file, MAX_FILE));
        let bytes = read.map_err(|error| PemError {
            path: path.to_owned(),
            problem: PemProblem::Unreadable(error),
        })?;
        Ok(Self::of(path, bytes))
    }

    /// A file that has been read.
    pub(crate) fn of(path: &Path, bytes: Vec<u8>) -> Self {
        Self {
            path: path.to_owned(),
            bytes,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Everything in the file, text around the sections included.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All certificates in the order of the file; at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let sections = self.sections()?;
        let holds_key = !sections.keys.is_empty() || self.is_encrypted_key();
        match (sections.certificates.is_empty(), holds_key) {
            (false, _) => Ok(sections.certificates),
            (true, true) => Err(self.error(PemProblem::KeyInsteadOfChain)),
            (true, false) => Err(self.error(PemProblem::NoCertificate)),
        }
    }

    /// The one private key: PKCS#8 (RFC 5958), SEC1 (RFC 5915) or PKCS#1
    /// (RFC 8017).
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        if self.is_encrypted_key() {
            return Err(self.error(PemProblem::EncryptedKey));
        }
        let mut sections = self.sections()?;
        match (sections.keys.pop(), sections.keys.len()) {
            (Some(key), 0) => Ok(key),
            (Some(_), others) => Err(self.error(PemProblem::SeveralKeys(others + 1))),
            (None, _) if sections.certificates.is_empty() => Err(self.error(PemProblem::NoKey)),
            (None, _) => Err(self.error(PemProblem::ChainInsteadOfKey)),
        }
    }

    fn sections(&self) -> Result<Sections, PemError> {
        self.check_text()?;
        let mut sections = Sections::default();
        let mut rest = self.bytes.as_slice();
        while let Some((item, after)) =
            rustls_pemfile::read_one_from_slice(rest).map_err(|e| self.error(e.into()))?
        {
            rest = after;
            match item {
                Item::X509Certificate(der) => sections.certificates.push(der),
                Item::Pkcs1Key(der) => sections.keys.push(der.into()),
                Item::Pkcs8Key(der) => sections.keys.push(der.into()),
                Item::Sec1Key(der) => sections.keys.push(der.into()),
                // EC parameters, requests and the like may stand beside.
                _ => {}
            }
        }
        Ok(sections)
    }

    /// Text around sections is allowed (RFC 7468 section 2); anything that
    /// shows a file which is not what it should be is not.
    fn check_text(&self) -> Result<(), PemError> {
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(self.error(PemProblem::Empty));
        }
        // A DER SEQUENCE with a length of two bytes, as keys and certificates are.
        if self.bytes.starts_with(&[0x30, 0x82]) {
            return Err(self.error(PemProblem::Der));
        }
        // A NUL is what a sparse or half-written block reads as.
        let is_text = |b: &u8| *b >= b' ' || b.is_ascii_whitespace() || *b == 0x0b;
        if !self.bytes.iter().all(is_text) {
            return Err(self.error(PemProblem::NotText));
        }
        let cut_boundary = |line: &[u8]| {
            line.starts_with(b"-----")
                && !line.starts_with(b"-----BEGIN ")
                && !line.starts_with(b"-----END ")
        };
        if self
            .bytes
            .split(|b| matches!(b, b'\n' | b'\r'))
            .any(cut_boundary)
        {
            return Err(self.error(PemProblem::CutOff));
        }
        Ok(())
    }

    /// PKCS#8 says so in its label, the older forms in a header line.
    fn is_encrypted_key(&self) -> bool {
        let holds = |needle: &[u8]| self.bytes.windows(needle.len()).any(|w| w == needle);
        holds(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(b"Proc-Type: 4,ENCRYPTED")
    }

    fn error(&self, problem: PemProblem) -> PemError {
        PemError {
            path: self.path.clone(),
            problem,
        }
    }
}

#[derive(Default)]
struct Sections {
    certificates: Vec<CertificateDer<'static>>,
    keys: Vec<PrivateKeyDer<'static>>,
}

impl From<rustls_pemfile::Error> for PemProblem {
    fn from(error: rustls_pemfile::Error) -> Self {
        match error {
            rustls_pemfile::Error::MissingSectionEnd { .. } => Self::CutOff,
            rustls_pemfile::Error::IllegalSectionStart { line } => {
                Self::BrokenSection(format!("{:?}", String::from_utf8_lossy(&line)))
            }
            rustls_pemfile::Error::Base64Decode(reason) => Self::BrokenSection(reason),
        }
    }
}

/// Shows the path only: the bytes may be a private key.
impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemFile").field("path", &self.path).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::certificates::{Ca, pkcs1_pem, sec1_pem};

    fn file(content: impl AsRef<[u8]>) -> PemFile {
        PemFile {
            path: PathBuf::from("x.pem"),
            bytes: content.as_ref().to_vec(),
        }
    }

    fn chain_problem(content: impl AsRef<[u8]>) -> String {
        file(content).certificates().unwrap_err().to_string()
    }

    fn key_problem(content: impl AsRef<[u8]>) -> String {
        file(content).private_key().unwrap_err().to_string()
    }

    #[test]
    fn reads_chains_and_all_three_kinds_of_key() {
        let ca = Ca::new("ca");
        let issued = ca.issue(&["a.test"]);
        let chain = file(issued.chain_pem()).certificates().unwrap();
        assert_eq!(chain, [issued.leaf(), ca.certificate()]);
        let key = |pem: String| file(pem).private_key().unwrap();
        assert!(matches!(key(issued.key_pem()), PrivateKeyDer::Pkcs8(_)));
        assert!(matches!(
            key(sec1_pem(&issued.key_pem())),
            PrivateKeyDer::Sec1(_)
        ));
        let rsa = ca.issue_rsa(&["a.test"]);
        assert!(matches!(
            key(pkcs1_pem(&rsa.key_pem())),
            PrivateKeyDer::Pkcs1(_)
        ));
    }

    #[test]
    fn text_between_sections_is_allowed_and_one_file_may_hold_both() {
        let issued = Ca::new("ca").issue(&["a.test"]);
        let both = format!(
            "Bag Attributes\r\n    friendlyName: Zoë\r\n{}subject=CN = a\n{}\n\n",
            issued.chain_pem(),
            issued.key_pem()
        );
        assert_eq!(file(&both).certificates().unwrap().len(), 2);
        assert!(file(&both).private_key().is_ok());
    }

    #[test]
    fn names_what_is_wrong_with_a_chain() {
        let issued = Ca::new("ca").issue(&["a.test"]);
        let pem = issued.chain_pem();
        assert_eq!(chain_problem(""), "x.pem is empty");
        assert_eq!(chain_problem(" \r\n\n"), "x.pem is empty");
        assert_eq!(chain_problem("hello\n"), "x.pem holds no certificate");
        assert!(chain_problem(issued.key_pem()).contains("swapped"));
        assert!(chain_problem(issued.leaf()).contains("DER"));
        assert!(chain_problem(format!("{pem}\0\0\0")).contains("not text"));
        assert!(chain_problem(format!("{pem}-----BEG")).contains("cut off"));
        assert!(chain_problem(pem.replacen('M', "!", 1)).contains("broken line"));
    }

    #[test]
    fn no_cut_inside_a_section_goes_unseen() {
        let pem = Ca::new("ca").issue(&["a.test"]).leaf_pem();
        let end = pem.find("-----END ").unwrap() + "-----END CERTIFICATE".len();
        for cut in 0..end {
            assert!(
                file(&pem.as_bytes()[..cut]).certificates().is_err(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn names_what_is_wrong_with_a_key() {
        let ca = Ca::new("ca");
        let (one, two) = (ca.issue(&["a.test"]), ca.issue(&["b.test"]));
        assert_eq!(key_problem(""), "x.pem is empty");
        assert_eq!(key_problem("hello\n"), "x.pem holds no private key");
        assert!(key_problem(one.chain_pem()).contains("swapped"));
        let both = format!("{}{}", one.key_pem(), two.key_pem());
        assert!(key_problem(both).contains("holds 2 private keys"));
        let encrypted = one
            .key_pem()
            .replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert!(key_problem(encrypted).contains("encrypted"));
        let old_style = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
            DEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert!(key_problem(old_style).contains("encrypted"));
        let key = one.key_pem();
        assert!(key_problem(&key[..key.len() / 2]).contains("cut off"));
    }

    #[test]
    fn names_what_is_wrong_with_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let absent = PemFile::read(&dir.path().join("absent.pem")).unwrap_err();
        assert!(matches!(absent.problem, PemProblem::Unreadable(_)));
        assert!(absent.to_string().contains("absent.pem"));
        let directory = PemFile::read(dir.path()).unwrap_err();
        assert!(matches!(
            directory.problem,
            PemProblem::Unreadable(FileError::NotRegular)
        ));
        let huge = dir.path().join("huge.pem");
        std::fs::File::create(&huge)
            .unwrap()
            .set_len(MAX_FILE + 1)
            .unwrap();
        let huge = PemFile::read(&huge).unwrap_err();
        assert!(matches!(
            huge.problem,
            PemProblem::Unreadable(FileError::TooLarge(_))
        ));
    }
}
