//! What the rest of the process sees of the work with the CA: certificates and
//! proofs for handshakes, tokens for requests, the standing of each name for
//! operators.
//!
//! Invariant: nobody waits here for the CA, and while no proof is open a request
//! costs one look at an atomic.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::config::Challenge;
use crate::tls::{Issued, Proof, ProofError};

/// Where a CA asks for a token (RFC 8555 section 8.3).
const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

#[derive(Debug, Default)]
pub struct Desk {
    pub issued: Arc<Issued>,
    /// Tokens of http-01, with what is answered.
    tokens: Mutex<HashMap<String, String>>,
    /// How many there are.
    open: AtomicUsize,
    standings: Mutex<BTreeMap<String, Standing>>,
}

/// How things are with one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// When the certificate in service ends; `None`: there is none yet.
    pub not_after: Option<SystemTime>,
    pub last_attempt: Option<SystemTime>,
    /// Of the last attempt, if that failed.
    pub error: Option<String>,
    /// When it is ordered again, or renewed; `None` while that is under way.
    pub next_attempt: Option<SystemTime>,
}

/// A proof that a CA may look at; withdrawn when dropped.
pub(super) struct Shown<'a> {
    desk: &'a Desk,
    what: What,
}

enum What {
    Token(String),
    Certificate(String, Proof),
}

impl Desk {
    /// What a request for this path on a plain listener is answered, if it is a
    /// CA's that looks for a proof.
    pub fn answer(&self, path: &str) -> Option<String> {
        if self.open.load(Ordering::Acquire) == 0 {
            return None;
        }
        let token = path.strip_prefix(WELL_KNOWN)?;
        self.tokens().get(token).cloned()
    }

    /// By name.
    pub fn standings(&self) -> BTreeMap<String, Standing> {
        lock(&self.standings).clone()
    }

    pub(super) fn set_standings(&self, standings: BTreeMap<String, Standing>) {
        *lock(&self.standings) = standings;
    }

    /// Lets a CA see that `name` is ours; `authorization` is the key
    /// authorization and its digest (RFC 8555 section 8.1).
    ///
    /// # Errors
    /// If the certificate that proves it cannot be made.
    pub(super) fn show(
        &self,
        challenge: Challenge,
        name: &str,
        token: &str,
        (authorization, digest): (&str, &[u8; 32]),
    ) -> Result<Shown<'_>, ProofError> {
        let what = match challenge {
            Challenge::Http01 => {
                let mut tokens = self.tokens();
                tokens.insert(token.to_owned(), authorization.to_owned());
                self.open.store(tokens.len(), Ordering::Release);
                What::Token(token.to_owned())
            }
            Challenge::TlsAlpn01 => {
                let proof = self.issued.prove(name, digest)?;
                What::Certificate(name.to_owned(), proof)
            }
        };
        Ok(Shown { desk: self, what })
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<String, String>> {
        lock(&self.tokens)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        match &self.what {
            What::Token(token) => {
                let mut tokens = self.desk.tokens();
                tokens.remove(token);
                self.desk.open.store(tokens.len(), Ordering::Release);
            }
            What::Certificate(name, proof) => self.desk.issued.withdraw(name, proof),
        }
    }
}

/// Maps of finished values are sound whatever their holder died of.
fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_answered_while_its_proof_is_shown_and_no_other_path() {
        let desk = Desk::default();
        let path = "/.well-known/acme-challenge/abc";
        assert_eq!(desk.answer(path), None);
        let show = |token| {
            let authorization = (&*format!("{token}.thumb"), &[0; 32]);
            desk.show(Challenge::Http01, "a.test", token, authorization)
        };
        let (shown, other) = (show("abc").unwrap(), show("other").unwrap());
        assert_eq!(desk.answer(path).as_deref(), Some("abc.thumb"));
        for path in ["/.well-known/acme-challenge/", "/abc", "/x"] {
            assert_eq!(desk.answer(path), None, "{path}");
        }
        drop(other);
        assert_eq!(desk.answer(path).as_deref(), Some("abc.thumb"));
        drop(shown);
        assert_eq!(desk.answer(path), None);
    }
}
