//! The one certificate that every target of the benchmark serves: ECDSA P-256, signed by itself.
//!
//! It deliberately makes nothing for production. Invariant: the load generator trusts this certificate and no other.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};

/// The name in the certificate and in every request.
pub const NAME: &str = "bench.test";

/// Writes `cert.pem`, `key.pem` and `both.pem` into `dir`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path) -> Result<()> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
    fs::write(dir.join("cert.pem"), certificate.pem())?;
    fs::write(dir.join("key.pem"), key.serialize_pem())?;
    fs::write(
        dir.join("both.pem"),
        certificate.pem() + &key.serialize_pem(),
    )?;
    fs::write(dir.join("cert.der"), certificate.der())?;
    Ok(())
}
