//! Whether a token (RFC 7519) is signed by one of the keys, and for us, and now.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::keys::Keys;
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
    keys: Keys,
    /// But for its algorithm.
    validation: Validation,
    leeway: Duration,
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct Claims {
    claims: Map<String, Value>,
    /// How long it is good from now.
    pub left: Duration,
}

impl Tokens {
    pub fn new(settings: &Jwt, keys: Keys) -> Self {
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
        Self {
            keys,
            validation,
            leeway: settings.leeway,
        }
    }

    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, token: &str, now: SystemTime) -> Result<Claims, &'static str> {
        if token.len() > LONGEST {
            return Err("the token is too long");
        }
        let header = decode_header(token).map_err(|error| word(&error))?;
        if has_critical(token) {
            return Err("the token has an extension that must be understood");
        }
        // Those of its id first; one without an id says nothing against itself.
        let all = || self.keys.keys.iter();
        let named = all().filter(|key| header.kid.is_some() && key.id == header.kid);
        let others = all().filter(|key| header.kid.is_none() || key.id.is_none());
        let keys = named.chain(others);
        let keys = keys.filter(|key| key.algorithms.contains(&header.alg));
        let mut validation = self.validation.clone();
        validation.algorithms = vec![header.alg];
        let mut why = "no key fits the token";
        for key in keys.take(MOST_TRIED) {
            match decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(data) => return self.claims(data.claims, now),
                Err(error) => why = word(&error),
            }
        }
        Err(why)
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

/// `crit` says what must be understood, and nothing of that is (RFC 7515 section
/// 4.1.11).
fn has_critical(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).ok();
    let header = header.and_then(|it| serde_json::from_slice::<Map<String, Value>>(&it).ok());
    header.is_none_or(|header| header.contains_key("crit"))
}

const EXPIRED: &str = "the token has expired";

/// Without a word of the token.
fn word(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidSignature => "the token's signature is wrong",
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
