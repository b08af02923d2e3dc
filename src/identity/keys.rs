//! Keys of a JWK set (RFC 7517), each for the algorithms that it was made for.
//!
//! Invariant: what a key is good for is said by the key, never by a token.

use std::fmt;
use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::{IdentityError, read};

/// As many bytes as the hash of HS256 (RFC 7518 section 3.2).
const LEAST_SECRET: usize = 32;

/// Of one set.
const MOST_KEYS: usize = 100;

/// The keys of one file or URL.
#[derive(Debug)]
pub struct Keys {
    pub(super) keys: Vec<Key>,
}

pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {:?} for {:?}", self.id, self.algorithms)
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    /// Reads the file; blocks. `allowed` are the names of algorithms; empty: all.
    ///
    /// # Errors
    /// If it cannot be read, one of its keys is weak, or none is of use. Keys of
    /// kinds that are not known are passed over (RFC 7517 section 5).
    pub fn load(path: &Path, allowed: &[String]) -> Result<Self, IdentityError> {
        let name = || path.display().to_string();
        let text = read(path)?;
        let set = Set::of(text.as_bytes(), &name())?;
        let mut keys = Vec::new();
        for (index, key) in set.keys.into_iter().enumerate() {
            let wrong = |what| IdentityError::Key(name(), index + 1, what);
            let Ok(jwk) = Jwk::deserialize(key) else {
                continue;
            };
            keys.extend(usable(&jwk, allowed).map_err(wrong)?);
        }
        match keys.is_empty() {
            true => Err(IdentityError::NoKeys(name())),
            false => Ok(Self { keys }),
        }
    }

    /// Reads what a URL had.
    ///
    /// # Errors
    /// If it is no set, one of its keys is secret, or none is of use. Keys that
    /// cannot be used are passed over (RFC 7517 section 5).
    pub fn of_url(document: &[u8], url: &str) -> Result<Self, IdentityError> {
        let set = Set::of(document, url)?;
        if let Some(index) = set.keys.iter().position(is_secret) {
            let what = "it is secret: whoever reads it there could sign tokens";
            return Err(IdentityError::Key(url.to_owned(), index + 1, what));
        }
        let keys = set.keys.into_iter();
        let keys = keys.filter_map(|key| usable(&Jwk::deserialize(key).ok()?, &[]).ok()?);
        let keys: Vec<Key> = keys.collect();
        match keys.is_empty() {
            true => Err(IdentityError::NoPublicKeys(url.to_owned())),
            false => Ok(Self { keys }),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.keys.len()
    }
}

impl Set {
    fn of(text: &[u8], name: &str) -> Result<Self, IdentityError> {
        let set: Self = serde_json::from_slice(text)
            .map_err(|error| IdentityError::NotKeys(name.to_owned(), error))?;
        match set.keys.len() > MOST_KEYS {
            true => Err(IdentityError::TooManyKeys(name.to_owned(), MOST_KEYS)),
            false => Ok(set),
        }
    }
}

/// A shared secret, or the private part of a pair (RFC 7518 section 6): each has
/// a member that no public key has.
fn is_secret(key: &serde_json::Value) -> bool {
    ["k", "d"].iter().any(|member| key.get(member).is_some())
        || key.get("kty").is_some_and(|kind| kind == "oct")
}

/// `None` if it is for something else.
fn usable(jwk: &Jwk, allowed: &[String]) -> Result<Option<Key>, &'static str> {
    if !matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    ) {
        return Ok(None);
    }
    let fitting: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(key) => match key.curve {
            EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            _ => &[],
        },
        _ => &[],
    };
    let own = jwk
        .common
        .key_algorithm
        .as_ref()
        .map(KeyAlgorithm::to_string);
    let is_good = |it: &&Algorithm| {
        let name = format!("{it:?}");
        own.as_ref().is_none_or(|own| *own == name)
            && (allowed.is_empty() || allowed.contains(&name))
    };
    let algorithms: Vec<_> = fitting.iter().filter(is_good).copied().collect();
    if algorithms.is_empty() {
        return Ok(None);
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| "it cannot be read")?;
    if matches!(&jwk.algorithm, AlgorithmParameters::OctetKey(_))
        && key
            .try_get_as_bytes()
            .is_ok_and(|it| it.len() < LEAST_SECRET)
    {
        return Err("a secret of less than 32 bytes can be guessed");
    }
    Ok(Some(Key {
        id: jwk.common.key_id.clone(),
        algorithms,
        key,
    }))
}
