//! The targets of `fuzz/` with the bytes that are kept for each, without libFuzzer:
//! so every change is tried with them, on any toolchain. `tests/long fuzz` looks
//! for new ones.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/lib.rs"]
mod targets;

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("config", targets::config),
    ("cookies", targets::cookies),
    ("frames", targets::frames),
    ("handshake", targets::handshake),
    ("head", targets::head),
    ("patterns", targets::patterns),
    ("pem", targets::pem),
    ("proxy_protocol", targets::proxy_protocol),
];

/// Bytes that are kept, of all targets.
const MOST_KEPT: usize = 64 * 1024;

/// Cuts of one kept input.
const MOST_CUTS: usize = 64;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

fn play(name: &str, file: &Path, target: Target, bytes: &[u8]) {
    let played = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    assert!(
        played.is_ok(),
        "target {name} fails for {} bytes of {}",
        bytes.len(),
        file.display()
    );
}

#[test]
fn what_is_kept_is_played_whole_and_cut() {
    let mut kept = 0;
    for (name, target) in TARGETS {
        let inputs = files(&fuzz().join("corpus").join(name));
        assert!(inputs.len() >= 4, "{name} has {}", inputs.len());
        for input in inputs {
            let bytes = fs::read(&input).expect("an input");
            kept += bytes.len();
            play(name, &input, *target, &bytes);
            let step = bytes.len().div_ceil(MOST_CUTS).max(1);
            for end in (0..bytes.len()).step_by(step) {
                play(name, &input, *target, &bytes[..end]);
            }
        }
    }
    assert!(kept <= MOST_KEPT, "{kept} bytes are kept");
}

#[test]
fn each_target_has_its_file_and_is_played_here() {
    let stem = |path: &PathBuf| {
        path.file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    let played: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let of = |directory: &str| files(&fuzz().join(directory)).iter().map(stem).collect();
    assert_eq!(played, of("fuzz_targets"));
    assert_eq!(played, of("corpus"));
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("a manifest");
    for name in &played {
        let own = format!("path = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&own), "{name} is not in fuzz/Cargo.toml");
    }
}
