//! `[log]`, `[drain]` and `[admin]`: what concerns the whole process.

use toml::de::DeValue;

use super::diagnostic::WrittenAt;
use super::model::{Admin, Drain, Log, LogFormat};
use super::nearest::nearest;
use super::section::{Section, Value, Wrong};
use super::value::{
    MAYBE_ZERO, POSITIVE, SECOND, boolean, duration, mode, one_of, socket_path, text, wrong,
    wrong_near,
};
use crate::logging::check_level;
use crate::ws::close::may_send;

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

pub(super) fn drain(section: Section<'_>) -> Drain {
    let deadline = section.or("deadline", SECOND * 60, duration(MAYBE_ZERO));
    let window = section.or("window", deadline / 2, duration(MAYBE_ZERO));
    if window > deadline {
        section.report(
            "window",
            "`window` in [drain] is longer than `deadline`: \
             what it paces would be cut off before its turn",
        );
    }
    let drain = Drain {
        window,
        deadline,
        close_code: section.or("close_code", Some(1012), close_code),
        close_timeout: section.or("close_timeout", SECOND * 5, duration(POSITIVE)),
    };
    section.finish();
    drain
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

/// A status code that an endpoint may send (RFC 6455, 7.4.1 and 7.4.2).
fn close_code(value: &Value<'_>) -> Result<Option<u16>, Wrong> {
    let allowed = "\"none\", or a close code that may be sent: \
                   1000-1003, 1007-1014, 3000-4999";
    match value.node() {
        DeValue::String(word) if word == "none" => Ok(None),
        DeValue::Integer(number) => match number.as_str().parse() {
            Ok(code) if number.radix() == 10 && may_send(code) => Ok(Some(code)),
            _ => wrong(value, allowed),
        },
        DeValue::String(word) => wrong_near(value, allowed, nearest(word, ["none"])),
        _ => wrong(value, allowed),
    }
}
