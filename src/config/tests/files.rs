//! The files that are shipped are true.

use std::path::{Path, PathBuf};

use crate::config::{Config, load};

fn shipped(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(below)
}

fn config(path: &Path) -> Config {
    load(path).result.unwrap_or_else(|found| panic!("{found}"))
}

#[test]
fn the_main_file_parses() {
    let config = config(&shipped("longhaul.toml"));
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.routes[0].upstream, "app");
    let loaded = load(&shipped("longhaul.toml"));
    assert_eq!(loaded.files, [shipped("longhaul.toml")]);
    assert_eq!(loaded.directories, [shipped("").join("")]);
}
