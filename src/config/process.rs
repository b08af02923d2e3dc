//! `[log]`: what longhaul writes, how and where to.

use super::diagnostic::WrittenAt;
use super::model::{Log, LogFormat, TraceContext};
use super::nearest::nearest;
use super::section::{Section, Value, Wrong, has_no_effect};
use super::value::{boolean, one_of, path, share, socket_path, text, wrong, wrong_near};
use crate::logging::{AccessFormat, Destination, FIELDS, Template, TemplateError, check_level};

const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
const TRACE_CONTEXTS: &[(&str, TraceContext)] =
    &[("pass", TraceContext::Pass), ("begin", TraceContext::Begin)];
/// Where journald listens.
const JOURNALD: &str = "/run/systemd/journal/socket";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn log(section: Section<'_>) -> Log {
    let log = Log {
        format: section.or("format", LogFormat::Text, one_of(FORMATS)),
        level: section.or("level", "info".to_owned(), level),
        access: section.or("access", true, boolean),
        query_values: section.or("query_values", false, boolean),
        access_to: section.or("access_to", Destination::Log, access_to),
        access_format: section.or("access_format", AccessFormat::Json, access_format),
        sample_requests: section.or("sample_requests", 1.0, share),
        request_id: section.or("request_id", false, boolean),
        trace_context: section.or("trace_context", TraceContext::Pass, one_of(TRACE_CONTEXTS)),
        place: WrittenAt(section.place_of("access_to")),
    };
    if log.access_to == Destination::Log && log.access_format != AccessFormat::Json {
        has_no_effect(&section, "access_format", "`access_to`");
    }
    section.finish();
    log
}

/// The log, or a place for access lines alone.
fn access_to(value: &Value<'_>) -> Result<Destination, Wrong> {
    let allowed = "\"log\", \"stdout\", \"journald\", \"journald:SOCKET\", or \"file:PATH\"";
    let words = ["log", "stdout", "journald"];
    let written = text(value, allowed)?;
    match written.split_once(':') {
        Some(("file", "")) => wrong(value, allowed),
        Some(("file", file)) => {
            // For what no path may be.
            path(value)?;
            Ok(Destination::File(value.source.resolve(file)))
        }
        Some(("journald", socket)) => socket_path(value, socket).map(Destination::Journald),
        _ => match written {
            "log" => Ok(Destination::Log),
            "stdout" => Ok(Destination::Stdout),
            "journald" => Ok(Destination::Journald(JOURNALD.into())),
            word if word.starts_with(['/', '.']) => {
                wrong_near(value, allowed, Some(format!("file:{word}")))
            }
            word => wrong_near(value, allowed, nearest(word, words)),
        },
    }
}

/// `"json"`, or text with fields in braces.
fn access_format(value: &Value<'_>) -> Result<AccessFormat, Wrong> {
    let allowed = "\"json\", or a text with fields such as \"{client} {method} {path} {status}\"";
    let written = text(value, allowed)?;
    if written == "json" {
        return Ok(AccessFormat::Json);
    }
    match Template::parse(written) {
        Ok(_) if written.chars().any(char::is_control) => wrong(value, "a text of one line"),
        Ok(template) => Ok(AccessFormat::Template(template)),
        Err(TemplateError::Unknown(name)) => {
            let near = nearest(&name, FIELDS.iter().copied()).map(|near| format!("{{{near}}}"));
            let allowed = format!("\"json\", or a text with fields: {}", FIELDS.join(", "));
            wrong_near(value, allowed, near)
        }
        Err(TemplateError::Brace) => wrong(value, "every brace with its other half, or twice"),
        Err(TemplateError::NoField) => wrong_near(value, allowed, nearest(written, ["json"])),
    }
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
