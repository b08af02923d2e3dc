//! Limits of messages: at every point of a script what is within them passes
//! unchanged, and what is not never begins at the other side; under both engines,
//! over TLS and from clients that speak HTTP/2.

use proptest::prelude::*;

use super::super::direction::Way;
use super::super::quota::{Breach, Quota};
use super::ground::Ground;
use super::lives::{answer, cursor};
use super::points::{BACKEND, CLIENT, on_grounds, said, script};
use super::*;
use crate::config::{ByteRate, LimitedSide, MessageLimits};

const SIDES: [Side; 2] = [Side::Client, Side::Backend];

/// As large as the script has them.
const FITTING: MessageLimits = MessageLimits {
    max_frame: Some(3),
    max_message: Some(4),
    message_rate: None,
    byte_rate: None,
    side: LimitedSide::Both,
};

fn limited(limits: MessageLimits) -> Options {
    Options {
        messages: Some(limits),
        ..options(Framing::WebSocket)
    }
}

/// The last place up to `point` where no frame is open.
fn boundary(bytes: &[u8], point: usize) -> usize {
    let is_one = |at: &usize| cursor(&bytes[..*at]).at_frame_boundary();
    (0..=point).rev().find(is_one).unwrap()
}

#[test]
fn what_is_within_the_limits_passes_as_it_came() {
    let options = |_| limited(FITTING);
    on_grounds(
        Ground::narrow,
        &[false],
        options,
        |mut scene, side, point| {
            let (sent, other) = (script(side == CLIENT), 1 - side);
            scene.send(side, &sent[..point]);
            // Of a header nothing passes before its length is known.
            let seen = scene.far[other].seen.len();
            assert!(sent[..point].starts_with(&scene.far[other].seen));
            assert!(
                seen == point || seen == boundary(&sent, point),
                "at {point}"
            );
            scene.send(side, &sent[point..]);
            assert!(scene.far[other].seen == sent, "at {point}");
            // Not even what will never be one is kept.
            scene.send(side, &[0x82]);
            scene.end(side);
            let all = [&sent[..], &[0x82]].concat();
            assert!(scene.far[other].seen == all && scene.far[other].ended);
            let tunnel = &scene.rig.tunnel;
            assert_eq!(tunnel.bytes_in() + tunnel.bytes_out(), all.len() as u64);
            assert_eq!(tunnel.messages_in() + tunnel.messages_out(), 4);
        },
    );
}

/// Sends the script up to a boundary and then `more`; the sides must be told so.
fn ends_by(more: &[u8], cause: Cause, code: u16) {
    let options = |_| limited(FITTING);
    on_grounds(
        Ground::narrow,
        &[true],
        options,
        |mut scene, side, point| {
            let (script, other) = (script(side == CLIENT), 1 - side);
            let at = boundary(&script, point);
            scene.send(side, &script[..at]);
            scene.send(side, more);
            let (passed, close) = scene.far[other].seen.split_at(at);
            assert!(passed == &script[..at], "behind {at}");
            let told: u16 = if other == BACKEND { 1001 } else { 1011 };
            let close = said(other, close);
            assert_eq!((close[0], &close[2..4]), (0x88, &told.to_be_bytes()[..]));
            let close = said(side, &scene.far[side].seen);
            assert_eq!((close[0], &close[2..4]), (0x88, &code.to_be_bytes()[..]));
            scene.send(other, answer(SIDES[other]));
            for side in [BACKEND, CLIENT] {
                scene.end(side);
            }
            let outcome = scene.outcome();
            assert_eq!((outcome.ended_by, outcome.cause), (SIDES[side], cause));
            assert_eq!(outcome.bytes_in + outcome.bytes_out, at as u64);
            assert!(scene.far.iter().all(|far| far.ended));
        },
    );
}

#[test]
fn a_frame_that_is_too_large_never_begins() {
    // Four bytes; whether they come does not matter.
    ends_by(&[0x82, 0x84, 1, 2, 3, 4, b'x'], Cause::MaxFrame, 1009);
}

#[test]
fn nor_does_the_frame_that_makes_a_message_too_large() {
    // Where the script has an open message this goes on with it, and elsewhere it
    // follows a message of three bytes that is not at its end.
    let fragments = [0x02, 0x83, 1, 2, 3, 4, 5, 6, 7, 0x00, 0x82];
    let mut quota = Quota::new(&limited(FITTING), 0).unwrap();
    let look = quota.look(Way::In, &fragments, 0);
    assert!(look.stops);
    assert_eq!((look.passes, look.seen), (9, 11));
    assert_eq!(quota.take_breach(), Some((Way::In, Breach::Message)));
    assert_eq!(quota.take_breach(), None);
}

