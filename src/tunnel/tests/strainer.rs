//! What a peer of a random life sees, without longhaul's own pings.

use super::*;
use crate::ws::frame::FrameCursor;
use crate::ws::ping::ping_frame;

/// Follows what has come and takes out pings of longhaul's own.
pub(super) struct Strainer {
    cursor: FrameCursor,
    /// The first bytes of a frame that may be one.
    held: Vec<u8>,
    masked: bool,
}

impl Strainer {
    pub(super) fn new(side: Side) -> Self {
        Self {
            cursor: FrameCursor::new(),
            held: Vec::new(),
            masked: side == Side::Backend,
        }
    }

    /// What is left of `bytes`, and how many pings were among them.
    pub(super) fn strain(&mut self, bytes: &[u8]) -> (Vec<u8>, usize) {
        let (mut left, mut pings) = (Vec::new(), 0);
        for &byte in bytes {
            if !self.cursor.at_frame_boundary() {
                self.cursor.advance(&[byte]);
                left.push(byte);
                continue;
            }
            self.held.push(byte);
            let ping = self.ping();
            if self.held == ping {
                pings += 1;
                self.held.clear();
            } else if !ping.starts_with(&self.held) {
                self.cursor.advance(&self.held);
                left.append(&mut self.held);
            }
        }
        (left, pings)
    }

    /// Bytes of which it is not clear yet what they are.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn into_held(self) -> Vec<u8> {
        self.held
    }

    /// A ping with the key of what is held.
    fn ping(&self) -> Vec<u8> {
        let mut key = [0; 4];
        for (place, byte) in key.iter_mut().zip(self.held.iter().skip(2)) {
            *place = *byte;
        }
        ping_frame(*PAYLOAD, self.masked.then_some(key))
    }
}

/// The answer of a peer to a ping of longhaul's own.
pub(super) fn pong(side: Side) -> Vec<u8> {
    let mask = (side == Side::Client).then(rand::random);
    let mut frame = ping_frame(*PAYLOAD, mask);
    frame[0] = 0x8a;
    frame
}
