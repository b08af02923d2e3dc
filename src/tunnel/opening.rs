//! What was known of the client and its request when a tunnel opened, for the
//! lines and lists that repeat it as long as the tunnel lives.
//!
//! Packed into one allocation, because there may be a million of them. It means
//! nothing to the tunnel itself.

use std::fmt::Display;

use crate::exchange::Words;

/// One request's `Words`, and the client's address, packed: before each field a
/// head of one character that says how long it is, or which it is.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    text: Box<str>,
}

/// Most bytes of one field; what is beyond is cut off.
const MOST: usize = 4096;

/// Bytes that are enough for most.
const ROOM: usize = 256;

/// Heads below this are lengths.
const LONG: u8 = 100;
/// The field is the one before it.
const SAME: u8 = LONG + 1;
/// From here on, fields that most tunnels have.
const USUAL: u8 = LONG + 2;
const USUAL_WORDS: [&str; 4] = ["TLSv1.3", "TLSv1.2", "GET", "CONNECT"];

impl Opening {
    pub fn new(client: impl Display, words: &Words<'_>) -> Self {
        let client = client.to_string();
        let mut packing = Packing {
            text: String::with_capacity(ROOM),
            last: "",
        };
        // In an order that has equals side by side.
        for field in [
            &client,
            words.forwarded_for,
            words.host,
            words.sni,
            words.tls,
            words.client_subject,
            words.method,
            words.path,
            words.sticky,
        ] {
            packing.push(field);
        }
        Self {
            text: packing.text.into_boxed_str(),
        }
    }

    /// The client's address and port, or `unix`.
    pub fn client(&self) -> &str {
        self.fields().next()
    }

    pub fn words(&self) -> Words<'_> {
        let mut fields = self.fields();
        let _client = fields.next();
        Words {
            forwarded_for: fields.next(),
            host: fields.next(),
            sni: fields.next(),
            tls: fields.next(),
            client_subject: fields.next(),
            method: fields.next(),
            path: fields.next(),
            sticky: fields.next(),
        }
    }

    fn fields(&self) -> Fields<'_> {
        Fields {
            rest: &self.text,
            last: "",
        }
    }
}

struct Packing<'a> {
    text: String,
    last: &'a str,
}

impl<'a> Packing<'a> {
    fn push(&mut self, field: &'a str) {
        let field = &field[..field.floor_char_boundary(MOST)];
        let usual = USUAL_WORDS.iter().position(|word| *word == field);
        let length = field.len();
        match usual {
            Some(index) => self.text.push(char::from(USUAL + index as u8)),
            None if !field.is_empty() && field == self.last => self.text.push(char::from(SAME)),
            None => {
                if length < usize::from(LONG) {
                    self.text.push(char::from(length as u8));
                } else {
                    // Seven bits each, which are characters too.
                    let parts = [length >> 7, length & 0x7f].map(|part| char::from(part as u8));
                    self.text.push(char::from(LONG));
                    self.text.extend(parts);
                }
                self.text.push_str(field);
            }
        }
        self.last = field;
    }
}

/// Reads what was packed; empty fields behind the last.
struct Fields<'a> {
    rest: &'a str,
    last: &'a str,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> &'a str {
        let length = match self.head() {
            LONG => usize::from(self.head()) << 7 | usize::from(self.head()),
            SAME => return self.last,
            head if head < LONG => head.into(),
            head => {
                self.last = USUAL_WORDS[usize::from(head - USUAL)];
                return self.last;
            }
        };
        (self.last, self.rest) = self.rest.split_at(length);
        self.last
    }

    fn head(&mut self) -> u8 {
        let Some(head) = self.rest.bytes().next() else {
            return 0;
        };
        self.rest = &self.rest[1..];
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_out() {
        let long = "ä".repeat(MOST);
        let words = Words {
            tls: "TLSv1.3",
            host: "chat.example.com",
            method: "GET",
            path: &long,
            sticky: "cookie:sid",
            ..Words::default()
        };
        let opening = Opening::new("203.0.113.7:4711", &words);
        assert_eq!(opening.client(), "203.0.113.7:4711");
        let cut = Words {
            path: &long[..MOST],
            ..words
        };
        assert_eq!(opening.words(), cut);
        let usual = Words {
            tls: "TLSv1.2",
            sni: "chat.example.com",
            forwarded_for: "2001:db8::1",
            client_subject: "CN=GET",
            ..words
        };
        for length in [0, 1, 98, 99, 100, 101, 127, 128, 129, 4095, 4096] {
            let path = "x".repeat(length);
            let words = Words {
                path: &path,
                ..usual
            };
            let opening = Opening::new("unix", &words);
            assert_eq!((opening.client(), opening.words()), ("unix", words));
        }
        // What many have takes little.
        let opening = Opening::new(
            "203.0.113.7:4711",
            &Words {
                path: "/ws",
                ..usual
            },
        );
        assert!(opening.text.len() < 80, "{}", opening.text.len());
        assert_eq!(Opening::default().words(), Words::default());
    }
}
