//! `operators` of `[admin]`: who may do more than read at the Unix socket.
//!
//! Numbers, not names: a name's number is the business of the system's tables,
//! which a statically linked program cannot ask.

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
