//! Users and their passwords' hashes, as `htpasswd -B` writes them.
//!
//! A password that was right is remembered for a while by a salted digest, so
//! that many requests of one client cost one hash.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::{IdentityError, Turns, read};

/// A hash of this cost takes about a second.
const MOST_COST: u32 = 14;
/// Passwords that are remembered.
const MOST_VERIFIED: usize = 1024;
/// For how long.
const REMEMBERED: Duration = Duration::from_secs(300);

type Digest = [u8; SHA256_OUTPUT_LEN];

/// What a users file says.
pub struct Users {
    /// Of the file, which another one may turn out to be.
    text: String,
    hashes: HashMap<String, String>,
    /// For names that nobody has: the costliest hash, which takes as long as each.
    decoy: String,
    most_cost: u32,
    salt: [u8; 32],
    verified: Mutex<HashMap<Digest, Instant>>,
    turns: Arc<Turns>,
}

/// What is found of a name and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
    /// There are too many others to be checked.
    Busy,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users", self.hashes.len())
    }
}

impl Users {
    /// Reads the file; blocks. If it says what it said before, what was remembered
    /// is kept.
    ///
    /// # Errors
    /// If it cannot be read, or a line of it is none.
    pub fn load(
        path: &Path,
        turns: &Arc<Turns>,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, IdentityError> {
        let text = read(path)?;
        if let Some(same) = before.filter(|before| before.text == text) {
            return Ok(Arc::clone(same));
        }
        let (mut hashes, mut decoy) = (HashMap::new(), None);
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what| IdentityError::User {
                file: path.to_owned(),
                line: index + 1,
                what,
            };
            let (name, hash, cost) = user(line).map_err(wrong)?;
            if decoy.as_ref().is_none_or(|(most, _)| cost > *most) {
                decoy = Some((cost, hash.to_owned()));
            }
            if hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(wrong("the user is there twice"));
            }
        }
        let (most_cost, decoy) = decoy.ok_or_else(|| IdentityError::NoUsers(path.to_owned()))?;
        Ok(Arc::new(Self {
            decoy,
            most_cost,
            hashes,
            salt: rand::random(),
            verified: Mutex::default(),
            turns: Arc::clone(turns),
            text,
        }))
    }

    /// Whether this is the password of this name.
    pub async fn check(self: &Arc<Self>, name: &str, password: &str) -> Verdict {
        let digest = self.digest(name, password);
        if self.remembers(&digest) {
            return Verdict::Right;
        }
        let known = self.hashes.get(name);
        let hash = known.unwrap_or(&self.decoy).clone();
        let password = password.to_owned();
        let most_cost = self.most_cost;
        let verify = move || {
            // In constant time.
            let right = bcrypt::verify(&password, &hash).unwrap_or(false);
            if !right {
                take_as_long(&password, &hash, most_cost);
            }
            right
        };
        match self.turns.take(verify).await {
            Some(true) if known.is_some() => {
                self.remember(digest);
                Verdict::Right
            }
            Some(_) => Verdict::Wrong,
            None => Verdict::Busy,
        }
    }

    fn digest(&self, name: &str, password: &str) -> Digest {
        let mut context = Context::new(&SHA256);
        context.update(&self.salt);
        // A name has no colon, so that the two cannot be cut elsewhere.
        for part in [name, ":", password] {
            context.update(part.as_bytes());
        }
        let mut digest = [0; SHA256_OUTPUT_LEN];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    fn remembers(&self, digest: &Digest) -> bool {
        let verified = self.verified.lock();
        let verified = verified.unwrap_or_else(PoisonError::into_inner);
        let since = verified.get(digest);
        since.is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    fn remember(&self, digest: Digest) {
        let verified = self.verified.lock();
        let mut verified = verified.unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MOST_VERIFIED {
            verified.retain(|_, since| since.elapsed() < REMEMBERED);
        }
        if verified.len() >= MOST_VERIFIED {
            // They are few who come back to be hashed again.
            verified.clear();
        }
        verified.insert(digest, Instant::now());
    }
}

/// A wrong password takes as long for a cheap hash as for the costliest, or for a
/// name that nobody has: else the time would tell who is there. Each cost is twice
/// the work of the one below, so one more of each is what is missing.
fn take_as_long(password: &str, hash: &str, most_cost: u32) {
    let parts = hash.parse::<bcrypt::HashParts>();
    let cost = parts.map_or(most_cost, |parts| parts.get_cost());
    for cost in missing(cost, most_cost) {
        let _ = bcrypt::hash_with_salt(password, cost, [0; 16]);
    }
}

/// The costs of the hashes that make up for it.
fn missing(cost: u32, most_cost: u32) -> Range<u32> {
    cost..most_cost
}

/// Name, hash and its cost of a line.
fn user(line: &str) -> Result<(&str, &str, u32), &'static str> {
    let Some((name, hash)) = line.split_once(':') else {
        return Err("a line is NAME:HASH");
    };
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("the user has no name that a client could send");
    }
    let Ok(parts) = hash.parse::<bcrypt::HashParts>() else {
        return Err("the hash is none of bcrypt: make it by `htpasswd -B`");
    };
    match parts.get_cost() {
        cost @ ..=MOST_COST => Ok((name, hash, cost)),
        _ => Err("the cost of the hash is above 14: each try would take seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_there_is_not_told_by_the_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let line = |(name, cost)| format!("{name}:{}\n", bcrypt::hash("word", cost).unwrap());
        let lines = [("a", 5), ("b", 7), ("c", 4)].map(line);
        std::fs::write(&path, lines.concat()).unwrap();
        let users = Users::load(&path, &Arc::default(), None).unwrap();
        let cost = |hash: &str| hash.parse::<bcrypt::HashParts>().unwrap().get_cost();
        assert_eq!((cost(&users.decoy), users.most_cost), (7, 7));
        for hash in users.hashes.values().chain([&users.decoy]) {
            let more = missing(cost(hash), users.most_cost).map(|cost| 1 << cost);
            assert_eq!((1 << cost(hash)) + more.sum::<u32>(), 1 << 7, "{hash}");
        }
    }
}
