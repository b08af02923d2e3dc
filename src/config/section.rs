//! Reads one TOML table key by key and notes every mistake in it.
//!
//! Deliberately walks the parsed table itself instead of deserializing it
//! into structs: serde stops at the first mistake and knows no places beside
//! it, while this reader goes on and has the place of every key and value.
//!
//! Invariant: a key is known because some code reads it, so the list of
//! allowed keys in a diagnostic cannot differ from what is read.

use std::cell::RefCell;
use std::sync::LazyLock;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Place, WrittenAt};
use super::findings::Findings;
use super::keys::owners;
use super::nearest::nearest;
use super::source::Source;

/// Why a value is not what its key allows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) found: String,
    pub(super) allowed: String,
    pub(super) nearest: Option<String>,
}

/// One value and how to speak of it.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub(super) source: &'a Source,
    findings: &'a Findings,
    node: &'a Spanned<DeValue<'a>>,
    /// Such as `` `format` in [log] ``.
    what: String,
}

impl<'a> Value<'a> {
    pub(super) fn node(&self) -> &'a DeValue<'a> {
        self.node.get_ref()
    }

    pub(super) fn place(&self) -> Place {
        self.source.place(self.node.span().start)
    }

    /// A finding about this value.
    pub(super) fn wrong(&self, wrong: Wrong) {
        self.findings.push(
            Diagnostic::new(self.place(), format!("wrong value of {}", self.what))
                .found(wrong.found)
                .allowed(wrong.allowed)
                .nearest(wrong.nearest),
        );
    }

    fn read<T>(&self, read: impl FnOnce(&Self) -> Result<T, Wrong>) -> Option<T> {
        read(self).map_err(|wrong| self.wrong(wrong)).ok()
    }

    /// The elements of an array; `None`, with a finding, if it is not one.
    pub(super) fn elements(&self, allowed: &str) -> Option<Vec<Self>> {
        let DeValue::Array(array) = self.node() else {
            self.wrong(Wrong {
                found: describe(self.node()),
                allowed: allowed.to_owned(),
                nearest: None,
            });
            return None;
        };
        let element = |node| Self {
            node,
            ..self.clone()
        };
        Some(array.iter().map(element).collect())
    }

    /// Like [`elements`](Self::elements), of an array of strings.
    fn words(&self, allowed: &str) -> Option<Vec<Self>> {
        if let DeValue::String(text) = self.node() {
            self.wrong(Wrong {
                found: describe(self.node()),
                allowed: allowed.to_owned(),
                nearest: Some(format!("[{}]", quoted(text))),
            });
            return None;
        }
        self.elements(allowed)
    }

    /// The table that this value is; `None`, with a finding, if it is not one.
    pub(super) fn section(&self, title: String, allowed: &str) -> Option<Section<'a>> {
        let DeValue::Table(table) = self.node() else {
            self.wrong(Wrong {
                found: describe(self.node()),
                allowed: allowed.to_owned(),
                nearest: None,
            });
            return None;
        };
        Some(Section::new(
            self.source,
            self.findings,
            table,
            self.node.span().start,
            title,
        ))
    }
}

