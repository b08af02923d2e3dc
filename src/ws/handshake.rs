//! The opening handshake (RFC 6455 sections 4.1 and 4.2, RFC 9110 section 7.8):
//! what a client may ask for, and what a backend may answer.
//!
//! It looks at methods, versions and headers only. It does not rewrite them
//! (`Sec-WebSocket-*` pass byte for byte), does not look at the status of an
//! answer, and leaves `Host` to what is done for every request.
//!
//! Invariant: an [`Offer`] holds a key whose [`accept`] is what the backend
//! must answer with, and [`check_response`] says yes to nothing else.

use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use sha1::{Digest, Sha1};

/// The only version of the protocol there is (RFC 6455 section 4.1).
pub const VERSION: &str = "13";

/// The protocol's name in `Upgrade`.
pub const WEBSOCKET: &str = "websocket";

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a client asks for, kept until the backend's answer is checked.
///
/// Header lines are shared with the request, not copied.
#[derive(Clone, Debug)]
pub struct Offer {
    key: HeaderValue,
    subprotocols: Vec<HeaderValue>,
    extensions: Vec<HeaderValue>,
}

impl Offer {
    fn new(key: HeaderValue, headers: &HeaderMap) -> Self {
        Self {
            key,
            subprotocols: secret_lines(headers, &SEC_WEBSOCKET_PROTOCOL),
            extensions: headers
                .get_all(SEC_WEBSOCKET_EXTENSIONS)
                .iter()
                .cloned()
                .collect(),
        }
    }

    /// The offered subprotocols, in the client's order. They may hold
    /// credentials: not for the log.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.subprotocols
            .iter()
            .flat_map(elements)
            .filter_map(as_str)
    }

    /// The names of the offered extensions, without their parameters.
    pub fn extensions(&self) -> impl Iterator<Item = &str> {
        self.extensions
            .iter()
            .flat_map(extension_names)
            .filter_map(as_str)
    }
}

/// What is wrong with a client's handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    #[error("handshake method is {0} instead of GET")]
    Method(Method),
    #[error("handshake is sent as {0:?} instead of HTTP/1.1")]
    HttpVersion(Version),
    #[error("header upgrade does not ask for websocket alone")]
    Upgrade,
    #[error("header connection lacks the option upgrade")]
    Connection,
    #[error("header sec-websocket-version is missing")]
    VersionMissing,
    #[error("header sec-websocket-version is not 13")]
    VersionUnknown,
    #[error("header sec-websocket-version is given twice")]
    VersionTwice,
    #[error("header sec-websocket-key is missing")]
    KeyMissing,
    #[error("header sec-websocket-key is given twice")]
    KeyTwice,
    #[error("header sec-websocket-key is not the base64 of 16 bytes")]
    KeyMalformed,
    #[error("handshake announces a body")]
    Body,
}

