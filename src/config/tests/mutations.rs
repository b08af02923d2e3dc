//! Every key of every shipped file misspelt and every value made wrong: each
//! gives a finding on its line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Source, all_shipped, parse, with_defaults};
use crate::config::Diagnostics;

/// One main file with what it includes, and which of them is changed.
struct Case {
    sources: Vec<(String, String)>,
    changed: usize,
}

impl Case {
    fn text(&self) -> &str {
        &self.sources[self.changed].1
    }

    /// The findings after the bytes of `span` became `new`.
    fn with(&self, span: std::ops::Range<usize>, new: &str) -> Result<(), Diagnostics> {
        let mut sources: Vec<_> = self
            .sources
            .iter()
            .map(|(name, text)| Source::new(name, text.as_str()))
            .collect();
        let mut text = self.text().to_owned();
        text.replace_range(span, new);
        sources[self.changed] = Source::new(&self.sources[self.changed].0, text);
        parse(&sources[0], &sources[1..]).map(|_| ())
    }

    fn expect_finding(&self, span: std::ops::Range<usize>, new: &str) {
        let line = self.text()[..span.start].matches('\n').count() + 1;
        let name = &self.sources[self.changed].0;
        let what = format!("{name}:{line}: {:?} as {new:?}", &self.text()[span.clone()]);
        let found = self.with(span, new).expect_err(&what);
        let mut places = found.iter().map(|d| &d.place);
        assert!(
            places.any(|at| *at.file == **name && at.line == line),
            "{what} gives\n{found}"
        );
    }
}

fn cases() -> Vec<Case> {
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), with_defaults(&text))
    };
    let mut cases = Vec::new();
    for (main, included) in all_shipped() {
        let files = std::iter::once(main).chain(included);
        let sources: Vec<_> = files.map(read).collect();
        cases.extend((0..sources.len()).map(|changed| Case {
            sources: sources.clone(),
            changed,
        }));
    }
    for case in cases.iter().filter(|case| case.changed == 0) {
        case.with(0..0, "").unwrap();
    }
    cases
}

/// Calls `each` with every fixed key and every plain value.
fn walk<'a>(
    table: &'a DeTable<'a>,
    free_keys: bool,
    each: &mut dyn FnMut(&'a str, &'a Spanned<DeValue<'a>>, Option<std::ops::Range<usize>>),
) {
    for (name, value) in table {
        let key = name.get_ref().as_ref();
        each(key, value, (!free_keys).then(|| name.span()));
        let free =
            !free_keys && matches!(key, "listeners" | "upstreams" | "headers" | "set_headers");
        walk_value(key, value, free, each);
    }
}

fn walk_value<'a>(
    key: &'a str,
    value: &'a Spanned<DeValue<'a>>,
    free: bool,
    each: &mut dyn FnMut(&'a str, &'a Spanned<DeValue<'a>>, Option<std::ops::Range<usize>>),
) {
    match value.get_ref() {
        DeValue::Table(table) => walk(table, free, each),
        DeValue::Array(array) => {
            for element in array {
                each(key, element, None);
                walk_value(key, element, false, each);
            }
        }
        _ => {}
    }
}

#[test]
fn each_key_misspelt() {
    let mut seen = 0;
    for case in cases() {
        let table = DeTable::parse(case.text()).unwrap();
        walk(table.get_ref(), false, &mut |key, _, span| {
            let Some(span) = span else { return };
            case.expect_finding(span.clone(), &format!("{key}x"));
            case.expect_finding(span.clone(), &key.replace('e', "ee").to_uppercase());
            case.expect_finding(span, "zzzzzz");
            seen += 1;
        });
    }
    assert!(seen > 300, "only {seen} keys");
}

#[test]
fn each_value_of_a_wrong_type() {
    let mut seen = 0;
    for case in cases() {
        let table = DeTable::parse(case.text()).unwrap();
        walk(table.get_ref(), false, &mut |_, value, _| {
            let span = value.span();
            // What a header stands for spans the header only.
            let has_header =
                case.text()[span.clone()].starts_with('[') && value.get_ref().is_table();
            let is_value = !case.text()[..span.start].ends_with(['[', '.']) || span.is_empty();
            if has_header || !is_value || has_header_array(value, case.text()) {
                return;
            }
            for new in ["1979-05-27", "nan", "-1"] {
                case.expect_finding(span.clone(), new);
            }
            seen += 1;
        });
    }
    assert!(seen > 300, "only {seen} values");
}

fn has_header_array(value: &Spanned<DeValue<'_>>, text: &str) -> bool {
    text[value.span()].starts_with("[[")
}

#[test]
fn each_line_left_out_and_each_file_cut_short() {
    let mut seen = 0;
    for case in cases() {
        let text = case.text();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            // Whether it is still a config is not the question here.
            let _ = case.with(start..start + line.len(), "");
            let _ = case.with(start + line.len() / 2..text.len(), "");
            start += line.len();
            seen += 1;
        }
    }
    assert!(seen > 500, "only {seen} lines");
}
