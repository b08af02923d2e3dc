//! The answer to a Ping frame of longhaul's own, among the frames of a peer
//! (RFC 6455 section 5.5.3).
//!
//! It looks at single frames from their first byte on; where those begin is
//! for others to know (`frame` does).
//!
//! Invariant: it keeps bytes only while all of them could be the beginning of
//! that answer, and gives them back unchanged once they cannot.

use super::ping::ping_frame;

/// FIN and opcode 10, and no reserved bit: an extension that sets one has
/// changed the payload.
const FIN_PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;
const PAYLOAD: usize = 8;
const KEY: usize = 4;
const MOST: usize = 2 + KEY + PAYLOAD;

/// The pings to one peer, which all have one payload, and its answers.
///
/// An answer may come late, or be one to several pings, so all pings are the
/// same. Nobody but the peer can know the payload, so what carries it answers.
#[derive(Clone, Debug)]
pub struct PongWatch {
    payload: [u8; PAYLOAD],
    held: Held,
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All bytes so far could begin an answer.
    Undecided,
    /// An answer, whole: to be passed on to nobody.
    Answer,
    /// Anything else: what is held goes on its way, before what follows.
    Other,
}

/// The first bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    bytes: [u8; MOST],
    length: u8,
}

impl PongWatch {
    /// For pings with this payload, which is to be unpredictable.
    pub fn new(payload: [u8; PAYLOAD]) -> Self {
        Self {
            payload,
            held: Held::none(),
        }
    }

    /// A Ping frame; `mask` as for [`ping_frame`].
    pub fn ping(&self, mask: Option<[u8; KEY]>) -> Vec<u8> {
        ping_frame(self.payload, mask)
    }

    /// Whether an answer begins with `byte`.
    pub fn begins(byte: u8) -> bool {
        byte == FIN_PONG
    }

    /// Whether a frame whose next byte is `byte` is to be shown to [`Self::look`].
    pub fn concerns(&self, byte: u8) -> bool {
        self.held.length > 0 || Self::begins(byte)
    }

    /// Takes bytes of a frame, from its first on in as many calls as it likes,
    /// until it is clear what the frame is; says how many it took.
    pub fn look(&mut self, bytes: &[u8]) -> (usize, Seen) {
        for (at, &byte) in bytes.iter().enumerate() {
            self.held.push(byte);
            if !self.fits() {
                return (at + 1, Seen::Other);
            }
            if self.held.length as usize == self.length() {
                self.held = Held::none();
                return (at + 1, Seen::Answer);
            }
        }
        (bytes.len(), Seen::Undecided)
    }

    /// What it has taken of a frame that is no answer.
    pub fn release(&mut self) -> Held {
        std::mem::replace(&mut self.held, Held::none())
    }

    /// Whether the last byte held is as in an answer. Whether it should be
    /// masked is between the peers, as with all frames.
    fn fits(&self) -> bool {
        let held: &[u8] = &self.held;
        let at = held.len() - 1;
        let start = self.length() - PAYLOAD;
        match at {
            0 => Self::begins(held[0]),
            1 => usize::from(held[1] & !MASKED) == PAYLOAD,
            _ if at < start => true,
            _ => {
                let place = at - start;
                let key = if start > 2 { held[2 + place % KEY] } else { 0 };
                held[at] ^ key == self.payload[place]
            }
        }
    }

    /// Of the whole frame.
    fn length(&self) -> usize {
        match self.held.get(1) {
            Some(second) if second & MASKED == 0 => 2 + PAYLOAD,
            _ => MOST,
        }
    }
}

impl Held {
    fn none() -> Self {
        Self {
            bytes: [0; MOST],
            length: 0,
        }
    }

    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.length)] = byte;
        self.length += 1;
    }
}

impl std::ops::Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: [u8; 8] = *b"longhaul";

    fn pong(payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
        let mut frame = vec![FIN_PONG, payload.len() as u8];
        if let Some(key) = key {
            frame[1] |= MASKED;
            frame.extend(key);
        }
        let key = key.unwrap_or_default();
        let masked = payload.iter().zip(key.iter().cycle());
        frame.extend(masked.map(|(byte, key)| byte ^ key));
        frame
    }

    /// Shows it `bytes` in pieces of `size`: what it took and thought.
    fn look(watch: &mut PongWatch, bytes: &[u8], size: usize) -> (usize, Seen) {
        let mut taken = 0;
        for piece in bytes.chunks(size) {
            let (count, seen) = watch.look(piece);
            taken += count;
            if seen != Seen::Undecided {
                return (taken, seen);
            }
        }
        (taken, Seen::Undecided)
    }

    #[test]
    fn an_answer_is_known_however_it_is_cut_and_masked() {
        for key in [None, Some([0; 4]), Some([9, 8, 7, 6])] {
            let answer = pong(&OURS, key);
            for size in 1..=answer.len() {
                let mut watch = PongWatch::new(OURS);
                let more = [&answer[..], b"more"].concat();
                let found = look(&mut watch, &more, size);
                assert_eq!(found, (answer.len(), Seen::Answer), "{key:?} {size}");
                assert!(watch.release().is_empty() && !watch.concerns(b'm'));
            }
        }
    }

    #[test]
    fn a_frame_that_differs_anywhere_is_given_back() {
        for key in [None, Some([9, 8, 7, 6])] {
            let answer = pong(&OURS, key);
            let start = answer.len() - PAYLOAD;
            for at in (0..answer.len()).filter(|at| *at < 2 || *at >= start) {
                let mut other = answer.clone();
                other[at] ^= 0x01;
                let mut watch = PongWatch::new(OURS);
                assert_eq!(look(&mut watch, &other, 3), (at + 1, Seen::Other));
                assert_eq!(*watch.release(), other[..=at]);
            }
        }
    }

    proptest! {
        #[test]
        fn what_it_takes_it_gives_back_or_it_was_the_answer(
            bytes in prop::collection::vec(
                prop_oneof![Just(0x8au8), Just(0x88), Just(0x08), any::<u8>()], 0..20,
            ),
            size in 1usize..20,
        ) {
            let mut watch = PongWatch::new(OURS);
            let (taken, seen) = look(&mut watch, &bytes, size);
            prop_assert_eq!(seen == Seen::Undecided, taken == bytes.len() && seen != Seen::Other && seen != Seen::Answer);
            if seen != Seen::Answer {
                prop_assert_eq!(&*watch.release(), &bytes[..taken]);
            }
        }
    }
}
