//! The room as a whole: texts in, configs or diagnostics out.

mod document;
mod files;
mod loading;
mod messages;
mod mutations;
mod random;
mod values;

use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::source::Source;
use super::{Config, Diagnostics, load};

/// A file below `config`, as shipped.
fn shipped(below: &str) -> PathBuf {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    config.join(below)
}

/// The main file and every example, each with what it includes.
fn all_shipped() -> Vec<(PathBuf, Vec<PathBuf>)> {
    let examples = std::fs::read_dir(shipped("examples")).unwrap();
    let examples = examples.map(|entry| entry.unwrap().path());
    let mut main_files: Vec<_> = examples.filter(|path| path.is_file()).collect();
    main_files.sort();
    assert!(main_files.len() >= 15, "examples are missing");
    main_files.push(shipped("longhaul.toml"));
    let with_included = |main: PathBuf| {
        let included = load(&main).files.into_iter().skip(1).collect();
        (main, included)
    };
    main_files.into_iter().map(with_included).collect()
}

/// The text with the defaults that stand in comments.
fn with_defaults(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with([' ', '-']) && !key.is_empty() => key.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The pure core, with nothing found before.
fn parse(main: &Source, included: &[Source]) -> Result<Config, Diagnostics> {
    super::parse::parse(main, included, Findings::default())
}

fn parsed(text: &str) -> Config {
    match parse(&Source::new("/etc/longhaul/longhaul.toml", text), &[]) {
        Ok(config) => config,
        Err(found) => panic!("{found}\nin\n{text}"),
    }
}

fn found(text: &str) -> String {
    match parse(&Source::new("longhaul.toml", text), &[]) {
        Ok(_) => panic!("nothing found in\n{text}"),
        Err(found) => found.to_string(),
    }
}
