//! Who a request is from, by what it carries: a password or a token, before
//! anybody is asked or dialled.
//!
//! Invariant: a request that does not say who it is, as its route wants it, goes
//! no further.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};

use super::sticky::{cookie, query};
use crate::config::{BasicAuth, Jwt, TokenSource};
use crate::exchange::{Body, Challenge, Refusal, headers};
use crate::identity::{Claims, Tokens, Unfit, Users, Verdict};
use crate::tunnel::Expiry;
use crate::ws::handshake::tokens;

/// What a route wants to be shown.
#[derive(Debug)]
pub enum Identity {
    Password(BasicAuth, Arc<Users>),
    Token(Box<Jwt>, Box<Tokens>),
}

impl Identity {
    /// Whether a secret may be in the query, which no log may show then.
    pub(super) fn may_be_in_query(&self) -> bool {
        let is_query = |source: &TokenSource| matches!(source, TokenSource::Query(_));
        matches!(self, Self::Token(settings, _) if settings.from.iter().any(is_query))
    }

    /// Lets the request pass, with what the backend is told of it. When what was
    /// shown ends, if ever.
    pub(super) async fn establish(
        &self,
        request: &mut Request<Body>,
    ) -> Result<Option<Expiry>, Refusal> {
        match self {
            Self::Password(settings, users) => {
                let name = name(settings, users, request.headers()).await?;
                if let Some(header) = &settings.user_header {
                    let set = set(request, header, Some(&name));
                    set.map_err(|why| Refusal::BadCredentials(wanted(settings), why))?;
                }
                Ok(None)
            }
            Self::Token(settings, tokens) => {
                let claims = claims(settings, tokens, request).await?;
                for (header, claim) in &settings.set_headers {
                    let set = set(request, header, claims.text(claim).as_deref());
                    set.map_err(|why| Refusal::BadCredentials(bad_token(), why))?;
                }
                Ok(Some(Expiry {
                    after: claims.left,
                    code: settings.close_code,
                }))
            }
        }
    }
}

/// What is true, and nothing that the client says.
fn set(
    request: &mut Request<Body>,
    name: &HeaderName,
    value: Option<&str>,
) -> Result<(), &'static str> {
    headers::withdraw(request, name);
    if let Some(value) = value {
        let value = HeaderValue::from_bytes(value.as_bytes());
        let value = value.map_err(|_| "what it says cannot be the value of a header")?;
        request.headers_mut().insert(name, value);
    }
    Ok(())
}

/// The name of a user whose password is right.
async fn name(
    settings: &BasicAuth,
    users: &Arc<Users>,
    headers: &HeaderMap,
) -> Result<String, Refusal> {
    let Some(shown) = authorization(headers, "basic") else {
        return Err(Refusal::NoCredentials(wanted(settings)));
    };
    let decoded = shown.and_then(|shown| STANDARD.decode(shown).ok());
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = text.as_ref().and_then(|text| text.split_once(':'));
    let Some((name, password)) = pair else {
        let why = "the credentials are malformed";
        return Err(Refusal::BadCredentials(wanted(settings), why));
    };
    match users.check(name, password).await {
        Verdict::Right => Ok(name.to_owned()),
        Verdict::Wrong => {
            let why = "the user or the password is wrong";
            Err(Refusal::BadCredentials(wanted(settings), why))
        }
        Verdict::Busy => Err(Refusal::CredentialsBusy),
    }
}

/// RFC 7617 section 2.1.
fn wanted(settings: &BasicAuth) -> Challenge {
    let realm = &settings.realm;
    Challenge(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""))
}

/// What the token says that the request shows, if it is good.
async fn claims(
    settings: &Jwt,
    tokens: &Tokens,
    request: &mut Request<Body>,
) -> Result<Claims, Refusal> {
    let found = settings.from.iter().find_map(|source| {
        let found = find(source, request.uri(), request.headers())?;
        Some((source, found?.to_owned()))
    });
    let Some((source, token)) = found else {
        let challenge = Challenge("Bearer".to_owned());
        return Err(Refusal::NoCredentials(challenge));
    };
    let checked = tokens.check(&token).await;
    let claims = checked.map_err(|unfit| match unfit {
        Unfit::NoKeys => Refusal::NoKeys,
        Unfit::Token(why) => Refusal::BadCredentials(bad_token(), why),
    })?;
    if let TokenSource::Subprotocol(prefix) = source {
        withdraw(request.headers_mut(), prefix);
    }
    Ok(claims)
}

/// RFC 6750 section 3.1.
fn bad_token() -> Challenge {
    Challenge("Bearer error=\"invalid_token\"".to_owned())
}

/// `Some(None)`: it is there and cannot be read.
fn find<'a>(source: &TokenSource, uri: &'a Uri, headers: &'a HeaderMap) -> Option<Option<&'a str>> {
    match source {
        TokenSource::Header => authorization(headers, "bearer"),
        TokenSource::Cookie(name) => cookie(headers, name).map(Some),
        TokenSource::Query(name) => query(uri, name).map(Some),
        TokenSource::Subprotocol(prefix) => tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
            .find_map(|offered| offered.strip_prefix(&**prefix))
            .map(Some),
    }
}

/// What stands behind this scheme in the one `Authorization`.
fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<Option<&'a str>> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let line = lines.next()?.to_str().ok()?;
    let (found, shown) = line.split_once(' ')?;
    let is_one = lines.next().is_none();
    found
        .eq_ignore_ascii_case(scheme)
        .then(|| is_one.then(|| shown.trim()))
}

/// The backend is not offered what is no protocol.
fn withdraw(headers: &mut HeaderMap, prefix: &str) {
    let name = header::SEC_WEBSOCKET_PROTOCOL;
    let offered: Vec<_> = tokens(headers, &name)
        .filter(|offered| !offered.starts_with(prefix))
        .collect();
    let rest = HeaderValue::from_str(&offered.join(", ")).ok();
    headers.remove(&name);
    if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
        headers.insert(name, rest);
    }
}
