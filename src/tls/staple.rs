//! OCSP responses that are stapled to handshakes (RFC 6066 section 8): read from
//! a file, and held against the certificate that they are to vouch for.
//!
//! It asks no responder: whoever renews the certificate writes the file. It does
//! not verify who signed the response: the client does, and a wrong one harms
//! nobody but its server.
//!
//! Invariant: a [`Staple`] says that the very certificate is good, and it was
//! read within the time that it is for; past its end nobody is given it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use der::Decode;
use der::oid::ObjectIdentifier;
use sha1::{Digest, Sha1};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspResponse, OcspResponseStatus,
    SingleResponse,
};
use x509_parser::prelude::X509Certificate;

use super::pair::{Pair, parse};
use crate::files::{self, FileError};

/// Many times what responders send; every handshake carries it.
const MAX_RESPONSE: u64 = 16 * 1024;

/// RFC 6960 section 4.2.1, the one form of response that there is.
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");

/// A response for one certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct Staple {
    /// DER, as it goes on the wire.
    pub(super) response: Vec<u8>,
    /// `nextUpdate`: clients refuse it later.
    pub(super) until: SystemTime,
}

/// A pair, and what vouches for it.
#[derive(Clone, Debug)]
pub struct Served {
    pub pair: Arc<Pair>,
    pub staple: Option<Arc<Staple>>,
}

impl From<Arc<Pair>> for Served {
    fn from(pair: Arc<Pair>) -> Self {
        Self { pair, staple: None }
    }
}

/// Why a response is not stapled.
#[derive(Debug, thiserror::Error)]
pub enum StapleError {
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: FileError },
    #[error("{} is no OCSP response in DER form: {reason}", path.display())]
    Broken { path: PathBuf, reason: String },
    /// The responder's answer is that it gives none.
    #[error("the OCSP response in {} says {status:?}", path.display())]
    NotSuccessful {
        path: PathBuf,
        status: OcspResponseStatus,
    },
    #[error("the OCSP response in {} is for another certificate", path.display())]
    OtherCertificate { path: PathBuf },
    #[error("the OCSP response in {} says that the certificate is {status}", path.display())]
    NotGood { path: PathBuf, status: &'static str },
    /// Without it a client cannot tell how old it may be.
    #[error("the OCSP response in {} has no nextUpdate", path.display())]
    Endless { path: PathBuf },
    #[error("the OCSP response in {} is not valid before {}", path.display(), from.0.to_date_time())]
    NotYetValid {
        path: PathBuf,
        from: OcspGeneralizedTime,
    },
    #[error("the OCSP response in {} was to be renewed by {}", path.display(), until.0.to_date_time())]
    Expired {
        path: PathBuf,
        until: OcspGeneralizedTime,
    },
}

impl Staple {
    /// Reads the response for the leaf of `pair`; blocks.
    pub(super) fn read(path: &Path, pair: &Pair, now: SystemTime) -> Result<Self, StapleError> {
        let read = files::open(path).and_then(|file| files::read(&file, MAX_RESPONSE));
        let path = || path.to_owned();
        let bytes = read.map_err(|error| StapleError::Unreadable {
            path: path(),
            error,
        })?;
        let broken = |reason: String| StapleError::Broken {
            path: path(),
            reason,
        };
        let response = OcspResponse::from_der(&bytes).map_err(|e| broken(e.to_string()))?;
        if response.response_status != OcspResponseStatus::Successful {
            return Err(StapleError::NotSuccessful {
                path: path(),
                status: response.response_status,
            });
        }
        let basic = response
            .response_bytes
            .filter(|bytes| bytes.response_type == BASIC)
            .ok_or_else(|| broken("it is of an unknown type".to_owned()))?;
        let basic = BasicOcspResponse::from_der(basic.response.as_bytes())
            .map_err(|e| broken(e.to_string()))?;
        let mut singles = basic.tbs_response_data.responses.iter();
        let single = singles
            .find(|single| is_for(pair, &single.cert_id))
            .ok_or_else(|| StapleError::OtherCertificate { path: path() })?;
        let until = check(single, path(), now)?;
        Ok(Self {
            response: bytes,
            until,
        })
    }

    /// Whether it may still be shown.
    pub(super) fn is_valid(&self, now: SystemTime) -> bool {
        now <= self.until
    }

    /// Whether it vouches for the leaf of `pair`.
    pub(super) fn is_of(&self, pair: &Pair) -> bool {
        let basic = OcspResponse::from_der(&self.response)
            .ok()
            .and_then(|response| response.response_bytes)
            .and_then(|bytes| BasicOcspResponse::from_der(bytes.response.as_bytes()).ok());
        basic.is_some_and(|basic| {
            let mut singles = basic.tbs_response_data.responses.iter();
            singles.any(|single| is_for(pair, &single.cert_id))
        })
    }
}

/// The end of what a response about the right certificate says.
fn check(
    single: &SingleResponse,
    path: PathBuf,
    now: SystemTime,
) -> Result<SystemTime, StapleError> {
    let status = match single.cert_status {
        CertStatus::Good(_) => None,
        CertStatus::Revoked(_) => Some("revoked"),
        CertStatus::Unknown(_) => Some("unknown"),
    };
    if let Some(status) = status {
        return Err(StapleError::NotGood { path, status });
    }
    let Some(until) = single.next_update else {
        return Err(StapleError::Endless { path });
    };
    let from = single.this_update;
    if now < from.0.to_system_time() {
        return Err(StapleError::NotYetValid { path, from });
    }
    if now > until.0.to_system_time() {
        return Err(StapleError::Expired { path, until });
    }
    Ok(until.0.to_system_time())
}

