//! `operators` of `[admin]` and of its `client_certificates`: who may do more than
//! read, at the Unix socket and over TLS.
//!
//! Of users numbers, not names: a name's number is the business of the system's
//! tables, which a statically linked program cannot ask.

use std::path::PathBuf;

use super::section::{Section, Value, Wrong};
use super::value::{text, wrong, wrong_near};

/// Who may do everything at the admin socket, beside root and the process's own
/// user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operators {
    /// Whoever the mode of the socket's file lets in.
    pub anyone: bool,
    pub uids: Vec<u32>,
    /// The primary group of the asking process; no other is told by the kernel.
    pub gids: Vec<u32>,
}

enum Operator {
    Anyone,
    Uid(u32),
    Gid(u32),
}

pub(super) fn operators(section: &Section<'_>) -> Operators {
    let allowed = "an array of \"uid:NUMBER\", \"gid:NUMBER\" or \"anyone\"";
    let mut operators = Operators::default();
    for one in section.list("operators", allowed, operator) {
        match one {
            Operator::Anyone => operators.anyone = true,
            Operator::Uid(uid) => operators.uids.push(uid),
            Operator::Gid(gid) => operators.gids.push(gid),
        }
    }
    operators
}

fn operator(value: &Value<'_>) -> Result<Operator, Wrong> {
    let allowed = "\"uid:NUMBER\", \"gid:NUMBER\", or \"anyone\" whom the socket's mode lets in";
    let written = text(value, allowed)?;
    if written == "anyone" {
        return Ok(Operator::Anyone);
    }
    match written.split_once(':').map(|(kind, id)| (kind, id.parse())) {
        Some(("uid", Ok(uid))) => Ok(Operator::Uid(uid)),
        Some(("gid", Ok(gid))) => Ok(Operator::Gid(gid)),
        _ if written.parse::<u32>().is_ok() => {
            wrong_near(value, allowed, Some(format!("uid:{written}")))
        }
        _ => wrong(value, allowed),
    }
}

/// Those who may ask over TCP because of their certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminClients {
    pub ca: PathBuf,
    /// Who may do more than read.
    pub operators: CertifiedOperators,
}

/// Whose certificates let them do everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertifiedOperators {
    /// Whoever has one of that CA.
    pub anyone: bool,
    pub names: Vec<CertificateName>,
}

/// What a certificate says whose it is, as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// RFC 4514, as logs and headers write it.
    Subject(String),
    // Alternative names (RFC 5280 section 4.2.1.6).
    /// In lower case.
    Dns(String),
    Email(String),
    Uri(String),
}

pub(super) fn certified_operators(section: &Section<'_>) -> CertifiedOperators {
    let allowed = format!("an array of {CERTIFIED}");
    let found = section.list("operators", &allowed, certified);
    CertifiedOperators {
        anyone: found.iter().any(Option::is_none),
        names: found.into_iter().flatten().collect(),
    }
}

const CERTIFIED: &str =
    "\"subject:CN=NAME,...\", \"dns:NAME\", \"email:ADDRESS\", \"uri:URI\" or \"anyone\"";

/// `None`: anyone.
fn certified(value: &Value<'_>) -> Result<Option<CertificateName>, Wrong> {
    let written = text(value, CERTIFIED)?;
    if written == "anyone" {
        return Ok(None);
    }
    let (kind, name) = written.split_once(':').unwrap_or_default();
    let name = match kind {
        _ if name.is_empty() || !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) => None,
        "subject" => name
            .contains('=')
            .then(|| CertificateName::Subject(name.to_owned())),
        "dns" => Some(CertificateName::Dns(name.to_ascii_lowercase())),
        "email" => Some(CertificateName::Email(name.to_owned())),
        "uri" => Some(CertificateName::Uri(name.to_owned())),
        _ => None,
    };
    match name {
        Some(name) => Ok(Some(name)),
        None if written.starts_with("CN=") => {
            wrong_near(value, CERTIFIED, Some(format!("subject:{written}")))
        }
        None => wrong(value, CERTIFIED),
    }
}
