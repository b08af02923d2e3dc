//! `[log]` and `[admin]`: what concerns the whole process.

use std::net::SocketAddr;

use super::diagnostic::WrittenAt;
use super::model::{Admin, Log, LogFormat};
use super::nearest::nearest;
use super::section::{Section, Value, Wrong, has_no_effect};
use super::value::{boolean, mode, one_of, path, socket_path, text, wrong, wrong_near};
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

/// `None` if there is no usable address in it.
pub(super) fn admin(section: Section<'_>) -> Option<Admin> {
    let socket = section.optional("socket", |value| {
        let written = text(value, "the path of a socket")?;
        socket_path(value, written.strip_prefix("unix:").unwrap_or(written))
    });
    let key = match section.value("socket") {
        Some(_) => "socket",
        None => "listen",
    };
    let admin = Admin {
        socket,
        mode: section.or("mode", 0o600, mode),
        listen: section.optional("listen", listen),
        token_file: section.optional("token_file", path),
        read_token_file: section.optional("read_token_file", path),
        place: WrittenAt(section.place_of(key)),
    };
    let written = |key| section.value(key).is_some();
    if !written("listen") {
        for key in ["token_file", "read_token_file"] {
            has_no_effect(&section, key, "`listen`");
        }
    }
    match (written("socket"), written("listen")) {
        (false, false) => section.missing("socket"),
        (false, true) => has_no_effect(&section, "mode", "`socket`"),
        (true, _) => {}
    }
    let tokens = ["token_file", "read_token_file"].map(|key| section.value(key));
    if let Some(address) = admin.listen.filter(|it| !it.ip().is_loopback())
        && tokens.iter().all(Option::is_none)
    {
        let message = format!(
            "`listen` in [admin] is {address}, which others than this machine reach, without a \
             `token_file`"
        );
        section.report("listen", message);
    }
    section.finish();
    (admin.socket.is_some() || admin.listen.is_some()).then_some(admin)
}

fn listen(value: &Value<'_>) -> Result<SocketAddr, Wrong> {
    let allowed = "an IP address and port such as \"127.0.0.1:9000\" or \"[::1]:9000\"";
    let written = text(value, allowed)?;
    match (written.parse(), written.rsplit_once(':')) {
        (Ok(address), _) => Ok(address),
        (Err(_), Some(("localhost" | "", port))) if port.parse::<u16>().is_ok() => {
            wrong_near(value, allowed, Some(format!("127.0.0.1:{port}")))
        }
        _ => wrong(value, allowed),
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