impl Mistake {
    /// 426 for a version we do not speak, else 400, also where there is none.
    ///
    /// A 426 must carry `Sec-WebSocket-Version: 13` (RFC 6455 section 4.4) and
    /// `Upgrade: websocket` (RFC 9110 section 15.5.22).
    pub fn status(&self) -> StatusCode {
        match self {
            Self::VersionUnknown => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// What is wrong with a backend's 101.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    #[error("header upgrade of the answer is not websocket")]
    Upgrade,
    #[error("header connection of the answer lacks the option upgrade")]
    Connection,
    #[error("header sec-websocket-accept of the answer is missing")]
    AcceptMissing,
    #[error("header sec-websocket-accept of the answer is given twice")]
    AcceptTwice,
    #[error("header sec-websocket-accept of the answer does not fit the key")]
    AcceptWrong,
    #[error("the answer names more than one subprotocol")]
    SubprotocolTwice,
    #[error("the answer names a subprotocol that the client did not offer")]
    SubprotocolNotOffered,
    #[error("the answer names an extension that the client did not offer")]
    ExtensionNotOffered,
}

/// What a request's `Upgrade` and `Connection` ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing, or `Upgrade` without the connection option that makes it count
    /// (RFC 9110 section 7.8): plain HTTP.
    None,
    /// One protocol, in lower case; repeating it changes nothing.
    One(String),
    /// Different protocols to choose from.
    Several,
    /// Something that is not a protocol name.
    Malformed,
}

/// Checks a client's handshake (RFC 6455 section 4.2.1).
///
/// # Errors
/// The first [`Mistake`] found. A handshake with a body is one of them: what
/// reads the bytes behind the head must not depend on whether the backend
/// agrees to upgrade.
pub fn check_request(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
) -> Result<Offer, Mistake> {
    if method != Method::GET {
        return Err(Mistake::Method(method.clone()));
    }
    if version != Version::HTTP_11 {
        return Err(Mistake::HttpVersion(version));
    }
    if !wants_websocket(headers) {
        return Err(Mistake::Upgrade);
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(Mistake::Connection);
    }
    check_version(headers)?;
    let key = match lone(headers, &SEC_WEBSOCKET_KEY) {
        Lone::Missing => return Err(Mistake::KeyMissing),
        Lone::Repeated => return Err(Mistake::KeyTwice),
        Lone::Value(key) => key,
    };
    if !is_base64_of_16_bytes(key.as_bytes()) {
        return Err(Mistake::KeyMalformed);
    }
    if has_body(headers) {
        return Err(Mistake::Body);
    }
    Ok(Offer::new(key.clone(), headers))
}

/// Checks the headers of a 101 (RFC 6455 section 4.1, the last list).
///
/// An empty `Sec-WebSocket-Protocol` counts as none, as some servers send it;
/// the client still judges for itself.
///
/// # Errors
/// The first [`BadAnswer`] found.
pub fn check_response(offer: &Offer, headers: &HeaderMap) -> Result<(), BadAnswer> {
    if !wants_websocket(headers) {
        return Err(BadAnswer::Upgrade);
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(BadAnswer::Connection);
    }
    match lone(headers, &SEC_WEBSOCKET_ACCEPT) {
        Lone::Missing => return Err(BadAnswer::AcceptMissing),
        Lone::Repeated => return Err(BadAnswer::AcceptTwice),
        Lone::Value(value) if value.as_bytes() != accept(offer.key.as_bytes()) => {
            return Err(BadAnswer::AcceptWrong);
        }
        Lone::Value(_) => {}
    }
    let mut chosen = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(elements);
    if let Some(chosen) = chosen.next()
        && !offer.subprotocols().any(|name| name.as_bytes() == chosen)
    {
        return Err(BadAnswer::SubprotocolNotOffered);
    }
    if chosen.next().is_some() {
        return Err(BadAnswer::SubprotocolTwice);
    }
    let extensions = headers.get_all(SEC_WEBSOCKET_EXTENSIONS);
    for name in extensions.iter().flat_map(extension_names) {
        if !offer
            .extensions()
            .any(|offered| offered.as_bytes().eq_ignore_ascii_case(name))
        {
            return Err(BadAnswer::ExtensionNotOffered);
        }
    }
    Ok(())
}

/// Adds to the answer of an extended CONNECT what a 101 has beside it (RFC 8441
/// section 5 leaves it out).
pub fn complete(offer: &Offer, headers: &mut HeaderMap) {
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_bytes(&accept(offer.key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
}

/// `Sec-WebSocket-Accept` for a key as it stood in the header: the base64 of
/// SHA-1 over key and GUID (RFC 6455 section 4.2.2, item 5.4).
pub fn accept(key: &[u8]) -> [u8; 28] {
    base64(&Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// `Sec-WebSocket-Key` of a handshake of longhaul's own: the base64 of 16
/// random bytes (RFC 6455 section 4.1, item 7).
pub fn key(random: [u8; 16]) -> [u8; 24] {
    base64(&random)
}

/// What a request asks to be upgraded to (RFC 9110 section 7.8).
///
/// Tokens are read over repeated lines and comma lists, in any case.
pub fn upgrade_protocol(headers: &HeaderMap) -> Upgrade {
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Upgrade::None;
    }
    wanted(headers)
}

/// The elements of a list header (RFC 9110 section 5.6.1) over all its lines,
/// trimmed, without empty ones and without those that are not UTF-8.
///
/// For headers whose elements hold no quoted strings, as all of a handshake.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .flat_map(elements)
        .filter_map(as_str)
}

/// Whether a list header has this element, in any case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// `Upgrade` alone, whatever `Connection` says.
fn wanted(headers: &HeaderMap) -> Upgrade {
    let mut first: Option<&[u8]> = None;
    let mut several = false;
    for element in headers.get_all(UPGRADE).iter().flat_map(elements) {
        if !is_protocol(element) {
            return Upgrade::Malformed;
        }
        several |= first.is_some_and(|first| !first.eq_ignore_ascii_case(element));
        first = first.or(Some(element));
    }
    match first.and_then(as_str) {
        None => Upgrade::None,
        Some(_) if several => Upgrade::Several,
        Some(name) => Upgrade::One(name.to_ascii_lowercase()),
    }
}

/// Whether `Upgrade` names this protocol and no other.
fn wants_websocket(headers: &HeaderMap) -> bool {
    let mut elements = headers.get_all(UPGRADE).iter().flat_map(elements);
    let is_websocket = |element: &[u8]| element.eq_ignore_ascii_case(WEBSOCKET.as_bytes());
    elements.next().is_some_and(is_websocket) && elements.all(is_websocket)
}

fn check_version(headers: &HeaderMap) -> Result<(), Mistake> {
    let mut lines = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    let first = lines.next().ok_or(Mistake::VersionMissing)?;
    if first.as_bytes().trim_ascii() != VERSION.as_bytes() {
        return Err(Mistake::VersionUnknown);
    }
    match lines.next() {
        None => Ok(()),
        Some(_) => Err(Mistake::VersionTwice),
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get_all(CONTENT_LENGTH)
            .iter()
            .any(|length| length.as_bytes() != b"0")
}

enum Lone<'a> {
    Missing,
    Value(&'a HeaderValue),
    Repeated,
}

fn lone<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Lone<'a> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Lone::Missing,
        (Some(value), None) => Lone::Value(value),
        (Some(_), Some(_)) => Lone::Repeated,
    }
}

/// Clients put bearer tokens into `Sec-WebSocket-Protocol`, as browsers let
/// them set no other header: marked, so that `Debug` does not print them.
fn secret_lines(headers: &HeaderMap, name: &HeaderName) -> Vec<HeaderValue> {
    let lines = headers.get_all(name).iter().cloned();
    lines
        .map(|mut line| {
            line.set_sensitive(true);
            line
        })
        .collect()
}

fn elements(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes()
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

fn extension_names(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    elements(line)
        .filter_map(|element| element.split(|&byte| byte == b';').next())
        .map(<[u8]>::trim_ascii)
}

fn as_str(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// `protocol = token ["/" token]` (RFC 9110 section 7.8).
fn is_protocol(text: &[u8]) -> bool {
    let mut parts = text.splitn(2, |&byte| byte == b'/');
    parts.all(|part| !part.is_empty() && part.iter().all(|&byte| is_token_char(byte)))
}

/// `tchar` (RFC 9110 section 5.6.2).
fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The spare bits of the last character may be anything: decoders ignore them
/// (RFC 4648 section 3.5), and some clients make up keys character by character.
fn is_base64_of_16_bytes(text: &[u8]) -> bool {
    let Some((digits, b"==")) = text.split_last_chunk() else {
        return false;
    };
    let is_digit = |digit: &u8| digit.is_ascii_alphanumeric() || matches!(digit, b'+' | b'/');
    digits.len() == 22 && digits.iter().all(is_digit)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64 with padding; `N` is four for every three bytes begun.
fn base64<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [b'='; N];
    for (chunk, quad) in bytes.chunks(3).zip(out.chunks_mut(4)) {
        let mut word = [0; 4];
        word[1..=chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes(word);
        for (i, digit) in quad.iter_mut().take(chunk.len() + 1).enumerate() {
            *digit = ALPHABET[(word >> (18 - 6 * i)) as usize & 63];
        }
    }
    out
}

#[cfg(test)]
mod tests;
