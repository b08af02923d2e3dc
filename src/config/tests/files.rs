//! The files that are shipped are true.

use super::{all_shipped, parsed, shipped, with_defaults};
use crate::config::keys::{KEYS, MAIN};
use crate::config::{Config, load};
use std::path::Path;

fn config(path: &Path) -> Config {
    load(path).result.unwrap_or_else(|found| panic!("{found}"))
}

#[test]
fn all_parse() {
    for (main, included) in all_shipped() {
        config(&main);
        for path in std::iter::once(main).chain(included) {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# "), "{} says no why", path.display());
        }
    }
}

#[test]
fn every_included_example_is_included() {
    let files = load(&shipped("examples/includes.toml")).files;
    let below = std::fs::read_dir(shipped("examples/routes.d")).unwrap();
    assert_eq!(files.len(), 1 + below.count());
    assert!(files.len() >= 3);
}

#[test]
fn the_defaults_in_comments_are_the_defaults() {
    let text = std::fs::read_to_string(shipped("longhaul.toml")).unwrap();
    let written = with_defaults(&text)
        .replace("max_connections = 100000", "")
        .replace("max_connections_per_address = 200", "")
        .replace("workers = 2", "")
        .replace("rate = \"500/s\"", "");
    assert!(written.lines().filter(|l| l.contains('=')).count() > 40);
    let (mut written, plain) = (parsed(&written), parsed(&text));
    assert_eq!(written.admin.take().map(|admin| admin.mode), Some(0o600));
    assert_eq!(written, plain);
}

/// The text with the examples that stand in comments.
fn with_examples(text: &str) -> String {
    let line = |line: &str| {
        let example = line.strip_prefix("# ").unwrap_or_default();
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_key = example.trim_start_matches(word).starts_with(" = ");
        match is_key || example.starts_with('[') {
            true => example.to_owned(),
            false => line.to_owned(),
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_examples_in_comments_are_good() {
    let text = std::fs::read_to_string(shipped("longhaul.toml")).unwrap();
    let (plain, whole) = (parsed(&text), parsed(&with_examples(&text)));
    assert_eq!(whole.listeners.len(), plain.listeners.len() + 4);
    assert_eq!(whole.routes.len(), plain.routes.len() + 1);
    assert_eq!(whole.upstreams.len(), plain.upstreams.len() + 2);
}

/// Each key stands in a section that may have it.
#[test]
fn the_main_file_has_every_key() {
    let text = std::fs::read_to_string(shipped("longhaul.toml")).unwrap();
    let is_header = |line: &&str| line.trim_start_matches(['#', ' ']).starts_with('[');
    let header = |line: &str| line.trim_start_matches(['#', ' ']).replace("[[", "[");
    let has = |owner: &str, key: &str| {
        let mut inside = owner.is_empty();
        text.lines().any(|line| {
            if is_header(&line) {
                inside = header(line).starts_with(owner);
            }
            let mut words = line.split([' ', '#', '{', ',']);
            inside && (words.any(|word| word == key) && line.contains(&format!("{key} =")))
        })
    };
    let mut missing = Vec::new();
    for (section, keys) in KEYS {
        let owner = match section.rsplit_once(" of ") {
            Some((_, owner)) => owner,
            None => section,
        };
        let owner = owner.replace("[[", "[").replace("NAME]", "");
        let owner = owner.trim_end_matches(']');
        let is_section = |key: &&&str| {
            let tables = [
                "limits",
                "http2",
                "tcp",
                "log",
                "drain",
                "acme",
                "traces",
                "admin",
                "listeners",
                "routes",
            ];
            *section == MAIN && (tables.contains(key) || **key == "upstreams")
                || text.contains(&format!(".{key}]"))
        };
        let keys = keys.iter().filter(|key| !is_section(key));
        let owner = if *section == MAIN { "" } else { owner };
        missing.extend(
            keys.filter(|key| !has(owner, key))
                .map(|key| (section, key)),
        );
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_document_lists_every_example() {
    let document = shipped("../docs/configuration.md");
    let document = std::fs::read_to_string(document).unwrap();
    for (main, _) in all_shipped() {
        let name = main.file_name().unwrap().to_str().unwrap();
        assert!(document.contains(&format!("/{name})")), "{name}");
    }
}
