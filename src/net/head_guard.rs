//! Refuses heads that two parsers could read differently, which is how requests
//! are smuggled: a line end without its carriage return (RFC 9112 section 2.2
//! allows either reading), and a length beside a transfer coding (section 6.1).
//!
//! hyper takes both and forgets the length. This looks at a head from its first
//! byte to its end, as long as it can know where a head begins: not on a
//! connection on which bytes have come behind a head (a body, a pipelined
//! request). There hyper's reading stands: the transfer coding wins, as RFC 9112
//! section 6.1 allows, and longhaul writes the framing anew for the backend.
//!
//! It knows a PROXY header that stands where a head must begin, so that whoever has
//! set up one side of two is told that.

use memchr::memchr2;

/// Follows one head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadGuard {
    previous: u8,
    /// The beginning of the current line, in lower case.
    line: [u8; LONGEST],
    /// Bytes of the current line, its end not counted.
    length: u32,
    first: First,
    has_length: bool,
    has_coding: bool,
    /// Whether the head has a line: empty ones before it are skipped
    /// (RFC 9112 section 2.2).
    begun: bool,
    done: bool,
    /// Whether bytes have come behind the head: a body, or the next head.
    ahead: bool,
}

/// The first line of a head, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum First {
    #[default]
    NotYet,
    /// Of version 2 of the PROXY protocol, whose signature is `\r\n\r\n\0\r\nQUIT\n`.
    Nul,
    Other,
}

/// How a header of version 1 begins, in lower case.
const PROXY_HEADERS: [&[u8]; 3] = [b"proxy tcp4 ", b"proxy tcp6 ", b"proxy unknown"];
const LENGTH: &[u8] = b"content-length:";
const CODING: &[u8] = b"transfer-encoding:";
const LONGEST: usize = CODING.len();

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    #[error("a line of the head ends without a carriage return")]
    BareLineFeed,
    #[error("the head has both a content length and a transfer coding")]
    TwoLengths,
    #[error("a PROXY header stands where a request must begin")]
    ProxyHeader,
}

impl HeadGuard {
    /// The next byte begins a head, unless hyper has read ahead: then it may be
    /// the middle of one, and that head is not looked at.
    pub(super) fn next_head(&mut self) {
        *self = Self {
            done: self.ahead,
            ..Self::default()
        };
    }

    /// Whether bytes have come behind the head.
    pub(super) fn is_ahead(&self) -> bool {
        self.ahead
    }

    /// Looks at the bytes that follow. After the head's end it agrees to
    /// everything.
    pub(crate) fn check(&mut self, bytes: &[u8]) -> Result<(), Ambiguous> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.done {
            let end = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let (text, more) = rest.split_at(end);
            self.take(text);
            let Some((&end, more)) = more.split_first() else {
                return Ok(());
            };
            match end {
                b'\n' if self.previous != b'\r' => {
                    return Err(match (self.first, self.line()) {
                        (First::Nul, b"quit") => Ambiguous::ProxyHeader,
                        _ => Ambiguous::BareLineFeed,
                    });
                }
                b'\n' => self.end_line()?,
                _ => {}
            }
            self.previous = end;
            rest = more;
        }
        self.ahead |= !rest.is_empty();
        Ok(())
    }

    /// Takes in bytes of the current line.
    fn take(&mut self, text: &[u8]) {
        let Some(&last) = text.last() else {
            return;
        };
        let known = self.line().len();
        let places = self.line[known..].iter_mut();
        places
            .zip(text)
            .for_each(|(place, byte)| *place = byte.to_ascii_lowercase());
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.length = self.length.saturating_add(length);
        self.begun = true;
        self.previous = last;
    }

    fn end_line(&mut self) -> Result<(), Ambiguous> {
        self.done = self.begun && self.length == 0;
        let line = self.line();
        if self.first == First::NotYet && self.begun {
            if PROXY_HEADERS.iter().any(|begin| line.starts_with(begin)) {
                return Err(Ambiguous::ProxyHeader);
            }
            self.first = match line {
                b"\0" => First::Nul,
                _ => First::Other,
            };
        }
        let line = self.line();
        let (has_length, has_coding) = (line.starts_with(LENGTH), line.starts_with(CODING));
        self.has_length |= has_length;
        self.has_coding |= has_coding;
        self.length = 0;
        match self.has_length && self.has_coding {
            true => Err(Ambiguous::TwoLengths),
            false => Ok(()),
        }
    }

    /// The beginning of the current one.
    fn line(&self) -> &[u8] {
        &self.line[..(self.length as usize).min(LONGEST)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, split: usize) -> Result<(), Ambiguous> {
        let mut guard = HeadGuard::default();
        text.as_bytes()
            .chunks(split)
            .try_for_each(|part| guard.check(part))
    }

    #[test]
    fn line_ends_are_crlf_at_every_split() {
        for split in 1..20 {
            let good = "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\nbody\nwith\n";
            assert_eq!(check(good, split), Ok(()));
            for bad in [
                "GET / HTTP/1.1\nhost: a\r\n\r\n",
                "GET / HTTP/1.1\r\nhost: a\n\r\n",
                "GET / HTTP/1.1\r\nhost: a\r\n\n",
                "\nGET / HTTP/1.1\r\n\r\n",
            ] {
                assert_eq!(check(bad, split), Err(Ambiguous::BareLineFeed), "{bad:?}");
            }
        }
    }

    #[test]
    fn a_proxy_header_is_known_at_every_split() {
        for split in 1..20 {
            for header in [
                "PROXY TCP4 203.0.113.7 198.51.100.2 4711 8443\r\nGET / HTTP/1.1\r\n",
                "PROXY TCP6 2001:db8:: ::1 1 2\r\n",
                "PROXY UNKNOWN\r\n",
                "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
            ] {
                assert_eq!(
                    check(header, split),
                    Err(Ambiguous::ProxyHeader),
                    "{header:?}"
                );
            }
            // Of these each is something else.
            for good in [
                "PROXY /tcp4 HTTP/1.1\r\nhost: a\r\n\r\n",
                "GET / HTTP/1.1\r\nx: y\r\nPROXY TCP4 : a\r\n\r\n",
                "GET / HTTP/1.1\r\nhost: a\r\n\r\nPROXY TCP4 \r\n",
            ] {
                assert_eq!(check(good, split), Ok(()), "{good:?}");
            }
            for bad in ["QUIT\n", "a\r\nQUIT\n", "\0\r\nQUIT \n"] {
                assert_eq!(check(bad, split), Err(Ambiguous::BareLineFeed), "{bad:?}");
            }
        }
    }

    #[test]
    fn a_head_that_may_have_begun_before_is_left_alone() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut guard = HeadGuard::default();
        guard.check(head).unwrap();
        guard.next_head();
        guard.check(head).unwrap();
        guard.check(b"GET / HTTP/1.1\r").unwrap();
        guard.next_head();
        assert_eq!(guard.check(b"\nhost: a\r\n\r\n"), Ok(()));
        guard.next_head();
        assert_eq!(guard.check(b"\n"), Ok(()));
    }

    #[test]
    fn a_length_and_a_coding_exclude_each_other_at_every_split() {
        for split in 1..20 {
            for bad in [
                "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nx: y\r\nCONTENT-LENGTH:3\r\n\r\n",
            ] {
                assert_eq!(check(bad, split), Err(Ambiguous::TwoLengths), "{bad:?}");
            }
            let good = "POST / HTTP/1.1\r\ncontent-length: 3\r\nx: transfer-encoding:\r\n\r\n\
                transfer-encoding: in the body\r\n";
            assert_eq!(check(good, split), Ok(()));
        }
    }
}
