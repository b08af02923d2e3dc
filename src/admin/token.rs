//! A secret in a file: read, and compared without telling how much was right.
//!
//! Who is asked for it is `access`'s to know.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use subtle::ConstantTimeEq;

/// Shorter ones are guessed.
const LEAST: usize = 16;
const MOST: usize = 4096;
/// Nobody but the owner may write it, and others not even read it.
const FORBIDDEN: u32 = 0o027;

/// What a client must show.
pub(super) struct Token(String);

/// Why a token file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("its mode is {0:04o}: others must have no right to it, nor its group to write it")]
    Mode(u32),
    #[error("it must hold one word of {LEAST} to {MOST} printable characters")]
    Content,
}

impl Token {
    pub(super) fn read(path: &Path) -> Result<Self, TokenError> {
        // Of a pipe one would wait for a writer.
        if !fs::metadata(path)?.is_file() {
            return Err(TokenError::Content);
        }
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode() & 0o7777;
        if mode & FORBIDDEN != 0 {
            return Err(TokenError::Mode(mode));
        }
        let mut text = Vec::new();
        file.take(MOST as u64 + 2).read_to_end(&mut text)?;
        let text = String::from_utf8(text).map_err(|_| TokenError::Content)?;
        let word = text.trim();
        let printable = word.bytes().all(|byte| byte.is_ascii_graphic());
        match printable && (LEAST..=MOST).contains(&word.len()) {
            true => Ok(Self(word.to_owned())),
            false => Err(TokenError::Content),
        }
    }

    /// Whether it is this one; takes as long for every wrong one of its length.
    pub(super) fn is(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};

    use super::*;

    #[test]
    fn only_a_word_that_others_cannot_read_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let secret = "0123456789abcdef";
        for (text, mode, good) in [
            (format!("{secret}\n"), 0o600, true),
            (secret.to_owned(), 0o640, true),
            (secret.to_owned(), 0o644, false),
            (secret.to_owned(), 0o660, false),
            (secret[1..].to_owned(), 0o600, false),
            (format!("{secret} {secret}"), 0o600, false),
            (String::new(), 0o600, false),
            ("x".repeat(MOST + 1), 0o600, false),
        ] {
            write(&path, &text).unwrap();
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let token = Token::read(&path);
            assert_eq!(token.is_ok(), good, "{text:?} {mode:o}: {token:?}");
            if let Ok(token) = token {
                assert!(token.is(secret));
                assert!(!token.is(&secret[1..]) && !token.is("") && !token.is("0123456789abcdeF"));
            }
        }
        assert!(Token::read(&dir.path().join("none")).is_err());
    }
}
