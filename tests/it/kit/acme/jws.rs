//! Signed requests of ACME (RFC 8555 section 6.2), verified.

use std::collections::HashSet;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::Value;

/// An account's public key, on P-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    x: String,
    y: String,
}

pub struct Signed {
    pub key: Key,
    /// Null where there is none: POST-as-GET.
    pub payload: Value,
}

type Wrong = (&'static str, &'static str);

impl Key {
    fn parse(jwk: &Value) -> Option<Self> {
        let of = |name: &str| jwk[name].as_str().map(ToOwned::to_owned);
        if jwk["kty"] != "EC" || jwk["crv"] != "P-256" {
            return None;
        }
        Some(Self {
            x: of("x")?,
            y: of("y")?,
        })
    }

    /// RFC 7638.
    pub fn thumbprint(&self) -> String {
        let Self { x, y } = self;
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        BASE64.encode(digest(&SHA256, text.as_bytes()))
    }

    fn has_signed(&self, message: &str, signature: &str) -> bool {
        let decoded = |text: &str| BASE64.decode(text).unwrap_or_default();
        let point = [vec![4], decoded(&self.x), decoded(&self.y)].concat();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(message.as_bytes(), &decoded(signature)).is_ok()
    }
}

impl Signed {
    /// A new account signs with the key it brings, everybody else with one that
    /// is known; each nonce is good once, and each signature for one URL.
    pub fn verify(
        body: &[u8],
        url: &str,
        nonces: &mut HashSet<String>,
        accounts: &[Key],
        base: &str,
    ) -> Result<Self, Wrong> {
        let body: Value = serde_json::from_slice(body).map_err(|_| ("malformed", "no JSON"))?;
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        let protected: Value = BASE64
            .decode(text("protected"))
            .ok()
            .and_then(|raw| serde_json::from_slice(&raw).ok())
            .ok_or(("malformed", "no protected header"))?;
        let of = |name: &str| protected[name].as_str().unwrap_or_default();
        if of("alg") != "ES256" {
            return Err(("badSignatureAlgorithm", "only ES256"));
        }
        if of("url") != url {
            return Err(("unauthorized", "signed for another URL"));
        }
        if !nonces.remove(of("nonce")) {
            return Err(("badNonce", "a nonce that is not good, or no more"));
        }
        let key = match (url == format!("{base}/account"), &protected["jwk"]) {
            (true, jwk) => Key::parse(jwk).ok_or(("badPublicKey", "no key"))?,
            (false, Value::Null) => {
                let id = of("kid").strip_prefix(&format!("{base}/account/"));
                let at = id.and_then(|id| id.parse::<usize>().ok());
                let known = at.and_then(|at| accounts.get(at).cloned());
                known.ok_or(("accountDoesNotExist", "who is this?"))?
            }
            (false, _) => return Err(("malformed", "a key where an account should be")),
        };
        let message = format!("{}.{}", text("protected"), text("payload"));
        if !key.has_signed(&message, text("signature")) {
            return Err(("malformed", "the signature is wrong"));
        }
        let payload = BASE64.decode(text("payload")).unwrap_or_default();
        let payload = match payload.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&payload).map_err(|_| ("malformed", "no payload"))?,
        };
        Ok(Self { key, payload })
    }
}
