//! Users and their passwords' hashes, as `htpasswd -B` writes them.
//!
//! A password that was right is remembered for a while by a salted digest, so
//! that many requests of one client cost one hash.

use std::collections::HashMap;
use std::fmt;
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
    /// For names that nobody has: they must take as long.
    decoy: String,
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
        let mut hashes = HashMap::new();
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
            let (name, hash) = user(line).map_err(wrong)?;
            if hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(wrong("the user is there twice"));
            }
        }
        let decoy = hashes.values().next().cloned();
        Ok(Arc::new(Self {
            decoy: decoy.ok_or_else(|| IdentityError::NoUsers(path.to_owned()))?,
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
        // In constant time.
        let verify = move || bcrypt::verify(password, &hash).unwrap_or(false);
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

/// Name and hash of a line.
fn user(line: &str) -> Result<(&str, &str), &'static str> {
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
        ..=MOST_COST => Ok((name, hash)),
        _ => Err("the cost of the hash is above 14: each try would take seconds"),
    }
}
