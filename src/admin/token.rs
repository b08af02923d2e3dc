//! Secrets in a file: read, and compared without telling how much was right. The one
//! place that knows how such a file is written, for whoever asks too.
//!
//! Who is asked for one is `access`'s to know.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use subtle::ConstantTimeEq;

use crate::files::{self, FileError};

/// Shorter ones are guessed.
const LEAST: usize = 16;
const MOST: usize = 4096;
/// Tokens of one file.
const MOST_TOKENS: usize = 64;
/// Of a file.
const MOST_BYTES: u64 = 64 * 1024;
const MOST_NAME: usize = 64;
/// Nobody but the owner may write it, and others not even read it.
const FORBIDDEN: u32 = 0o027;

/// What a client must show one of.
pub(super) struct Tokens(Vec<Token>);

struct Token {
    /// Whose it is, for the log.
    name: Option<String>,
    secret: String,
}

/// Why a token file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("its mode is {0:04o}: others must have no right to it, nor its group to write it")]
    Mode(u32),
    #[error(
        "it must hold one word of {LEAST} to {MOST} printable characters, or up to \
         {MOST_TOKENS} lines `NAME: TOKEN` with one each"
    )]
    Content,
}

impl Tokens {
    pub(super) fn read(path: &Path) -> Result<Self, TokenError> {
        let file = files::open(path)?;
        let mode = file.metadata().map_err(FileError::Io)?;
        let mode = mode.permissions().mode() & 0o7777;
        if mode & FORBIDDEN != 0 {
            return Err(TokenError::Mode(mode));
        }
        let text = String::from_utf8(files::read(&file, MOST_BYTES)?);
        let text = text.map_err(|_| TokenError::Content)?;
        parsed(&text).map(Self).ok_or(TokenError::Content)
    }

    /// The name beside the token that was shown; `None` if it is none of these.
    /// Takes as long for every wrong one of a length.
    pub(super) fn name_of(&self, shown: &str) -> Option<Option<String>> {
        let is = |token: &&Token| bool::from(token.secret.as_bytes().ct_eq(shown.as_bytes()));
        self.0.iter().find(is).map(|token| token.name.clone())
    }
}

/// What a client shows that has such a file: its first token. The rights to a client's
/// own copy are its own business.
///
/// # Errors
/// If it is the text of no token file.
pub fn first_token(text: &str) -> Result<String, TokenError> {
    let first = parsed(text).and_then(|tokens| tokens.into_iter().next());
    first.map(|token| token.secret).ok_or(TokenError::Content)
}

/// One token alone, or a line for each with its name; comments begin with `#`
/// and a space.
fn parsed(text: &str) -> Option<Vec<Token>> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("# "));
    let tokens: Vec<Token> = lines.map(token).collect::<Option<_>>()?;
    let alone = tokens.len() == 1;
    let named = (1..=MOST_TOKENS).contains(&tokens.len());
    let named = named && tokens.iter().all(|token| token.name.is_some());
    (alone || named).then_some(tokens)
}

fn token(line: &str) -> Option<Token> {
    let (name, secret) = match line.split_once(char::is_whitespace) {
        None => (None, line),
        Some((name, secret)) => (Some(name.strip_suffix(':')?), secret.trim_start()),
    };
    let printable = secret.bytes().all(|byte| byte.is_ascii_graphic());
    let is_secret = printable && (LEAST..=MOST).contains(&secret.len());
    let is_word = |name: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        (1..=MOST_NAME).contains(&name.len()) && name.chars().all(known)
    };
    (is_secret && name.is_none_or(is_word)).then(|| Token {
        name: name.map(str::to_owned),
        secret: secret.to_owned(),
    })
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(..)")
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
            let token = Tokens::read(&path);
            assert_eq!(token.is_ok(), good, "{text:?} {mode:o}: {token:?}");
            if let Ok(token) = token {
                assert_eq!(token.name_of(secret), Some(None));
                for wrong in [&secret[1..], "", "0123456789abcdeF"] {
                    assert_eq!(token.name_of(wrong), None);
                }
            }
        }
        assert!(Tokens::read(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_file_of_several_says_whose_each_is() {
        let (a, b) = ("a-token-of-sixteen", "another-of-sixteen");
        let tokens = |text: &str| parsed(text).map(Tokens);
        let both = tokens(&format!("# who\n\nalice: {a}\nbob@pc:  {b}\n")).unwrap();
        assert_eq!(both.name_of(a), Some(Some("alice".to_owned())));
        assert_eq!(both.name_of(b), Some(Some("bob@pc".to_owned())));
        assert_eq!(both.name_of("alice"), None);
        let first = first_token(&format!("# who\n\nalice: {a}\nbob@pc:  {b}\n"));
        assert_eq!(first.unwrap(), a);
        assert_eq!(first_token(b).unwrap(), b);
        for wrong in [
            format!("{a}\n{b}"),
            format!("alice: {a}\n{b}"),
            format!("al ice: {a}"),
            format!(": {a}"),
            "alice: short".to_owned(),
            format!("alice: {a}\n").repeat(MOST_TOKENS + 1),
        ] {
            assert!(tokens(&wrong).is_none(), "{wrong:?}");
            assert!(first_token(&wrong).is_err(), "{wrong:?}");
        }
    }
}
