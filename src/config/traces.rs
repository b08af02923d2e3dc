//! `[traces]`: where spans of handshakes and tunnels are sent.
//!
//! The values beside their reader; the sending is `otlp`'s.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::auth::settable_name;
use super::diagnostic::{Diagnostic, WrittenAt};
use super::key_source::Url;
use super::named_files::NamedFiles;
use super::section::{Section, Value, Wrong, has_no_effect};
use super::value::{POSITIVE, SECOND, duration, label, path, share, text, wrong};

/// A collector that speaks OTLP over HTTP, in protobuf.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    pub endpoint: Url,
    /// The only CAs to trust; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// What it wants to be told beside the spans, such as a token.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `service.name`.
    pub service_name: String,
    /// Of the handshakes that belong to no trace yet.
    pub sample: f64,
    /// For one request to the collector.
    pub timeout: Duration,
    pub place: WrittenAt,
}

/// `None` if nothing says where.
pub(super) fn traces(section: Section<'_>, files: &mut NamedFiles) -> Option<Traces> {
    let endpoint = section.required("endpoint", endpoint);
    let ca = section.optional("ca", path);
    if let (Some(ca), Some(value)) = (&ca, section.value("ca")) {
        files.add(ca, value.place());
    }
    if endpoint.as_ref().is_some_and(|url| !url.is_https) {
        has_no_effect(&section, "ca", "https in `endpoint`");
    }
    let headers = headers(&section);
    let service_name = section.or("service_name", "longhaul".to_owned(), label);
    let sample = section.or("sample", 1.0, share);
    let timeout = section.or("timeout", SECOND * 10, duration(POSITIVE));
    let place = WrittenAt(section.place_of("endpoint"));
    section.finish();
    Some(Traces {
        endpoint: endpoint?,
        ca,
        headers,
        service_name,
        sample,
        timeout,
        place,
    })
}

fn endpoint(value: &Value<'_>) -> Result<Url, Wrong> {
    let allowed = "a URL such as \"http://127.0.0.1:4318/v1/traces\"";
    let written = text(value, allowed)?;
    match Url::parse_anywhere(written) {
        Some(url) => Ok(url),
        None => wrong(value, allowed),
    }
}

fn headers(section: &Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let allowed = "a table such as { x-token = \"TOKEN\" }";
    let Some(table) = section.subsection("headers", allowed) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, at, value) in table.entries() {
        match settable_name(name) {
            Some(header) => match header_value(&value) {
                Ok(text) => found.push((header, text)),
                Err(wrong) => value.wrong(wrong),
            },
            None => {
                let title = &table.title;
                let message = format!("`{name}` in {title} is no header that may be set");
                table.findings.push(Diagnostic::new(at, message));
            }
        }
    }
    found
}

fn header_value(value: &Value<'_>) -> Result<HeaderValue, Wrong> {
    let allowed = "the value of a header";
    let written = text(value, allowed)?;
    match HeaderValue::from_str(written) {
        Ok(mut found) => {
            found.set_sensitive(true);
            Ok(found)
        }
        Err(_) => wrong(value, allowed),
    }
}
