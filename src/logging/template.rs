//! The format of an access line that an operator writes: text with the names of
//! fields in braces.
//!
//! It is checked when the config is read, and knows no event: whoever has one
//! says what the fields are.

use std::fmt::{self, Write};

/// Every name that may stand in braces: the fields of the access lines, and
/// what every line of the log has.
pub const FIELDS: &[&str] = &[
    "time",
    "message",
    "id",
    "listener",
    "client",
    "forwarded_for",
    "http",
    "tls",
    "sni",
    "client_subject",
    "host",
    "method",
    "path",
    "route",
    "upstream",
    "backend",
    "sticky",
    "request_id",
    "trace_id",
    "status",
    "bytes_in",
    "bytes_out",
    "messages_in",
    "messages_out",
    "duration_ms",
    "ended_by",
    "cause",
    "client_close_code",
    "backend_close_code",
    "refusal",
    "reason",
    "cut",
];

/// Fields of longhaul's own words, of which some are more than one; nothing that
/// a client sends is in them.
const OWN_WORDS: &[&str] = &["message", "cause"];
/// What stands between columns, if the format has it there; a space always does.
const SEPARATORS: [char; 3] = [',', ';', '|'];

/// A format that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// What would end a column that is not quoted.
    separators: Vec<char>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { name: &'static str, quoted: bool },
}

/// Why a text is no format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// There is no field of this name.
    Unknown(String),
    /// A brace has no other half.
    Brace,
    /// It names no field at all.
    NoField,
}

impl Template {
    /// `{name}` is a field, `{{` and `}}` are braces.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut plain) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let (name, after) = match brace {
                "{" => rest.split_once('}').ok_or(TemplateError::Brace)?,
                _ => return Err(TemplateError::Brace),
            };
            let known = FIELDS.iter().find(|field| **field == name);
            let field = known.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Field {
                name: field,
                quoted: false,
            });
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        match parts.iter().any(|part| matches!(part, Part::Field { .. })) {
            true => Ok(Self::of(parts)),
            false => Err(TemplateError::NoField),
        }
    }

    /// Finds out which fields stand between quotes, and what separates the others.
    fn of(mut parts: Vec<Part>) -> Self {
        let (mut inside, mut separators) = (false, vec![' ']);
        for part in &mut parts {
            match part {
                Part::Field { quoted, .. } => *quoted = inside,
                Part::Text(text) => {
                    for c in text.chars() {
                        inside ^= c == '"';
                        if !inside && SEPARATORS.contains(&c) {
                            separators.push(c);
                        }
                    }
                }
            }
        }
        Self { parts, separators }
    }

    /// Writes a line of what `value` says; `-` where a field has nothing.
    pub(super) fn write<'v>(
        &self,
        to: &mut dyn Write,
        value: impl Fn(&str) -> Option<&'v str>,
    ) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => to.write_str(text)?,
                Part::Field { name, quoted } => {
                    let whole = *quoted || OWN_WORDS.contains(name);
                    let ends = if whole { &[] } else { &*self.separators };
                    match value(name).filter(|value| !value.is_empty()) {
                        Some(value) => write_column(to, value, ends)?,
                        None => to.write_char('-')?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// What clients send must not end a line, or a quoted part of one.
pub(super) fn write_escaped(to: &mut dyn Write, value: &str) -> fmt::Result {
    write_column(to, value, &[])
}

/// Nor a column that one of these ends.
fn write_column(to: &mut dyn Write, value: &str, ends: &[char]) -> fmt::Result {
    for c in value.chars() {
        let ends_it = ends.contains(&c) || !ends.is_empty() && c.is_whitespace();
        match c {
            c if ends_it || c.is_control() || matches!(c, '"' | '\\') => {
                write!(to, "\\x{:02x}", u32::from(c))?;
            }
            c => to.write_char(c)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: &str) -> String {
        let mut line = String::new();
        let value = |name: &str| match name {
            "host" => Some("a\"b\\c\nd"),
            "method" => Some("GET"),
            "sni" => Some("a - b,c|d"),
            "cause" => Some("close 1000"),
            _ => None,
        };
        Template::parse(format)
            .unwrap()
            .write(&mut line, value)
            .unwrap();
        line
    }

    #[test]
    fn fields_braces_and_what_is_missing() {
        assert_eq!(line("{method}"), "GET");
        assert_eq!(line("{{{method}}} {status}."), "{GET} -.");
        assert_eq!(line("\"{host}\""), "\"a\\x22b\\x5cc\\x0ad\"");
    }

    #[test]
    fn no_value_is_more_than_its_column() {
        for (format, wanted) in [
            ("{sni} {method}", "a\\x20-\\x20b,c|d GET"),
            ("{sni},{method}", "a\\x20-\\x20b\\x2cc|d,GET"),
            ("{sni}|{cause}", "a\\x20-\\x20b,c\\x7cd|close 1000"),
            (
                "\"{method} {sni}\" {sni}",
                "\"GET a - b,c|d\" a\\x20-\\x20b,c|d",
            ),
            ("\"{method}, {sni}\"", "\"GET, a - b,c|d\""),
            ("{host} {cause}", "a\\x22b\\x5cc\\x0ad close 1000"),
        ] {
            assert_eq!(line(format), wanted, "{format}");
        }
    }

    #[test]
    fn what_is_no_format_is_told() {
        for (format, error) in [
            ("{metod}", TemplateError::Unknown("metod".to_owned())),
            ("{}", TemplateError::Unknown(String::new())),
            ("{method", TemplateError::Brace),
            ("method}", TemplateError::Brace),
            ("combined", TemplateError::NoField),
            ("{{method}}", TemplateError::NoField),
            ("", TemplateError::NoField),
        ] {
            assert_eq!(Template::parse(format), Err(error), "{format}");
        }
    }
}
