//! Who asks, what they may, and the line that says what they did.
//!
//! By which right somebody is whom `access` finds out.
//!
//! Invariant: whatever changes something is logged with who asked for it, done or
//! not.

use std::fmt;
use std::net::SocketAddr;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::fields::Wrong;

/// Of a request's body in the log, in characters.
const MOST_WHAT: usize = 500;

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

/// Somebody who may ask something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    /// A user of this machine, or the token that was shown, never its secret.
    pub(super) who: String,
    pub(super) role: Role,
    pub(super) peer: Peer,
}

/// Whether a request changes something.
pub(super) fn changes(method: &Method, path: &str) -> bool {
    *method != Method::GET && *method != Method::HEAD && path != "/impact"
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
    pub(super) fn did(&self, path: &str, body: &[u8], answer: &Result<Value, Wrong>) {
        let (who, role, peer) = (&*self.who, self.role.label(), self.peer);
        let (action, what) = (action(path), shown(body));
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

/// Logs what somebody had no right to; what was asked for is not even read.
pub(super) fn denied(peer: Peer, path: &str, wrong: &Wrong) {
    let who = match wrong.status {
        StatusCode::UNAUTHORIZED => "unknown",
        _ => "not an operator",
    };
    let (status, reason) = (wrong.status.as_u16(), &*wrong.message);
    tracing::warn!(
        who, %peer, action = action(path), outcome = "refused", status, reason,
        "operator action"
    );
}

/// A word for the log; what is none of these is nobody's action.
fn action(path: &str) -> &'static str {
    match path {
        "/tunnels/close" => "close",
        "/backends" => "backend state",
        "/rebalance" => "rebalance",
        _ => "unknown",
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