/// One table being read.
pub(super) struct Section<'a> {
    pub(super) source: &'a Source,
    pub(super) findings: &'a Findings,
    table: &'a DeTable<'a>,
    start: usize,
    /// Such as `[limits]`.
    pub(super) title: String,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        source: &'a Source,
        findings: &'a Findings,
        table: &'a DeTable<'a>,
        start: usize,
        title: String,
    ) -> Self {
        Self {
            source,
            findings,
            table,
            start,
            title,
            asked: RefCell::default(),
        }
    }

    /// Where the section begins.
    pub(super) fn place(&self) -> Place {
        self.source.place(self.start)
    }

    pub(super) fn written_at(&self) -> WrittenAt {
        WrittenAt(self.place())
    }

    /// The value of a key, as it is.
    pub(super) fn value(&self, key: &'static str) -> Option<Value<'a>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        let (_, node) = self.table.get_key_value(key)?;
        Some(Value {
            source: self.source,
            findings: self.findings,
            node,
            what: format!("`{key}` in {}", self.title),
        })
    }

    /// The place of a key's name, or of the section if it is not there.
    pub(super) fn place_of(&self, key: &str) -> Place {
        match self.table.get_key_value(key) {
            Some((name, _)) => self.source.place(name.span().start),
            None => self.place(),
        }
    }

    /// `None` if absent or wrong.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.value(key)?.read(read)
    }

    /// `default` if absent; also if wrong, so that reading can go on.
    pub(super) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'a>) -> Result<T, Wrong>,
    ) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// `None`, with a finding, if absent or wrong.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let Some(value) = self.value(key) else {
            self.missing(key);
            return None;
        };
        value.read(read)
    }

    /// Whether a key is there, perhaps misspelt.
    pub(super) fn mentions(&self, key: &str) -> bool {
        let means = |word: &str| owners(word).is_empty() && nearest(word, [key]).is_some();
        let mut words = self.table.keys().map(|name| name.get_ref().as_ref());
        words.any(|word| word == key || means(word))
    }

    /// A finding that a key must be there.
    pub(super) fn missing(&self, key: &str) {
        if self.mentions(key) {
            return;
        }
        self.findings.absent(Diagnostic::new(
            self.place(),
            format!("missing key `{key}` in {}", self.title),
        ));
    }

    /// An array, each element read with its own finding; empty if absent.
    ///
    /// An array that is written but empty is a finding: it would read as
    /// "nothing" where it means "no restriction".
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        allowed: &str,
        read: impl Fn(&Value<'a>) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(elements) = value.words(allowed) else {
            return Vec::new();
        };
        if elements.is_empty() {
            value.wrong(Wrong {
                found: "an empty array".to_owned(),
                allowed: format!("{allowed}, not empty, or no `{key}` at all"),
                nearest: None,
            });
        }
        elements.iter().filter_map(|e| e.read(&read)).collect()
    }

    /// Like [`list`](Self::list), but may be written empty.
    pub(super) fn elements_or_none<T>(
        &self,
        key: &'static str,
        allowed: &str,
        read: impl Fn(&Value<'a>) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let elements = self.value(key).and_then(|value| value.words(allowed));
        let elements = elements.unwrap_or_default();
        elements.iter().filter_map(|e| e.read(&read)).collect()
    }

    /// The table `[key]`; if absent or wrong one without keys, which reads as
    /// all defaults.
    pub(super) fn section_or_empty(&self, key: &'static str) -> Self {
        static EMPTY: LazyLock<DeTable<'static>> = LazyLock::new(DeTable::new);
        let title = format!("[{key}]");
        let written = self.value(key);
        let section = written.and_then(|v| v.section(title.clone(), &format!("a table {title}")));
        section.unwrap_or_else(|| Self::new(self.source, self.findings, &EMPTY, self.start, title))
    }

    /// A table below this one; `None` if absent, or wrong (with a finding).
    pub(super) fn subsection(&self, key: &'static str, allowed: &str) -> Option<Self> {
        let title = format!("`{key}` of {}", self.title);
        self.value(key)?.section(title, allowed)
    }

    /// The values of a table with free keys: name, place of the name, value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Place, Value<'a>)> {
        self.table.iter().map(|(name, node)| {
            let value = Value {
                source: self.source,
                findings: self.findings,
                node,
                what: format!("`{}` in {}", name.get_ref(), self.title),
            };
            let place = self.source.place(name.span().start);
            (name.get_ref().as_ref(), place, value)
        })
    }

    /// A finding about a key, placed at its name.
    pub(super) fn report(&self, key: &str, message: impl Into<String>) {
        self.findings
            .push(Diagnostic::new(self.place_of(key), message));
    }

    /// Notes every key that nobody read.
    pub(super) fn finish(self) {
        self.finish_with(|_| None);
    }

    /// Like [`finish`](Self::finish), where `known` may say what is wrong
    /// with a key better than that it is unknown.
    pub(super) fn finish_with(self, known: impl Fn(&str) -> Option<String>) {
        let asked = self.asked.borrow();
        for (name, _) in self.table {
            let key = name.get_ref().as_ref();
            if asked.contains(&key) {
                continue;
            }
            let place = self.source.place(name.span().start);
            if let Some(message) = known(key) {
                let allowed = asked.join(", ");
                self.findings
                    .push(Diagnostic::new(place, message).allowed(allowed));
                continue;
            }
            let mut message = format!("unknown key `{key}` in {}", self.title);
            let owners = owners(key);
            let near = match owners.is_empty() {
                true => nearest(key, asked.iter().copied()),
                false => None,
            };
            if !owners.is_empty() {
                message.push_str(&format!("; it is a key of {}", owners.join(" and ")));
            }
            self.findings.push(
                Diagnostic::new(place, message)
                    .allowed(asked.join(", "))
                    .nearest(near),
            );
        }
    }
}

/// A finding if `key` is written.
pub(super) fn has_no_effect(section: &Section<'_>, key: &'static str, without: &str) {
    if section.value(key).is_some() {
        let title = &section.title;
        section.report(
            key,
            format!("`{key}` in {title} has no effect without {without}"),
        );
    }
}

/// A value as a person would name it.
pub(super) fn describe(node: &DeValue<'_>) -> String {
    match node {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the date {time}"),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A text as TOML would quote it, shortened if it would fill the screen.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
