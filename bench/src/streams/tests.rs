//! The streams of a connection against a server that is written out by hand.

use super::*;
use crate::frame::push_header;

const ALLOWED: [(u16, u32); 1] = [(setting::ENABLE_CONNECT_PROTOCOL, 1)];

struct Both {
    streams: Streams,
    pattern: Pattern,
    events: Events,
}

impl Both {
    // Two streams that have been asked for; what was sent so far is forgotten.
    fn new(size: usize) -> Self {
        let mut streams = Streams::new(b"block"[..].into());
        streams.open(0);
        streams.open(1);
        streams.outgoing.out.clear();
        let mut both = Self {
            streams,
            pattern: Pattern::new(size),
            events: Vec::new(),
        };
        let mut wire = Vec::new();
        http2::push_settings(&ALLOWED, &mut wire);
        both.take(&wire).unwrap();
        both
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.streams.take(bytes, &self.pattern, &mut self.events)
    }

    fn answer(&self, stream: u32, seq: u64) -> Vec<u8> {
        let mut message = Vec::new();
        push_header(0x82, self.pattern.size() as u64, None, &mut message);
        message.extend_from_slice(self.pattern.payload(stream, seq));
        message
    }

    fn sent(&mut self) -> Vec<(u8, u32, Vec<u8>)> {
        let bytes = std::mem::take(&mut self.streams.outgoing.out);
        let (mut rest, mut found) = (&bytes[..], Vec::new());
        while let Some(frame) = Frame::take(&mut rest).unwrap() {
            found.push((frame.kind, frame.stream, frame.payload.to_vec()));
        }
        found
    }
}

#[test]
fn nothing_is_asked_before_it_is_allowed() {
    let mut both = Both::new(1);
    let asked: Vec<_> = both.sent().into_iter().map(|(k, s, _)| (k, s)).collect();
    assert_eq!(
        asked,
        [(kind::SETTINGS, 0), (kind::HEADERS, 1), (kind::HEADERS, 3)]
    );
    let mut other = Streams::new(b"block"[..].into());
    let mut wire = Vec::new();
    http2::push_settings(&[(setting::MAX_CONCURRENT_STREAMS, 100)], &mut wire);
    let error = other.take(&wire, &Pattern::new(1), &mut Vec::new());
    assert!(error.unwrap_err().to_string().contains("RFC 8441"));
}

#[test]
fn answers_come_in_any_pieces() {
    for split in [1, 2, 7, 1000] {
        let mut both = Both::new(125);
        let mut wire = Vec::new();
        for stream in [1, 3] {
            http2::push(kind::HEADERS, flag::END_HEADERS, stream, b"\x88", &mut wire);
        }
        let answer = both.answer(1, 0);
        http2::push(kind::DATA, 0, 3, &answer[..50], &mut wire);
        http2::push(kind::PING, 0, 0, b"12345678", &mut wire);
        http2::push(kind::DATA, 0, 1, &both.answer(0, 0), &mut wire);
        http2::push(kind::DATA, 0, 3, &answer[50..], &mut wire);
        both.sent();
        for piece in wire.chunks(split) {
            both.take(piece).unwrap();
        }
        let open = [(0, Outcome::Opened), (1, Outcome::Opened)];
        let answers = [(0, Outcome::Answers(1)), (1, Outcome::Answers(1))];
        assert_eq!(both.events, [open, answers].concat());
        assert_eq!(both.sent(), [(kind::PING, 0, b"12345678".to_vec())]);
    }
}

#[test]
fn a_byte_that_differs_is_an_error() {
    let mut both = Both::new(125);
    let mut wire = Vec::new();
    http2::push(kind::HEADERS, flag::END_HEADERS, 1, b"\x88", &mut wire);
    // The answer of another stream.
    http2::push(kind::DATA, 0, 1, &both.answer(1, 0), &mut wire);
    assert!(both.take(&wire).is_err());
}

#[test]
fn ends_and_refusals_are_told() {
    for (frame, flags, payload, text) in [
        (kind::RST_STREAM, 0, &b"\0\0\0\x08"[..], "code 8"),
        (kind::GOAWAY, 0, b"\0\0\0\0\0\0\0\x0b", "code 11"),
        (kind::HEADERS, 4, b"\x48\x03503", "status 503"),
        (kind::HEADERS, 5, b"\x88", "status 200"),
        (kind::DATA, 0, b"x", "before an answer"),
    ] {
        let mut both = Both::new(1);
        let mut wire = Vec::new();
        let stream = if frame == kind::GOAWAY { 0 } else { 1 };
        http2::push(frame, flags, stream, payload, &mut wire);
        let error = both.take(&wire).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn windows_are_given_back_by_halves() {
    let mut both = Both::new(4 << 20);
    let mut wire = Vec::new();
    http2::push(kind::HEADERS, flag::END_HEADERS, 1, b"\x88", &mut wire);
    for piece in both.answer(0, 0).chunks(1 << 14) {
        http2::push(kind::DATA, 0, 1, piece, &mut wire);
    }
    both.sent();
    both.take(&wire).unwrap();
    let half = (STREAM_WINDOW / 2).to_be_bytes().to_vec();
    assert_eq!(both.sent(), [(kind::WINDOW_UPDATE, 1, half)]);
    assert_eq!(both.events[1], (0, Outcome::Answers(1)));
}
