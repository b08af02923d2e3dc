use longhaul::ws::close::{close_frame, may_send};
use longhaul::ws::frame::FrameCursor;

/// The frame cursor: it is the same however its bytes are cut into reads, stops
/// where a boundary is, and may be told of payload instead of being shown it.
pub fn frames(data: &[u8]) {
    let mut whole = FrameCursor::new();
    whole.advance(data);
    let mut single = FrameCursor::new();
    for byte in data {
        single.advance(&[*byte]);
    }
    assert_eq!(whole, single, "whole and byte by byte differ");
    by_messages(data, &whole);
    by_frames(data, &whole);
    by_skips(data, &whole);
    own_close(data);
}

fn by_messages(data: &[u8], whole: &FrameCursor) {
    let mut cursor = FrameCursor::new();
    let mut at = 0;
    while at < data.len() {
        at += cursor.advance_to_message_boundary(&data[at..]);
        if at < data.len() {
            assert!(cursor.at_message_boundary() && !cursor.is_lost());
            assert_eq!(cursor.advance_to_message_boundary(&data[at..]), 0);
            cursor.advance(&data[at..=at]);
            at += 1;
        }
    }
    assert_eq!(cursor, *whole, "by messages");
}

fn by_frames(data: &[u8], whole: &FrameCursor) {
    let mut cursor = FrameCursor::new();
    let (mut at, mut messages) = (0, 0);
    while at < data.len() {
        let read = cursor.advance_past_frame(&data[at..]);
        assert!(read > 0);
        at += read;
        assert!(at == data.len() || cursor.at_frame_boundary());
        assert!(cursor.messages() >= messages, "messages are taken back");
        messages = cursor.messages();
    }
    assert_eq!(cursor, *whole, "by frames");
}

/// Payload that only a pipe has seen, as with `splice`.
fn by_skips(data: &[u8], whole: &FrameCursor) {
    let mut cursor = FrameCursor::new();
    let mut at = 0;
    while at < data.len() {
        let left = cursor.payload_left().min((data.len() - at) as u64);
        if left > 0 && !cursor.close_begun() {
            cursor.skip(left);
            at += left as usize;
        } else {
            cursor.advance(&data[at..=at]);
            at += 1;
        }
    }
    assert_eq!(cursor, *whole, "by skips");
}

/// A Close frame of longhaul's own reads as what it was made of.
fn own_close(data: &[u8]) {
    let [a, b, rest @ ..] = data else { return };
    let code = u16::from_be_bytes([*a, *b]);
    let mask = rest.first_chunk::<4>().copied();
    let frame = close_frame(Some(code), &String::from_utf8_lossy(rest), mask);
    let mut cursor = FrameCursor::new();
    cursor.advance(&frame);
    assert!(frame.len() <= 2 + 4 + 125 && cursor.at_message_boundary());
    let seen = cursor.close().expect("a whole Close frame");
    assert_eq!(seen.code, may_send(code).then_some(code));
}
