//! Refuses line ends that two parsers could read differently.
//!
//! hyper takes a bare LF for a line end, as RFC 9112 section 2.2 allows; other
//! parsers do not, and a head that means two things is how requests are
//! smuggled. This looks at a head from its first byte to its end. A head that
//! comes in one read with the request before it is not looked at here: hyper
//! reads it the same way and longhaul writes it anew for the backend.

/// Follows one head; one byte of state for each question.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadGuard {
    previous: u8,
    /// Whether the current line has a byte before its line end.
    line_begun: bool,
    /// Whether the head has a line: empty ones before it are skipped
    /// (RFC 9112 section 2.2).
    head_begun: bool,
    done: bool,
}

impl HeadGuard {
    /// Whether the bytes that follow keep to CRLF. After the head's end it
    /// agrees to everything.
    pub(super) fn accepts(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if self.done {
                return true;
            }
            match byte {
                b'\n' if self.previous != b'\r' => return false,
                b'\n' => {
                    self.done = self.head_begun && !self.line_begun;
                    self.line_begun = false;
                }
                b'\r' => {}
                _ => {
                    self.line_begun = true;
                    self.head_begun = true;
                }
            }
            self.previous = byte;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &[u8], split: usize) -> bool {
        let mut guard = HeadGuard::default();
        text.chunks(split).all(|part| guard.accepts(part))
    }

    #[test]
    fn line_ends_are_crlf_at_every_split() {
        for split in 1..20 {
            assert!(accepts(
                b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\nbody\nwith\n",
                split
            ));
            assert!(!accepts(b"GET / HTTP/1.1\nhost: a\r\n\r\n", split));
            assert!(!accepts(b"GET / HTTP/1.1\r\nhost: a\n\r\n", split));
            assert!(!accepts(b"GET / HTTP/1.1\r\nhost: a\r\n\n", split));
            assert!(!accepts(b"\nGET / HTTP/1.1\r\n\r\n", split));
        }
    }
}
