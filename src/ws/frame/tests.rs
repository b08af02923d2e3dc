//! The frame cursor against the RFC's examples and a model that sees whole frames.

use proptest::prelude::*;

use super::*;

fn after(bytes: &[u8]) -> FrameCursor {
    let mut cursor = FrameCursor::new();
    cursor.advance(bytes);
    cursor
}

#[test]
fn it_stays_small() {
    assert!(size_of::<FrameCursor>() <= 24);
}

/// RFC 6455 section 5.7.
#[test]
fn the_examples_of_the_rfc() {
    let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let masked = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    let first_half = [0x01, 0x03, 0x48, 0x65, 0x6c];
    let second_half = [0x80, 0x02, 0x6c, 0x6f];
    let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let pong = [
        0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    for (bytes, messages) in [(&hello[..], 1), (&masked, 1), (&ping, 0), (&pong, 0)] {
        let cursor = after(bytes);
        assert!(cursor.at_message_boundary());
        assert_eq!((cursor.messages(), cursor.close()), (messages, None));
    }

    let mut cursor = after(&first_half);
    assert!(cursor.at_frame_boundary() && !cursor.at_message_boundary());
    cursor.advance(&ping);
    assert!(cursor.at_frame_boundary() && !cursor.at_message_boundary());
    cursor.advance(&second_half);
    assert!(cursor.at_message_boundary());
    assert_eq!(cursor.messages(), 1);

    for (head, length) in [
        (&[0x82, 0x7e, 0x01, 0x00][..], 256),
        (&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
    ] {
        let mut cursor = after(head);
        assert_eq!(cursor.payload_left(), length);
        assert_eq!(cursor.messages(), 0);
        cursor.advance(&vec![0; length as usize]);
        assert_eq!((cursor.payload_left(), cursor.messages()), (0, 1));
    }
}

#[test]
fn close_codes_masked_or_not_or_missing() {
    let table: [(&[u8], Option<u16>); 5] = [
        (&[0x88, 0x02, 0x03, 0xe8], Some(1000)),
        (
            &[0x88, 0x84, 0x11, 0x22, 0x33, 0x44, 0x12, 0xd6, 0x5c, 0x2f],
            Some(1012),
        ),
        (&[0x88, 0x00], None),
        (&[0x88, 0x80, 1, 2, 3, 4], None),
        (&[0x88, 0x01, 0x03], None),
    ];
    for (bytes, code) in table {
        let before = after(&bytes[..bytes.len() - 1]);
        assert!(before.close_begun());
        assert_eq!(before.close(), None);
        assert_eq!(after(bytes).close(), Some(CloseSeen { code }));
    }
}

#[test]
fn only_the_first_close_counts_and_it_ends_the_message_it_interrupts() {
    let mut cursor = after(&[0x01, 0x00, 0x88, 0x02, 0x03, 0xe8]);
    assert!(cursor.at_message_boundary());
    cursor.advance(&[0x88, 0x02, 0x0f, 0xa0]);
    assert_eq!(cursor.close(), Some(CloseSeen { code: Some(1000) }));
}

#[test]
fn impossible_headers_lose_it_for_good() {
    let table: [&[u8]; 4] = [&[0x09], &[0x89, 0x7e], &[0x88, 0xff], &[0x82, 0x7f, 0x80]];
    for bytes in table {
        let mut cursor = after(bytes);
        assert!(cursor.is_lost());
        let hello = [0x81, 0x01, 0x48];
        assert_eq!(cursor.advance_to_message_boundary(&hello), hello.len());
        assert!(!cursor.at_frame_boundary() && !cursor.at_message_boundary());
        assert_eq!(cursor.messages(), 0);
    }
    assert!(FrameCursor::blind().is_lost());
}

#[derive(Clone, Debug)]
struct Frame {
    first: u8,
    key: Option<[u8; 4]>,
    payload: Vec<u8>,
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.first];
        let masked = if self.key.is_some() { MASKED } else { 0 };
        match self.payload.len() {
            short @ ..=125 => bytes.push(masked | short as u8),
            middle @ ..=65_535 => {
                bytes.push(masked | 126);
                bytes.extend((middle as u16).to_be_bytes());
            }
            long => {
                bytes.push(masked | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        bytes.extend(
            self.key
                .unwrap_or_default()
                .iter()
                .take(4 * usize::from(masked != 0)),
        );
        let key = self.key.unwrap_or_default();
        bytes.extend(
            self.payload
                .iter()
                .zip(key.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        bytes
    }
}

fn frame() -> impl Strategy<Value = Frame> {
    let data = (
        0u8..8,
        any::<bool>(),
        prop_oneof![0usize..40, 120usize..140, 65_530usize..65_545],
    )
        .prop_map(|(opcode, fin, length)| (opcode | if fin { FIN } else { 0 }, length));
    let control = (8u8..16, 0usize..=125).prop_map(|(opcode, length)| (opcode | FIN, length));
    (
        prop_oneof![4 => data, 3 => control],
        any::<Option<[u8; 4]>>(),
        any::<u8>(),
    )
        .prop_map(|((first, length), key, fill)| Frame {
            first,
            key,
            payload: (0..length).map(|i| fill.wrapping_add(i as u8)).collect(),
        })
}

/// What whole frames say: messages, the first Close, and every place that
/// is a message boundary.
fn model(frames: &[Frame]) -> (u64, Option<CloseSeen>, Vec<usize>) {
    let (mut messages, mut close, mut open, mut at) = (0, None, false, 0);
    let mut boundaries = vec![0];
    for frame in frames {
        at += frame.bytes().len();
        let (opcode, fin) = (frame.first & OPCODE, frame.first & FIN != 0);
        if opcode < 8 {
            open = !fin;
            messages += u64::from(fin && opcode <= 2);
        } else if opcode == CLOSE && close.is_none() {
            open = false;
            let code = frame
                .payload
                .first_chunk()
                .map(|code| u16::from_be_bytes(*code));
            close = Some(CloseSeen { code });
        }
        if !open {
            boundaries.push(at);
        }
    }
    (messages, close, boundaries)
}

proptest! {
    #[test]
    fn any_split_of_any_frames_is_the_whole(
        frames in prop::collection::vec(frame(), 1..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        let (messages, close, boundaries) = model(&frames);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut cursor = FrameCursor::new();
        let mut found = FrameCursor::new();
        for pair in cuts.windows(2) {
            let part = &bytes[pair[0]..pair[1]];
            let next = boundaries.iter().find(|at| **at >= pair[0]).copied();
            let stop = next.unwrap_or(bytes.len()).min(pair[1]) - pair[0];
            prop_assert_eq!(found.advance_to_message_boundary(part), stop);
            found.advance(&part[stop..]);
            cursor.advance(part);
            prop_assert_eq!(&cursor, &found);
            prop_assert_eq!(cursor.at_message_boundary(), boundaries.contains(&pair[1]));
        }
        prop_assert_eq!(cursor.messages(), messages);
        prop_assert_eq!(cursor.close(), close);
    }

    #[test]
    fn garbage_neither_panics_nor_depends_on_splits(
        bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(bytes.len() + 1);
        let mut split = after(&bytes[..at]);
        split.advance(&bytes[at..]);
        prop_assert_eq!(split, after(&bytes));
        let mut past = FrameCursor::new();
        let passed = past.advance_past_close(&bytes);
        prop_assert!(passed == bytes.len() || past.close().is_some());
    }
}
