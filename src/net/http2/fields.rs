//! What a header block may say (RFC 9113 sections 8.2 and 8.3), as far as `h2`
//! would end the connection over it, and how large it may be.
//!
//! The rest of what makes a message malformed is `h2`'s to find: that it takes
//! for the stream's affair.

use super::hpack::{Decoder, NotHpack, encode};

/// What a field counts beside its bytes (RFC 9113 section 6.5.2).
const OVERHEAD: usize = 32;

/// A block that is as many times larger than it may be is meant to hurt.
pub(super) const TIMES: usize = 4;

/// A request that is to be answered with this status instead of being served:
/// the name of a field that only this file writes.
pub const VERDICT: &str = "longhaul-verdict";

/// What a block is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// The fields once more, without compression.
    Good(Vec<u8>),
    Malformed,
    TooLarge,
}

/// Why the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fatal {
    NotHpack,
    /// So much larger than allowed that it is meant to hurt.
    Bomb,
}

/// Reads a block of at most `most` bytes by the count of RFC 9113; `trailers` have
/// no pseudo-header fields.
pub(super) fn read(
    decoder: &mut Decoder,
    block: &[u8],
    trailers: bool,
    most: usize,
) -> Result<Block, Fatal> {
    let (mut size, mut good) = (0_usize, true);
    let mut plain = Vec::with_capacity(block.len() * 2);
    let read = decoder.decode(block, |name, value| {
        size += name.len() + value.len() + OVERHEAD;
        good &= is_allowed(name, value) && !(trailers && name.starts_with(b":"));
        if size <= most && good {
            encode(&mut plain, name, value);
        }
    });
    match read {
        Err(NotHpack) => Err(Fatal::NotHpack),
        Ok(()) if size > most.saturating_mul(TIMES) => Err(Fatal::Bomb),
        Ok(()) if size > most => Ok(Block::TooLarge),
        Ok(()) if !good => Ok(Block::Malformed),
        Ok(()) => Ok(Block::Good(plain)),
    }
}

/// The block of a request that is to be answered with `status`.
pub(super) fn verdict(status: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (VERDICT, status),
    ] {
        encode(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

fn is_allowed(name: &[u8], value: &[u8]) -> bool {
    let Some(pseudo) = name.strip_prefix(b":") else {
        let token = |byte: &u8| is_token(*byte) && !byte.is_ascii_uppercase();
        return !name.is_empty()
            && name.iter().all(token)
            && name != VERDICT.as_bytes()
            && is_value(value);
    };
    match pseudo {
        b"method" => !value.is_empty() && value.iter().all(|byte| is_token(*byte)),
        // Words and places; they have no spaces.
        b"scheme" | b"path" | b"authority" => value.iter().all(u8::is_ascii_graphic),
        b"protocol" => is_value(value) && value.is_ascii(),
        _ => false,
    }
}

/// `tchar` (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let control = |byte: &u8| *byte < b' ' && *byte != b'\t' || *byte == 0x7f;
    !blank(value.first()) && !blank(value.last()) && !value.iter().any(control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            encode(&mut block, name.as_bytes(), value.as_bytes());
        }
        block
    }

    fn read_one(name: &str, value: &str) -> Result<Block, Fatal> {
        let block = block(&[(name, value)]);
        read(&mut Decoder::default(), &block, false, 1000)
    }

    #[test]
    fn trailers_have_no_pseudo_header_fields() {
        let read = |fields| read(&mut Decoder::default(), &block(fields), true, 1000);
        assert_eq!(read(&[(":path", "/")]), Ok(Block::Malformed));
        assert!(matches!(read(&[("x-sum", "1")]), Ok(Block::Good(_))));
    }

    #[test]
    fn fields_are_told_apart() {
        for (name, value) in [
            ("x-own", "a b\tc"),
            ("x-own", ""),
            ("x-own", "ä"),
            (":method", "GET"),
            (":path", "/a?b=\"c\""),
            (":authority", ""),
            (":protocol", "websocket"),
        ] {
            let good = Ok(Block::Good(block(&[(name, value)])));
            assert_eq!(read_one(name, value), good, "{name}: {value}");
        }
        for (name, value) in [
            ("X-Own", "1"),
            ("x own", "1"),
            ("x:own", "1"),
            ("", "1"),
            ("x-own", "a\0b"),
            ("x-own", "a\r\nb: c"),
            ("x-own", " a"),
            ("x-own", "a\t"),
            (":status", "200"),
            (":own", "1"),
            (":", "1"),
            (":method", "G T"),
            (":path", "/a b"),
            (VERDICT, "400"),
        ] {
            let malformed = Ok(Block::Malformed);
            assert_eq!(read_one(name, value), malformed, "{name}: {value}");
        }
    }

    #[test]
    fn sizes_are_counted() {
        let large = |bytes: usize| read_one("x", &"y".repeat(bytes));
        assert!(matches!(large(1000 - 33), Ok(Block::Good(_))));
        assert_eq!(large(1000 - 32), Ok(Block::TooLarge));
        assert_eq!(large(5000), Err(Fatal::Bomb));
    }
}
