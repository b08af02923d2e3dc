//! `basic_auth` and `jwt` of a route: who a request must say it is, by what it
//! carries itself.
//!
//! The values beside their readers; the checking is `identity`'s, and the files
//! are read when a snapshot is made.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::auth::settable;
use super::diagnostic::Diagnostic;
use super::drain::close_code;
use super::key_source::{KeySource, key_source};
use super::model::Config;
use super::named_files::NamedFiles;
use super::section::{Section, Value, Wrong};
use super::value::{LEEWAY, SECOND, duration, label, path, text, wrong, wrong_near};

/// A password that a users file knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    pub users: PathBuf,
    /// What a browser shows to whoever it asks.
    pub realm: String,
    /// The header in which the backend gets the name.
    pub user_header: Option<HeaderName>,
}

/// A signed token (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    pub keys: KeySource,
    /// The first that a request has is taken.
    pub from: Vec<TokenSource>,
    /// Of [`ALGORITHMS`]; empty: those that fit the keys.
    pub algorithms: Vec<String>,
    /// Empty: any, or none.
    pub issuer: Vec<String>,
    /// Empty: any, or none.
    pub audience: Vec<String>,
    /// For clocks that differ.
    pub leeway: Duration,
    /// Headers that the backend gets, each from a claim.
    pub set_headers: Vec<(HeaderName, String)>,
    /// The status code of the Close frame when the token has expired; `None`
    /// closes without one.
    pub close_code: Option<u16>,
}

/// Where a token may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer` (RFC 6750).
    Header,
    Cookie(String),
    Query(String),
    /// A WebSocket subprotocol with this before the token: browsers can set no
    /// headers of a handshake.
    Subprotocol(String),
}

/// Names of what may be a token in the query of some route's requests.
pub fn token_queries(config: &Config) -> Vec<String> {
    let sources = config.routes.iter().filter_map(|route| route.jwt.as_ref());
    let name = |source: &TokenSource| match source {
        TokenSource::Query(name) => Some(name.clone()),
        _ => None,
    };
    sources.flat_map(|jwt| &jwt.from).filter_map(name).collect()
}

/// Signatures that are understood; `none` is not one.
pub const ALGORITHMS: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

/// The default of `close_code`: "policy violation" (RFC 6455, 7.4.1).
const POLICY: u16 = 1008;

/// `None` if there is no such table, or no file in it.
pub(super) fn basic_auth(section: &Section<'_>, files: &mut NamedFiles) -> Option<BasicAuth> {
    let table = section.subsection("basic_auth", "a table such as { users = \"FILE\" }")?;
    let users = file(&table, "users", files);
    let auth = BasicAuth {
        users: PathBuf::new(),
        realm: table.or("realm", "longhaul".to_owned(), realm),
        user_header: table.optional("user_header", settable),
    };
    table.finish();
    Some(BasicAuth {
        users: users?,
        ..auth
    })
}

/// `None` if there is no such table, or no file in it.
pub(super) fn jwt(section: &Section<'_>, files: &mut NamedFiles) -> Option<Jwt> {
    let table = section.subsection("jwt", "a table such as { keys = \"FILE\" }")?;
    let keys = key_source(&table, files);
    let mut from = table.list("from", SOURCES, source);
    if from.is_empty() {
        from.push(TokenSource::Header);
    }
    let names = "an array of names, each as the token has it";
    let allowed = format!("an array of {}", ALGORITHMS.join(", "));
    let algorithms = table.list("algorithms", &allowed, algorithm);
    if matches!(keys, Some(KeySource::Url(_))) {
        no_secrets(&table, &algorithms);
    }
    let jwt = Jwt {
        // Until it is known that there is one.
        keys: KeySource::File(PathBuf::new()),
        from,
        algorithms,
        issuer: table.list("issuer", names, label),
        audience: table.list("audience", names, label),
        leeway: table.or("leeway", SECOND * 30, duration(LEEWAY)),
        set_headers: claims(&table),
        close_code: table.or("close_code", Some(POLICY), close_code),
    };
    table.finish();
    Some(Jwt { keys: keys?, ..jwt })
}

/// What is fetched over a network, and by many, is no secret.
fn no_secrets(table: &Section<'_>, algorithms: &[String]) {
    if let Some(name) = algorithms.iter().find(|name| name.starts_with("HS")) {
        let title = &table.title;
        let message = format!(
            "`algorithms` in {title} has {name}, which needs a secret: a URL in `keys` has \
             public keys alone"
        );
        table.report("algorithms", message);
    }
}

/// Both would be asked for in the one `Authorization`.
pub(super) fn exclude_each_other(section: &Section<'_>) {
    if section.value("basic_auth").is_some() && section.value("jwt").is_some() {
        let title = &section.title;
        let message = format!("`basic_auth` and `jwt` in {title} exclude each other");
        section.report("jwt", message);
    }
}

fn file(table: &Section<'_>, key: &'static str, files: &mut NamedFiles) -> Option<PathBuf> {
    let file = table.required(key, path)?;
    files.add(&file, table.value(key)?.place());
    Some(file)
}

/// It stands in quotes in a header (RFC 9110, 11.5).
fn realm(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "a text without quotes and backslashes";
    let written = text(value, allowed)?;
    match HeaderValue::from_str(written) {
        Ok(_) if !written.contains(['"', '\\']) && written.is_ascii() => Ok(written.to_owned()),
        _ => wrong(value, allowed),
    }
}

const SOURCES: &str =
    "\"header\", \"cookie:NAME\", \"query:NAME\" or \"subprotocol:PREFIX\", in an array";

fn source(value: &Value<'_>) -> Result<TokenSource, Wrong> {
    let written = text(value, SOURCES)?;
    let is_token = |text: &str| HeaderName::from_bytes(text.as_bytes()).is_ok();
    match written.split_once(':') {
        None if written == "header" => Ok(TokenSource::Header),
        None if written == "bearer" => wrong_near(value, SOURCES, Some("header".to_owned())),
        Some(("cookie", name)) if is_token(name) => Ok(TokenSource::Cookie(name.to_owned())),
        Some(("query", name)) if is_token(name) => Ok(TokenSource::Query(name.to_owned())),
        Some(("subprotocol", prefix)) if is_token(prefix) => {
            Ok(TokenSource::Subprotocol(prefix.to_owned()))
        }
        _ => wrong(value, SOURCES),
    }
}

fn algorithm(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = ALGORITHMS.join(", ");
    let written = text(value, &allowed)?;
    if ALGORITHMS.contains(&written) {
        return Ok(written.to_owned());
    }
    let near = ALGORITHMS
        .iter()
        .find(|it| it.eq_ignore_ascii_case(written));
    wrong_near(value, allowed, near.map(|near| (*near).to_owned()))
}

fn claims(section: &Section<'_>) -> Vec<(HeaderName, String)> {
    let Some(table) = section.subsection("set_headers", "a table such as { x-user = \"sub\" }")
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, at, value) in table.entries() {
        match super::auth::settable_name(name) {
            Some(header) => match label(&value) {
                Ok(claim) => found.push((header, claim)),
                Err(wrong) => value.wrong(wrong),
            },
            None => {
                let title = &table.title;
                let message = format!("`{name}` in {title} is no header that may be set");
                table.findings.push(Diagnostic::new(at, message));
            }
        }
    }
    found
}