#[test]
fn a_side_that_is_not_limited_sends_what_it_likes() {
    let limits = MessageLimits {
        side: LimitedSide::Client,
        ..FITTING
    };
    let mut quota = Quota::new(&limited(limits), 0).unwrap();
    let giant = [0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(quota.look(Way::Out, &giant, 0).passes, giant.len());
    assert!(quota.look(Way::In, &giant, 0).stops);
    let mut opaque = limited(limits);
    opaque.framing = Framing::Opaque;
    assert!(Quota::new(&opaque, 0).is_none());
}

#[test]
fn messages_are_counted_and_neither_fragments_nor_pings() {
    let mut options = limited(MessageLimits {
        max_frame: None,
        max_message: None,
        message_rate: Some("2/s".parse().unwrap()),
        ..FITTING
    });
    options.framing = Framing::WebSocket;
    let mut quota = Quota::new(&options, 0).unwrap();
    let mut sends = |bytes: &[u8], now| !quota.look(Way::In, bytes, now).stops;
    assert!(sends(b"\x01\x00\x00\x00\x89\x00\x80\x00", 0), "one message");
    assert!(sends(b"\x89\x00\x8a\x00\x89\x00", 0));
    assert!(sends(b"\x82\x00", 0));
    // With a tick to spare for a clock that is late.
    assert!(!sends(b"\x82\x00", 3));
    let mut quota = Quota::new(&options, 0).unwrap();
    let mut sends = |now| !quota.look(Way::In, b"\x82\x00", now).stops;
    assert!((0..100).all(|n| sends(5 * n)), "at the very rate");
}

#[test]
fn bytes_are_counted_wherever_they_pass() {
    let limits = MessageLimits {
        max_frame: None,
        max_message: None,
        byte_rate: Some(ByteRate { bytes: 100, per: 1 }),
        ..FITTING
    };
    let mut quota = Quota::new(&limited(limits), 0).unwrap();
    let head = [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0];
    let look = quota.look(Way::In, &head, 0);
    assert_eq!((look.passes, look.stops), (10, false));
    quota.skip(Way::In, 90, 0);
    assert_eq!(quota.take_breach(), None);
    quota.skip(Way::In, 100, 10);
    assert_eq!(quota.take_breach(), None);
    // The open frame goes on to its end, and the tunnel ends behind it.
    quota.skip(Way::In, 20, 10);
    assert_eq!(quota.take_breach(), Some((Way::In, Breach::ByteRate)));
    assert!(!quota.look(Way::In, &[0; 50], 10).stops);
}

/// What passes of bytes that come in these pieces, and how many until it stops.
fn passed(limits: MessageLimits, bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, bool) {
    let mut quota = Quota::new(&limited(limits), 0).unwrap();
    let (mut passed, mut rest) = (Vec::new(), bytes);
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
        rest = later;
        let look = quota.look(Way::In, piece, 0);
        passed.extend_from_slice(look.freed.bytes());
        passed.extend_from_slice(&piece[..look.passes]);
        if look.stops {
            return (passed, true);
        }
    }
    passed.extend_from_slice(quota.release(Way::In).bytes());
    (passed, false)
}

proptest! {
    #[test]
    fn how_the_bytes_were_cut_changes_nothing(
        frames in prop::collection::vec((0u8..16, any::<bool>(), any::<bool>(), 0usize..300), 1..12),
        cuts in prop::collection::vec(1usize..40, 1..8),
        max_frame in 125u64..400,
        max_message in 125u64..600,
    ) {
        let mut bytes = Vec::new();
        for (opcode, last, masked, length) in frames {
            let length = if opcode & 8 == 0 { length } else { length.min(125) };
            let last = last || opcode & 8 != 0;
            let bit = if masked { 0x80 } else { 0 };
            bytes.push(opcode | if last { 0x80 } else { 0 });
            match length {
                0..126 => bytes.push(length as u8 | bit),
                _ => bytes.extend([126 | bit, (length >> 8) as u8, length as u8]),
            }
            bytes.extend(vec![0x81; length + if masked { 4 } else { 0 }]);
        }
        let limits = MessageLimits {
            max_frame: Some(max_frame),
            max_message: Some(max_message),
            ..FITTING
        };
        let (whole, stopped) = passed(limits, &bytes, &[usize::MAX]);
        prop_assert_eq!(passed(limits, &bytes, &cuts), (whole.clone(), stopped));
        prop_assert!(bytes.starts_with(&whole));
        match stopped {
            true => prop_assert!(cursor(&whole).at_frame_boundary()),
            false => prop_assert_eq!(whole, bytes),
        }
    }
}