/// By the serial number, and by the issuer's name where that is hashed as every
/// responder must be able to (RFC 9654 and RFC 5019 section 2.1.1).
fn is_for(pair: &Pair, id: &CertId) -> bool {
    let leaf = pair.certified_key.cert.first();
    let Some(leaf) = leaf.and_then(|leaf| parse(leaf).ok()) else {
        return false;
    };
    let named = id.hash_algorithm.oid != SHA_1 || {
        let name = Sha1::digest(leaf.issuer().as_raw());
        id.issuer_name_hash.as_bytes() == name.as_slice()
    };
    named && same_serial(&leaf, id)
}

fn same_serial(leaf: &X509Certificate<'_>, id: &CertId) -> bool {
    fn digits(bytes: &[u8]) -> &[u8] {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        &bytes[zeros..]
    }
    digits(leaf.raw_serial()) == digits(id.serial_number.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use x509_ocsp::RevokedInfo;

    use super::*;
    use crate::tls::tests::certificates::{Ca, today};
    use crate::tls::tests::handshakes::{Clients, Servers, stapled};
    use crate::tls::tests::responses::{Response, time};

    const DAY: Duration = Duration::from_secs(86_400);

    fn good() -> Response {
        Response {
            status: CertStatus::good(),
            from: today() - DAY,
            until: Some(today() + DAY),
        }
    }

    /// What becomes of a file with these bytes.
    fn read(bytes: &[u8], pair: &Pair) -> Result<Staple, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ocsp");
        fs::write(&path, bytes).unwrap();
        Staple::read(&path, pair, today()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_good_response_is_taken_whole_and_until_its_end() {
        let pair = Ca::new("ca").issue(&["a.test"]).pair();
        let bytes = good().about(&pair);
        let staple = read(&bytes, &pair).unwrap();
        assert_eq!(staple.response, bytes);
        assert!(staple.is_valid(today() + DAY));
        assert!(!staple.is_valid(today() + DAY + Duration::from_secs(1)));
    }

    #[test]
    fn whatever_a_client_would_refuse_is_not_stapled() {
        let ca = Ca::new("ca");
        let (pair, other) = (ca.issue(&["a"]).pair(), ca.issue(&["a"]).pair());
        let revoked = RevokedInfo {
            revocation_time: time(today()),
            revocation_reason: None,
        };
        let with = |change: &dyn Fn(&mut Response)| {
            let mut response = good();
            change(&mut response);
            response.about(&pair)
        };
        let whole = good().about(&pair);
        for (bytes, word) in [
            (
                with(&|it| it.status = CertStatus::revoked(revoked)),
                "revoked",
            ),
            (with(&|it| it.status = CertStatus::unknown()), "unknown"),
            (with(&|it| it.until = None), "no nextUpdate"),
            (with(&|it| it.until = Some(today() - DAY / 2)), "renewed by"),
            (with(&|it| it.from = today() + DAY / 2), "not valid before"),
            (good().about(&other), "another certificate"),
            (whole[..whole.len() - 1].to_vec(), "no OCSP response"),
            ([&whole[..], b"x"].concat(), "no OCSP response"),
            (
                b"-----BEGIN OCSP RESPONSE-----".to_vec(),
                "no OCSP response",
            ),
            (Vec::new(), "no OCSP response"),
            (vec![0; MAX_RESPONSE as usize + 1], "larger than"),
            // tryLater.
            (vec![0x30, 3, 10, 1, 3], "TryLater"),
        ] {
            let error = read(&bytes, &pair).unwrap_err();
            assert!(error.contains(word) && error.contains("a.ocsp"), "{error}");
        }
        let same_serial_of_another_ca = Ca::new("elsewhere").issue(&["a"]).pair();
        assert!(read(&whole, &same_serial_of_another_ca).is_err());
    }

    #[test]
    fn no_cut_and_no_changed_byte_of_a_response_panics() {
        let pair = Ca::new("ca").issue(&["a"]).pair();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ocsp");
        let whole = good().about(&pair);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x41;
            for bytes in [&whole[..at], &changed] {
                fs::write(&path, bytes).unwrap();
                let _ = Staple::read(&path, &pair, today());
            }
        }
    }

    #[tokio::test]
    async fn clients_get_it_until_it_ends_and_only_if_they_ask() {
        let ca = Ca::new("ca");
        let issued = ca.issue(&["a.test"]);
        let staple = |until| Staple {
            response: b"vouched for".to_vec(),
            until,
        };
        let server = Servers::of(&issued);
        let now = SystemTime::now();
        for client in [
            Clients::trusting(&ca),
            Clients::trusting(&ca).only_tls_1_2(),
        ] {
            let shown = async |server: &Servers| stapled(server.config(), &client).await;
            assert_eq!(shown(&server).await, b"");
            let fresh = server.clone().stapling(staple(now + DAY));
            assert_eq!(shown(&fresh).await, b"vouched for");
            let ended = server.clone().stapling(staple(now - DAY));
            assert_eq!(shown(&ended).await, b"");
        }
    }
}
