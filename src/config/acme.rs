//! `[acme]`: the CA that longhaul asks for certificates, and how (RFC 8555).
//!
//! Which names it is asked for is said by listeners and routes: `acme_names`.

use std::path::PathBuf;
use std::time::Duration;

use super::diagnostic::WrittenAt;
use super::named_files::NamedFiles;
use super::section::{Section, Value, Wrong};
use super::value::wrong_near;
use super::value::{POSITIVE, boolean, duration, label, one_of, path, share, text, wrong};

/// Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
const STORAGE: &str = "/var/lib/longhaul/acme";
const CHALLENGES: &[(&str, Challenge)] = &[
    ("http-01", Challenge::Http01),
    ("tls-alpn-01", Challenge::TlsAlpn01),
];
/// A third: of 90 days the last 30, as the CA's own advice is.
const RENEWAL: f64 = 0.33;
const MINUTE: Duration = Duration::from_secs(60);

/// Certificates by ACME.
#[derive(Clone, Debug, PartialEq)]
pub struct Acme {
    /// The URL of the CA's directory (RFC 8555 section 7.1.1); `https`.
    pub directory: String,
    /// The only CAs to trust for that URL; `None` is the system's.
    pub ca: Option<PathBuf>,
    /// URLs such as `mailto:ops@example.com`.
    pub contact: Vec<String>,
    /// What binds the account to one that the CA knows already.
    pub external_account: Option<ExternalAccount>,
    /// The directory of accounts, keys and certificates.
    pub storage: PathBuf,
    /// In the order in which they are tried; at least one.
    pub challenges: Vec<Challenge>,
    /// The share of a certificate's life that is left when it is renewed.
    pub renewal: f64,
    /// For all of one order, from the account to the certificate.
    pub order_timeout: Duration,
    /// After the first failure in a row; each more doubles it.
    pub retry_interval: Duration,
    pub max_retry_interval: Duration,
    pub place: WrittenAt,
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    pub key_id: String,
    /// Holds the MAC key, in base64url.
    pub key_file: PathBuf,
}

/// How the CA is shown that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Challenge {
    /// A request to a plain listener (RFC 8555 section 8.3).
    Http01,
    /// A handshake with a TLS listener (RFC 8737).
    TlsAlpn01,
}

impl Challenge {
    /// As the config and the protocol write it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// `None` if something is wrong with it.
pub(super) fn acme(section: Section<'_>, files: &mut NamedFiles) -> Option<Acme> {
    let directory = section.or("directory", DIRECTORY.to_owned(), directory);
    let ca = section.optional("ca", path);
    if let (Some(ca), Some(value)) = (&ca, section.value("ca")) {
        files.add(ca, value.place());
    }
    let contact = section.list("contact", CONTACTS, contact);
    let agreed = section.required("agree_to_terms", boolean);
    if agreed == Some(false) {
        let message = "`agree_to_terms` in [acme] is false: the CA gives certificates only to \
                       those who agree to its terms of service";
        section.report("agree_to_terms", message);
    }
    let external_account = external_account(&section, files);
    let storage = section.or("storage", PathBuf::from(STORAGE), path);
    let mut challenges = section.list(
        "challenges",
        "an array of \"http-01\" and \"tls-alpn-01\"",
        one_of(CHALLENGES),
    );
    if challenges.is_empty() {
        challenges = CHALLENGES.iter().map(|(_, challenge)| *challenge).collect();
    }
    let acme = Acme {
        directory,
        ca,
        contact,
        external_account,
        storage,
        challenges,
        renewal: section.or("renewal", RENEWAL, renewal),
        order_timeout: section.or("order_timeout", 5 * MINUTE, duration(POSITIVE)),
        retry_interval: section.or("retry_interval", 2 * MINUTE, duration(POSITIVE)),
        max_retry_interval: section.or("max_retry_interval", 360 * MINUTE, duration(POSITIVE)),
        place: WrittenAt(section.place()),
    };
    if acme.max_retry_interval < acme.retry_interval {
        let message = "`max_retry_interval` in [acme] is shorter than `retry_interval`";
        section.report("max_retry_interval", message);
    }
    section.finish();
    agreed.map(|_| acme)
}

fn external_account(section: &Section<'_>, files: &mut NamedFiles) -> Option<ExternalAccount> {
    let allowed = "{ key_id = \"ID\", key_file = \"FILE\" }";
    let table = section.subsection("external_account", allowed)?;
    let key_id = table.required("key_id", label);
    let key_file = table.required("key_file", path);
    if let (Some(file), Some(value)) = (&key_file, table.value("key_file")) {
        files.add(file, value.place());
    }
    table.finish();
    Some(ExternalAccount {
        key_id: key_id?,
        key_file: key_file?,
    })
}

fn directory(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "an https URL such as \"https://acme-v02.api.letsencrypt.org/directory\"";
    let written = text(value, allowed)?;
    let url = written.parse::<http::Uri>().ok();
    let is_good = |url: &http::Uri| {
        // RFC 8555 section 6.1: no other scheme.
        url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty())
    };
    match url.filter(is_good) {
        Some(_) => Ok(written.to_owned()),
        None => match written.strip_prefix("http://") {
            Some(rest) => wrong_near(value, allowed, Some(format!("https://{rest}"))),
            None => wrong(value, allowed),
        },
    }
}

const CONTACTS: &str = "an array of e-mail addresses such as \"ops@example.com\"";

/// An address, with or without `mailto:`.
fn contact(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "an e-mail address such as \"ops@example.com\"";
    let written = label(value)?;
    let address = written.strip_prefix("mailto:").unwrap_or(&written);
    // One address, without header fields (RFC 8555 section 7.3).
    match address.split_once('@') {
        Some((name, host))
            if !name.is_empty() && !host.is_empty() && !address.contains([',', '?', ' ']) =>
        {
            Ok(format!("mailto:{address}"))
        }
        _ => wrong(value, allowed),
    }
}

fn renewal(value: &Value<'_>) -> Result<f64, Wrong> {
    let allowed = "a number from 0.05 to 0.9";
    let number = share(value).map_err(|wrong| Wrong {
        allowed: allowed.to_owned(),
        ..wrong
    })?;
    match (0.05..=0.9).contains(&number) {
        true => Ok(number),
        false => wrong(value, allowed),
    }
}
