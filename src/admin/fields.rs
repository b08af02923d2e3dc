//! What an operator's request says, key by key: from a query or a JSON object.
//!
//! Strict: a key that nobody asks for is an error that lists those that are.
//! It does not know what keys mean.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::Value;

/// Why a request is not answered as wished.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

/// The keys that were given and not yet read.
#[derive(Debug)]
pub(super) struct Fields {
    given: BTreeMap<String, Value>,
    known: Vec<&'static str>,
    /// All values of a query are text.
    is_query: bool,
}

impl Wrong {
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }

    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: message.into(),
        }
    }
}

impl Fields {
    pub(super) fn of_query(query: Option<&str>) -> Result<Self, Wrong> {
        let mut given = BTreeMap::new();
        let pairs = query.unwrap_or_default().split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)
                .ok_or_else(|| Wrong::bad(format!("the value of `{key}` is badly encoded")))?;
            if given.insert(key.to_owned(), Value::String(value)).is_some() {
                return Err(Wrong::bad(format!("`{key}` comes twice")));
            }
        }
        Ok(Self {
            given,
            known: Vec::new(),
            is_query: true,
        })
    }

    pub(super) fn of_body(bytes: &[u8]) -> Result<Self, Wrong> {
        let given = serde_json::from_slice(bytes)
            .map_err(|error| Wrong::bad(format!("the body is no JSON object: {error}")))?;
        Ok(Self {
            given,
            known: Vec::new(),
            is_query: false,
        })
    }

    /// A value as `read` takes it; `None` if the key is not there.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Wrong> {
        self.known.push(key);
        let Some(value) = self.given.remove(key) else {
            return Ok(None);
        };
        match read(&value) {
            Some(read) => Ok(Some(read)),
            None => Err(Wrong::bad(format!(
                "`{key}` is {value}; expected {allowed}"
            ))),
        }
    }

    /// The same of a text.
    pub(super) fn word<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Wrong> {
        self.read(key, allowed, |value| read(value.as_str()?))
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, Wrong> {
        self.word(key, "a text", |text| Some(text.to_owned()))
    }

    /// An integer from 0 to `most`.
    pub(super) fn number(&mut self, key: &'static str, most: u64) -> Result<Option<u64>, Wrong> {
        let is_query = self.is_query;
        self.read(key, &format!("an integer from 0 to {most}"), |value| {
            let number = match value {
                Value::String(text) if is_query => text.parse().ok(),
                value => value.as_u64(),
            };
            number.filter(|number| *number <= most)
        })
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Result<bool, Wrong> {
        let is_query = self.is_query;
        let flag = self.read(key, "true or false", |value| match value {
            Value::String(text) if is_query => text.parse().ok(),
            value => value.as_bool(),
        })?;
        Ok(flag.unwrap_or(false))
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), Wrong> {
        let Some(unknown) = self.given.keys().next() else {
            return Ok(());
        };
        let known = self.known.join(", ");
        Err(Wrong::bad(format!(
            "unknown key `{unknown}`; allowed: {known}"
        )))
    }
}

/// Without percent signs and pluses (as forms send them).
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, more @ ..] = rest {
        rest = more;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, after) = more.split_at_checked(2)?;
                let digits = std::str::from_utf8(digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_nobody_asks_for_is_told_with_those_that_are() {
        let mut fields = Fields::of_body(br#"{"rate": "1/s", "limt": 3}"#).unwrap();
        assert_eq!(fields.text("rate").unwrap().as_deref(), Some("1/s"));
        assert_eq!(fields.number("limit", 9).unwrap(), None);
        let wrong = fields.finish().unwrap_err();
        assert_eq!(wrong.message, "unknown key `limt`; allowed: rate, limit");
    }

    #[test]
    fn queries_are_text_and_json_is_not() {
        let mut query = Fields::of_query(Some("a=7&b=true&c=x%2Fy+z")).unwrap();
        assert_eq!(query.number("a", 7).unwrap(), Some(7));
        assert!(query.flag("b").unwrap());
        assert_eq!(query.text("c").unwrap().as_deref(), Some("x/y z"));
        query.finish().unwrap();
        let mut body = Fields::of_body(br#"{"a": "7", "b": 8}"#).unwrap();
        assert!(body.number("a", 9).is_err());
        assert!(body.number("b", 7).is_err());
        for query in ["a=1&a=2", "a=%2", "a=%zz", "a=%ff"] {
            assert!(Fields::of_query(Some(query)).is_err(), "{query}");
        }
        for body in ["", "[]", "{", "null"] {
            assert!(Fields::of_body(body.as_bytes()).is_err(), "{body}");
        }
    }
}
