//! Whether a token (RFC 7519) is signed by one of the keys, and for us, and now.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::keyring::Keyring;
use super::keys::{Key, Keys};
use crate::config::Jwt;

/// Longer ones are not looked at.
const LONGEST: usize = 16 * 1024;
/// In seconds since 1970, beyond what calendars write with four digits.
const LAST: f64 = 1e12;
/// Keys of one id, or without one, that are tried.
const MOST_TRIED: usize = 8;

/// How tokens of one route are checked.
#[derive(Debug)]
pub struct Tokens {
    pub(super) keys: KeySet,
    /// `None`: whatever the keys are for.
    allowed: Option<Vec<Algorithm>>,
    /// But for its algorithm.
    validation: Validation,
    leeway: Duration,
}

/// Where its keys are.
#[derive(Debug)]
pub enum KeySet {
    /// In force as long as the snapshot is.
    Fixed(Keys),
    /// Of a URL, with how long a request waits for them.
    Fetched(Arc<Keyring>, Duration),
}

/// Why a token does not let its request in.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// With what is wrong with it.
    Token(&'static str),
    /// There are none yet to check it by.
    NoKeys,
}

/// What is wrong with a token, and whether other keys could change that.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) why: &'static str,
    pub(super) is_of_unknown_key: bool,
}

impl From<&'static str> for Flaw {
    fn from(why: &'static str) -> Self {
        Self {
            why,
            is_of_unknown_key: false,
        }
    }
}

impl From<Flaw> for Unfit {
    fn from(flaw: Flaw) -> Self {
        Self::Token(flaw.why)
    }
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct Claims {
    claims: Map<String, Value>,
    /// How long it is good from now.
    pub left: Duration,
}

impl Tokens {
    pub fn new(settings: &Jwt, keys: KeySet) -> Self {
        let mut validation = Validation::default();
        let mut required = vec!["exp"];
        validation.leeway = settings.leeway.as_secs();
        validation.validate_nbf = true;
        validation.validate_aud = !settings.audience.is_empty();
        if !settings.audience.is_empty() {
            validation.set_audience(&settings.audience);
            required.push("aud");
        }
        if !settings.issuer.is_empty() {
            validation.set_issuer(&settings.issuer);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        let names = settings.algorithms.iter();
        let allowed: Vec<Algorithm> = names.filter_map(|name| name.parse().ok()).collect();
        Self {
            keys,
            allowed: Some(allowed).filter(|it| !it.is_empty()),
            validation,
            leeway: settings.leeway,
        }
    }

    /// Of keys from a URL a token may name one that is not there yet: then they
    /// are fetched once more, and it is looked at again.
    ///
    /// # Errors
    /// See [`Unfit`].
    pub async fn check(&self, token: &str) -> Result<Claims, Unfit> {
        let (keyring, patience) = match &self.keys {
            KeySet::Fixed(keys) => return Ok(self.look(keys, token, SystemTime::now())?),
            KeySet::Fetched(keyring, patience) => (keyring, *patience),
        };
        let held = keyring.keys(patience).await.ok_or(Unfit::NoKeys)?;
        let flaw = match self.look(&held.keys, token, SystemTime::now()) {
            Ok(claims) => return Ok(claims),
            Err(flaw) => flaw,
        };
        if !flaw.is_of_unknown_key {
            return Err(flaw.into());
        }
        match keyring.renewed(patience).await {
            Some(held) => Ok(self.look(&held.keys, token, SystemTime::now())?),
            None => Err(flaw.into()),
        }
    }

    /// By these keys, at this time.
    pub(super) fn look(&self, keys: &Keys, token: &str, now: SystemTime) -> Result<Claims, Flaw> {
        if token.len() > LONGEST {
            return Err("the token is too long".into());
        }
        let header = decode_header(token).map_err(|error| word(&error))?;
        if has_critical(token) {
            return Err("the token has an extension that must be understood".into());
        }
        // Those of its id first; one without an id says nothing against itself.
        let all = || keys.keys.iter();
        let named = all().filter(|key| header.kid.is_some() && key.id == header.kid);
        let others = all().filter(|key| header.kid.is_none() || key.id.is_none());
        let fitting = named.chain(others);
        let fitting = fitting.filter(|key| key.algorithms.contains(&header.alg));
        let mut validation = self.validation.clone();
        validation.algorithms = vec![header.alg];
        let mut why = NONE_FITS;
        let is_allowed = self.allows(header.alg);
        for key in fitting.filter(|_| is_allowed).take(MOST_TRIED) {
            match decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(data) => return Ok(self.claims(data.claims, now)?),
                Err(error) => why = word(&error),
            }
        }
        let is_of_another = matches!(why, NONE_FITS | WRONG_SIGNATURE);
        Err(Flaw {
            why,
            is_of_unknown_key: is_allowed && is_of_another && is_unknown(&header, all()),
        })
    }

    fn allows(&self, algorithm: Algorithm) -> bool {
        let allowed = self.allowed.as_ref();
        allowed.is_none_or(|allowed| allowed.contains(&algorithm))
    }

    fn claims(&self, claims: Map<String, Value>, now: SystemTime) -> Result<Claims, &'static str> {
        let seconds = claims.get("exp").and_then(Value::as_f64);
        let seconds = seconds.filter(|it| *it <= LAST);
        let until = seconds.and_then(|it| Duration::try_from_secs_f64(it).ok());
        let until = until.ok_or("the token's exp is no time")?;
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        // One that leeway lets in lasts as long as leeway does.
        let left = match until.saturating_sub(now) {
            Duration::ZERO => (until + self.leeway).saturating_sub(now),
            left => left,
        };
        match left {
            Duration::ZERO => Err(EXPIRED),
            left => Ok(Claims { claims, left }),
        }
    }
}

impl Claims {
    /// A claim as the value of a header, if it is a text, a number or a boolean.
    pub fn text(&self, claim: &str) -> Option<String> {
        match self.claims.get(claim)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }
}

/// Whether none of the keys is the one that a token names; one that names none
/// may be of any other. Of secrets there are none at a URL.
fn is_unknown<'a>(header: &Header, mut keys: impl Iterator<Item = &'a Key>) -> bool {
    let is_secret = matches!(
        header.alg,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
    );
    !is_secret && !keys.any(|key| header.kid.is_some() && key.id == header.kid)
}

/// `crit` says what must be understood, and nothing of that is (RFC 7515 section
/// 4.1.11).
fn has_critical(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).ok();
    let header = header.and_then(|it| serde_json::from_slice::<Map<String, Value>>(&it).ok());
    header.is_none_or(|header| header.contains_key("crit"))
}

const EXPIRED: &str = "the token has expired";
const NONE_FITS: &str = "no key fits the token";
const WRONG_SIGNATURE: &str = "the token's signature is wrong";

/// Without a word of the token.
fn word(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidSignature => WRONG_SIGNATURE,
        ErrorKind::ExpiredSignature => EXPIRED,
        ErrorKind::ImmatureSignature => "the token is not good yet",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks a claim",
        ErrorKind::InvalidClaimFormat(_) => "a claim of the token is malformed",
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => {
            "the token's algorithm does not fit the key"
        }
        _ => "the token is malformed",
    }
}
