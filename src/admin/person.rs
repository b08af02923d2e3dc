//! Who asks, what they may, and the line that says what they did.
//!
//! By which right somebody is whom `access` finds out; what they are denied is in
//! `denials`.
//!
//! Invariant: whatever somebody who may come in would change is logged with who they
//! are, done or not.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::endpoints::Endpoint;
use super::fields::Wrong;
use crate::config::{CertificateName, CertifiedOperators};
use crate::tls::ClientCertificate;

/// Of a request's body in the log, in characters.
const MOST_WHAT: usize = 500;

/// Before the subject of one.
pub(super) const CERTIFICATE: &str = "certificate:";

/// The other end of a connection, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    User { uid: u32, gid: u32 },
    Address(SocketAddr),
}

/// What somebody may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Operator,
    Reader,
}

/// Who has connected.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) peer: Peer,
    pub(super) is_tls: bool,
    /// What was shown in the handshake.
    pub(super) certificate: Option<Arc<Certified>>,
}

/// Somebody with a certificate of the CA that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certified {
    /// RFC 4514.
    pub(super) subject: String,
    pub(super) role: Role,
    pub(super) not_after: SystemTime,
}

impl Caller {
    /// In plain HTTP.
    pub(super) fn plain(peer: Peer) -> Self {
        Self {
            peer,
            is_tls: false,
            certificate: None,
        }
    }
}

impl Peer {
    /// The address without its port.
    pub(super) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::User { .. } => None,
            Self::Address(address) => Some(address.ip()),
        }
    }
}

impl Certified {
    pub(super) fn new(shown: ClientCertificate, operators: &CertifiedOperators) -> Self {
        let is = |name: &CertificateName| match name {
            CertificateName::Subject(subject) => *subject == shown.subject,
            CertificateName::Dns(name) => shown.dns.iter().any(|it| it.eq_ignore_ascii_case(name)),
            CertificateName::Email(email) => shown.emails.contains(email),
            CertificateName::Uri(uri) => shown.uris.contains(uri),
        };
        let role = match operators.anyone || operators.names.iter().any(is) {
            true => Role::Operator,
            false => Role::Reader,
        };
        Self {
            subject: shown.subject,
            role,
            not_after: shown.not_after,
        }
    }

    /// As a line in the log says it.
    pub(super) fn who(&self) -> String {
        format!("{CERTIFICATE}{}", self.subject)
    }
}

/// Somebody who may ask something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    /// A user of this machine, the subject of a certificate, or the token that was
    /// shown, never its secret.
    pub(super) who: String,
    pub(super) role: Role,
    pub(super) peer: Peer,
}

impl Role {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Reader => "reader",
        }
    }
}

impl Person {
    pub(super) fn json(&self) -> Value {
        json!({ "who": self.who, "role": self.role.label() })
    }

    /// Logs what was done, or why it was not.
    pub(super) fn did(&self, endpoint: Endpoint, body: &[u8], answer: &Result<Value, Wrong>) {
        let (who, role, peer) = (&*self.who, self.role.label(), self.peer);
        let (action, what) = (endpoint.action().unwrap_or_default(), shown(body));
        match answer {
            Ok(_) => {
                tracing::info!(who, role, %peer, action, %what, outcome = "done", "operator action");
            }
            Err(wrong) => {
                let (status, reason) = (wrong.status.as_u16(), &*wrong.message);
                tracing::warn!(
                    who, role, %peer, action, %what, outcome = "refused", status, reason,
                    "operator action"
                );
            }
        }
    }
}

/// On one line, and not too long a one.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let chars = text.chars().take(MOST_WHAT);
    chars
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { uid, gid } => write!(f, "uid:{uid} gid:{gid}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_named_by_the_whole_of_a_name() {
        let shown = || ClientCertificate {
            subject: "CN=alice,O=Example".to_owned(),
            dns: vec!["A.example".to_owned()],
            emails: vec!["alice@a.example".to_owned()],
            uris: vec!["spiffe://a.example/ops".to_owned()],
            not_after: SystemTime::UNIX_EPOCH,
        };
        use CertificateName::{Dns, Email, Subject, Uri};
        for (name, is_operator) in [
            (Subject("CN=alice,O=Example".to_owned()), true),
            (Subject("CN=alice".to_owned()), false),
            (Subject("alice@a.example".to_owned()), false),
            (Dns("a.example".to_owned()), true),
            (Dns("b.a.example".to_owned()), false),
            (Dns("example".to_owned()), false),
            (Email("alice@a.example".to_owned()), true),
            (Email("a.example".to_owned()), false),
            (Uri("spiffe://a.example/ops".to_owned()), true),
            (Uri("spiffe://a.example/".to_owned()), false),
        ] {
            let operators = CertifiedOperators {
                anyone: false,
                names: vec![name],
            };
            let certified = Certified::new(shown(), &operators);
            let is = certified.role == Role::Operator;
            assert_eq!(is, is_operator, "{operators:?}");
        }
        let certified = Certified::new(shown(), &CertifiedOperators::default());
        assert_eq!(certified.role, Role::Reader);
        let anyone = CertifiedOperators {
            anyone: true,
            names: Vec::new(),
        };
        assert_eq!(Certified::new(shown(), &anyone).role, Role::Operator);
    }
}
