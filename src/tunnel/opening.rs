//! What was known of the client and its request when a tunnel opened, for the
//! lines and lists that repeat it as long as the tunnel lives.
//!
//! Packed into one allocation, because there may be a million of them. It means
//! nothing to the tunnel itself.

use std::fmt::Display;

use crate::exchange::Words;

/// One request's `Words`, and the client's address, packed.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    text: Box<str>,
    /// Where each field but the last ends.
    ends: [u16; FIELDS - 1],
}

const FIELDS: usize = 9;

/// Most bytes of one field; what is beyond is cut off. Together they stay below
/// what a `u16` counts.
const MOST: usize = 4096;

impl Opening {
    pub fn new(client: impl Display, words: &Words<'_>) -> Self {
        let client = client.to_string();
        let fields: [&str; FIELDS] = [
            &client,
            words.forwarded_for,
            words.tls,
            words.sni,
            words.client_subject,
            words.host,
            words.method,
            words.path,
            words.sticky,
        ];
        let fields = fields.map(|field| &field[..field.floor_char_boundary(MOST)]);
        let mut text = String::with_capacity(fields.iter().map(|field| field.len()).sum());
        let mut ends = [0; FIELDS - 1];
        for (index, field) in fields.into_iter().enumerate() {
            text.push_str(field);
            if let Some(end) = ends.get_mut(index) {
                *end = text.len() as u16;
            }
        }
        Self {
            text: text.into_boxed_str(),
            ends,
        }
    }

    /// The client's address and port, or `unix`.
    pub fn client(&self) -> &str {
        self.field(0)
    }

    pub fn words(&self) -> Words<'_> {
        Words {
            forwarded_for: self.field(1),
            tls: self.field(2),
            sni: self.field(3),
            client_subject: self.field(4),
            host: self.field(5),
            method: self.field(6),
            path: self.field(7),
            sticky: self.field(8),
        }
    }

    fn field(&self, index: usize) -> &str {
        let start = match index {
            0 => 0,
            _ => usize::from(self.ends[index - 1]),
        };
        let end = self
            .ends
            .get(index)
            .map_or(self.text.len(), |end| (*end).into());
        &self.text[start..end]
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
        assert_eq!(Opening::default().words(), Words::default());
    }
}
