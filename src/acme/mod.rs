//! Certificates by ACME (RFC 8555): ordered from a CA, kept in files, renewed.
//!
//! A [`Keeper`] has one certificate for each name that a configuration asks for:
//! it takes those that the storage holds, orders the others, and renews each when
//! a share of its life is left. It is a task of the control plane; what handshakes
//! and requests look at is the [`Desk`], which they never wait for.
//!
//! It does not read the config files, and answers no request: `server` does, with
//! the tokens of the desk.
//!
//! Invariant: nothing is ordered that is there and good, nothing sooner again
//! than its wait is over, and nothing that could not be kept.

mod account;
mod attempt;
mod ca;
mod desk;
mod entry;
mod keeper;
mod moment;
mod order;
mod schedule;
mod storage;
mod wanted;
mod work;

pub use desk::{Desk, Standing};
pub use keeper::Keeper;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::Config;
use crate::tls::{Pair, PairError, ProofError};
use storage::Storage;
use wanted::Wanted;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    /// The account, or all of the CA: no name has better prospects.
    #[error("the CA: {0}")]
    Ca(#[source] instant_acme::Error),
    #[error("{0}")]
    Order(#[source] instant_acme::Error),
    #[error("the CA could not verify the name by {challenge}: {reason}")]
    Refused {
        challenge: &'static str,
        reason: String,
    },
    #[error("the CA offers no challenge {0} for the name")]
    NoChallenge(&'static str),
    #[error("order_timeout has passed")]
    Timeout,
    #[error("the storage {}: {error}", path.display())]
    Storage {
        path: std::path::PathBuf,
        error: io::Error,
    },
    #[error("what is stored of the account cannot be read: {0}")]
    StoredAccount(serde_json::Error),
    #[error("the key of the external account in {}: {reason}", path.display())]
    ExternalKey {
        path: std::path::PathBuf,
        reason: String,
    },
    #[error("the trust in the CA: {0}")]
    Trust(String),
    #[error("the certificate that the CA gave: {0}")]
    Given(#[from] PairError),
    #[error("the certificate that the CA gave is for another name")]
    GivenForAnother,
    #[error("the request for a certificate: {0}")]
    Request(#[from] rcgen::Error),
    #[error(transparent)]
    Proof(#[from] ProofError),
    #[error("the order has died")]
    Died,
}

impl AcmeError {
    fn storage(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Storage { path, error }
    }

    /// Whether it says nothing of the name, so that others would meet it too.
    fn is_of_all(&self) -> bool {
        matches!(
            self,
            Self::Ca(_)
                // No answer, or none of this protocol.
                | Self::Order(instant_acme::Error::Other(_))
                | Self::Storage { .. }
                | Self::StoredAccount(_)
                | Self::ExternalKey { .. }
                | Self::Trust(_)
        )
    }
}

/// What the storage has for the names of `config` that have no certificate in
/// service, so that a process that begins has its certificates before its first
/// connection. Blocks, and puts nothing in service.
///
/// Files that are missing or bad are left alone: the keeper looks after those.
pub fn stored(config: &Config, desk: &Desk, now: SystemTime) -> Vec<(String, Arc<Pair>)> {
    let Some(wanted) = Wanted::of(config) else {
        return Vec::new();
    };
    let storage = Storage::of(&wanted.acme);
    let names = wanted.names.into_iter();
    let missing = names.filter(|name| desk.issued.get(name).is_none());
    let found = missing.filter_map(|name| {
        let pair = storage.load(&name, now).ok()?;
        Some((name, pair))
    });
    found.collect()
}
