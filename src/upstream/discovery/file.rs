//! Backends from a file in the form of Prometheus' `file_sd`: a list of groups,
//! each with `targets` and `labels`.
//!
//! Of the labels it heeds `longhaul_weight` and `longhaul_state`; all others are
//! for other readers of the file.
//!
//! Invariant: a file of which a part is wrong is wrong as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::FindError;
use crate::config::{Backend, BackendAddress, BackendState};
use crate::files::{self, FileError};

/// More than a hundred thousand backends.
const MOST_BYTES: u64 = 16 << 20;
const WEIGHT: &str = "longhaul_weight";
const STATE: &str = "longhaul_state";

#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The backends that the file lists.
///
/// # Errors
/// If it cannot be read, or says something that cannot be meant.
pub(super) async fn read(path: &Path) -> Result<Vec<Backend>, FindError> {
    let path = path.to_owned();
    // On a thread that may wait for the disk.
    let read = spawn_blocking(move || files::read(&files::open(&path)?, MOST_BYTES)).await;
    let text = read.map_err(|ended| FileError::Io(ended.into()))??;
    parse(&text)
}

fn parse(text: &[u8]) -> Result<Vec<Backend>, FindError> {
    let groups: Vec<Group> = serde_json::from_slice(text)?;
    let mut found = Vec::new();
    for group in groups {
        let weight = weight(&group.labels)?;
        let state = state(&group.labels)?;
        for target in group.targets {
            let address = BackendAddress::tcp(&target)
                .ok_or_else(|| FindError::Said(format!("{target:?} is not a host and port")))?;
            found.push(Backend {
                name: target.to_ascii_lowercase(),
                address,
                weight,
                state,
            });
        }
    }
    Ok(found)
}

fn weight(labels: &BTreeMap<String, String>) -> Result<u32, FindError> {
    let Some(written) = labels.get(WEIGHT) else {
        return Ok(1);
    };
    let weight = written.parse().ok();
    let weight = weight.filter(|weight| (1..=1000).contains(weight));
    weight.ok_or_else(|| FindError::Said(format!("{WEIGHT} {written:?} is not from 1 to 1000")))
}

fn state(labels: &BTreeMap<String, String>) -> Result<BackendState, FindError> {
    let Some(written) = labels.get(STATE) else {
        return Ok(BackendState::Active);
    };
    BackendState::of_word(written)
        .ok_or_else(|| FindError::Said(format!("{STATE} {written:?} is no state of a backend")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_with_labels_are_backends() {
        let text = br#"[
            { "targets": ["10.0.0.1:9000", "Chat-2.internal:9000"],
              "labels": { "env": "prod", "longhaul_weight": "3" } },
            { "targets": ["[FD00::1]:9000"], "labels": { "longhaul_state": "draining" } },
            { "targets": [] }
        ]"#;
        let found = parse(text).unwrap();
        let said: Vec<_> = found
            .iter()
            .map(|one| (&*one.name, one.address.to_string(), one.weight, one.state))
            .collect();
        let one = |name, address: &str, weight, state| (name, address.to_owned(), weight, state);
        assert_eq!(
            said,
            [
                one("10.0.0.1:9000", "10.0.0.1:9000", 3, BackendState::Active),
                one(
                    "chat-2.internal:9000",
                    "chat-2.internal:9000",
                    3,
                    BackendState::Active
                ),
                one(
                    "[fd00::1]:9000",
                    "[fd00::1]:9000",
                    1,
                    BackendState::Draining
                ),
            ]
        );
    }

    #[test]
    fn a_file_with_a_mistake_says_nothing() {
        for text in [
            "",
            "{}",
            r#"[{ "targets": ["10.0.0.1"] }]"#,
            r#"[{ "targets": ["a:1"], "labels": { "longhaul_weight": "0" } }]"#,
            r#"[{ "targets": ["a:1"], "labels": { "longhaul_state": "down" } }]"#,
            r#"[{ "targets": ["a:1"], "labels": { "x": 1 } }]"#,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
