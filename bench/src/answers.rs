//! The messages that come back on one tunnel, each byte held against the pattern.
//!
//! It deliberately does not care what carries them. Invariant: answers come in the order of the messages, whole or in
//! any pieces, and a byte that differs is an error.

use anyhow::{Result, ensure};

use crate::frame::{HeaderReader, Pattern};

/// See the module.
#[derive(Default)]
pub struct Answers {
    /// Which part of the pattern this tunnel's messages are.
    pub stream: u32,
    received: u64,
    reader: HeaderReader,
    /// Payload bytes seen of the message that is coming in.
    at: Option<usize>,
}

impl Answers {
    /// The answers of one tunnel.
    pub fn new(stream: u32) -> Self {
        Self {
            stream,
            ..Self::default()
        }
    }

    /// Takes bytes as they come; how many messages they complete.
    ///
    /// # Errors
    /// When a byte is not what was sent.
    pub fn take(&mut self, mut bytes: &[u8], pattern: &Pattern) -> Result<u32> {
        let mut answers = 0;
        while !bytes.is_empty() {
            let at = match self.at {
                Some(at) => at,
                None => {
                    let Some(header) = self.reader.read(&mut bytes) else {
                        break;
                    };
                    ensure!(
                        header.first == 0x82
                            && header.len == pattern.size() as u64
                            && header.mask.is_none(),
                        "an unexpected frame: {header:?}"
                    );
                    0
                }
            };
            let expected = &pattern.payload(self.stream, self.received)[at..];
            let take = expected.len().min(bytes.len());
            ensure!(
                bytes[..take] == expected[..take],
                "message {} differs at or after byte {at}",
                self.received
            );
            bytes = &bytes[take..];
            self.at = (take < expected.len()).then_some(at + take);
            if self.at.is_none() {
                self.received += 1;
                answers += 1;
            }
        }
        Ok(answers)
    }
}
