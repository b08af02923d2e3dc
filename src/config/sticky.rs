//! `sticky`: where an upstream's sticky key comes from.

use http::HeaderName;
use toml::de::DeValue;

use super::model::{Balance, StickySource};
use super::nearest::nearest;
use super::section::{Section, Value, Wrong};
use super::value::{text, wrong, wrong_near};

const SOURCES: &str = "\"cookie:NAME\", \"header:NAME\", \"query:NAME\", \"path:NUMBER\", \
                       \"client_ip\", \"cookie\", or an array of them";
const WORDS: [&str; 5] = ["cookie", "header", "query", "path", "client_ip"];

/// The sources in their order, or the default of `balance`.
pub(super) fn sources(section: &Section<'_>, balance: Balance) -> Vec<StickySource> {
    let usual = match balance {
        Balance::Hash => vec![StickySource::ClientIp],
        _ => Vec::new(),
    };
    let Some(value) = section.value("sticky") else {
        return usual;
    };
    let elements = match value.node() {
        DeValue::String(_) => vec![value.clone()],
        _ => value.elements(SOURCES).unwrap_or_default(),
    };
    if elements.is_empty() && value.node().is_array() && balance == Balance::Hash {
        value.wrong(Wrong {
            found: "an empty array".to_owned(),
            allowed: format!("{SOURCES}: `balance = \"hash\"` needs something to hash"),
            nearest: None,
        });
    }
    let mut sources = Vec::new();
    for element in elements {
        match source(&element) {
            Ok(source) if sources.contains(&source) => element.wrong(Wrong {
                found: format!("{:?} for the second time", written(&element)),
                allowed: "each source once".to_owned(),
                nearest: None,
            }),
            Ok(_) if sources.contains(&StickySource::ClientIp) => element.wrong(Wrong {
                found: format!("{:?} behind \"client_ip\"", written(&element)),
                allowed: "\"client_ip\" as the last source only: it is always present".to_owned(),
                nearest: None,
            }),
            Ok(source) => sources.push(source),
            Err(wrong) => element.wrong(wrong),
        }
    }
    sources
}

/// The name of a cookie: a token (RFC 6265, 4.1.1).
pub(super) fn cookie_name(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "a cookie name: letters, digits and !#$%&'*+-.^_`|~";
    let name = text(value, allowed)?;
    if !is_token(name) {
        return wrong(value, allowed);
    }
    Ok(name.to_owned())
}

fn source(value: &Value<'_>) -> Result<StickySource, Wrong> {
    let found = text(value, SOURCES)?;
    let (kind, name) = match found.split_once(':') {
        None => (found, None),
        Some((kind, name)) => (kind, Some(name)),
    };
    match (kind, name) {
        ("client_ip", None) => Ok(StickySource::ClientIp),
        ("cookie", None) => Ok(StickySource::OwnCookie),
        ("cookie", Some(name)) if is_token(name) => Ok(StickySource::Cookie(name.to_owned())),
        ("cookie", Some(_)) => wrong(value, "\"cookie:\" and the name of a cookie"),
        ("header", Some(name)) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Ok(StickySource::Header(name)),
            Err(_) => wrong(value, "\"header:\" and the name of a header"),
        },
        ("query", Some(name)) if !name.is_empty() => Ok(StickySource::Query(name.to_owned())),
        ("query", Some(_)) => wrong(value, "\"query:\" and the name of a query parameter"),
        ("path", Some(number)) => match number.parse() {
            Ok(number @ 1..=100) => Ok(StickySource::PathSegment(number)),
            _ => wrong(
                value,
                "\"path:\" and the number of a segment, from 1 to 100",
            ),
        },
        _ => {
            let near = nearest(kind, WORDS).filter(|near| near != kind);
            let near = near.map(|kind| match name {
                Some(name) if kind != "client_ip" => format!("{kind}:{name}"),
                _ => kind,
            });
            wrong_near(value, SOURCES, near)
        }
    }
}

fn written(value: &Value<'_>) -> String {
    value.node().as_str().unwrap_or_default().to_owned()
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
