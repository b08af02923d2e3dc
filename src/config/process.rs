//! `[log]` and `[admin]`: what concerns the whole process.

use super::diagnostic::WrittenAt;
use super::model::{Admin, Log, LogFormat};
use super::nearest::nearest;
use super::section::{Section, Value, Wrong};
use super::value::{boolean, mode, one_of, socket_path, text, wrong, wrong_near};
use crate::logging::check_level;

const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn log(section: Section<'_>) -> Log {
    let log = Log {
        format: section.or("format", LogFormat::Text, one_of(FORMATS)),
        level: section.or("level", "info".to_owned(), level),
        access: section.or("access", true, boolean),
        query_values: section.or("query_values", false, boolean),
    };
    section.finish();
    log
}

/// `None` if there is no usable `socket`.
pub(super) fn admin(section: Section<'_>) -> Option<Admin> {
    let socket = section.required("socket", |value| {
        let written = text(value, "the path of a socket")?;
        socket_path(value, written.strip_prefix("unix:").unwrap_or(written))
    });
    let mode = section.or("mode", 0o600, mode);
    let place = WrittenAt(section.place_of("socket"));
    section.finish();
    Some(Admin {
        socket: socket?,
        mode,
        place,
    })
}

/// A `tracing` filter. A bare word that is no level would be taken for a
/// target by the filter, and show everything of nothing.
fn level(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "\"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a filter such as \
         \"info,longhaul::tunnel=debug\"";
    let written = text(value, allowed)?;
    let words = written.split(',').map(str::trim);
    for word in words.filter(|word| !word.contains(['=', '['])) {
        if !LEVELS.contains(&word) {
            return wrong_near(value, allowed, nearest(word, LEVELS));
        }
    }
    match check_level(written) {
        Ok(()) => Ok(written.to_owned()),
        Err(_) => wrong(value, allowed),
    }
}
