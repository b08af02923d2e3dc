//! The files that are shipped are true.

use super::{all_shipped, parsed, shipped, with_defaults};
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

#[test]
fn the_document_lists_every_example() {
    let document = shipped("../docs/configuration.md");
    let document = std::fs::read_to_string(document).unwrap();
    for (main, _) in all_shipped() {
        let name = main.file_name().unwrap().to_str().unwrap();
        assert!(document.contains(&format!("/{name})")), "{name}");
    }
}
