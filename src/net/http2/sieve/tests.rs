//! What comes out of the sieve, however what goes in was split.

use super::super::hpack::encode;
use super::*;

const MOST: usize = 64 * 1024;

fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::write(&mut bytes, kind, flags, stream, payload);
    bytes
}

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        encode(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

/// What comes out, at one way of splitting what goes in.
fn sieved(bytes: &[u8], split: usize) -> (Vec<u8>, Calm) {
    let (mut sieve, calm) = (Sieve::new(MOST), Calm::new(1000, 1000));
    let mut seen = Vec::new();
    for part in bytes.chunks(split) {
        let passed = sieve.pass(part, &calm);
        // What passes as it is comes before what does not.
        seen.extend_from_slice(&part[..passed]);
        seen.append(sieve.out());
    }
    (seen, calm)
}

#[track_caller]
fn comes_out(frames: &[Vec<u8>], expected: &[Vec<u8>]) {
    let bytes = [PREFACE, &frames.concat()].concat();
    let expected = [PREFACE, &expected.concat()].concat();
    for split in 1..=bytes.len() {
        let (seen, calm) = sieved(&bytes, split);
        assert!(seen == expected, "split {split}: {seen:?}");
        assert!(!calm.is_lost());
    }
}

const HEADERS_END: u8 = Frame::END_HEADERS | Frame::END_STREAM;

#[test]
fn what_is_nobodys_business_passes_as_it_is() {
    let frames = [
        frame(Kind::SETTINGS, 0, 0, &[0; 12]),
        frame(Kind::DATA, 0, 1, b"some bytes"),
        frame(Kind::DATA, Frame::END_STREAM, 1, b""),
        frame(Kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
        frame(Kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        frame(Kind(0xee), 0xff, 9, b"whatever"),
    ];
    comes_out(&frames, &frames);
}

#[test]
fn blocks_come_out_whole_and_plain() {
    let block = head(&[(":method", "GET"), ("x-own", "1")]);
    let plain = frame(Kind::HEADERS, HEADERS_END, 1, &block);
    comes_out(std::slice::from_ref(&plain), std::slice::from_ref(&plain));
    let parts = [
        frame(Kind::HEADERS, Frame::END_STREAM, 1, &block[..5]),
        frame(Kind::CONTINUATION, 0, 1, &block[5..6]),
        frame(Kind::CONTINUATION, Frame::END_HEADERS, 1, &block[6..]),
    ];
    comes_out(&parts, &[plain]);
}

#[test]
fn mistakes_of_a_stream_stay_with_it() {
    let bad = head(&[(":method", "GET"), ("X-Own", "1")]);
    let verdict = fields::verdict("400");
    let most = frame(Kind::WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes());
    comes_out(
        &[
            frame(Kind::HEADERS, Frame::END_HEADERS, 1, &bad),
            frame(Kind::DATA, 0, 1, b""),
            frame(Kind::WINDOW_UPDATE, 0, 1, &[0; 4]),
            frame(Kind::HEADERS, HEADERS_END, 1, &bad),
            frame(Kind::PING, 0, 0, &[1; 8]),
        ],
        &[
            frame(Kind::HEADERS, Frame::END_HEADERS, 1, &verdict),
            most.clone(),
            most,
            // Trailers that end nothing.
            frame(Kind::HEADERS, Frame::END_HEADERS, 1, b""),
            frame(Kind::PING, 0, 0, &[1; 8]),
        ],
    );
}

#[test]
fn mistakes_of_the_connection_are_left_to_h2() {
    let block = head(&[(":method", "GET")]);
    let frames = [
        frame(Kind::CONTINUATION, 0, 1, &block),
        frame(Kind::HEADERS, HEADERS_END, 2, &block),
        frame(Kind::HEADERS, HEADERS_END | 0x8, 1, &[255, 0]),
    ];
    comes_out(&frames, &frames);
    let ping = frame(Kind::PING, 0, 0, &[1; 8]);
    let begun = frame(Kind::HEADERS, 0, 1, &block);
    let empty = frame(Kind::HEADERS, 0, 1, b"");
    comes_out(&[begun, ping.clone()], &[empty, ping]);
}

#[test]
fn what_compression_cannot_be_ends_the_connection() {
    for block in [&[0x80][..], &[0xff; 9]] {
        let frame = frame(Kind::HEADERS, HEADERS_END, 1, block);
        let (_, calm) = sieved(&[PREFACE, &frame].concat(), 1000);
        assert!(calm.is_lost());
    }
}

/// Whatever comes in the same read as the cause.
#[test]
fn nothing_passes_behind_what_ends_the_connection() {
    let block = head(&[(":method", "GET")]);
    let ping = frame(Kind::PING, 0, 0, &[1; 8]);
    let part = frame(Kind::CONTINUATION, 0, 3, b"x");
    let good = frame(Kind::HEADERS, HEADERS_END, 1, &block);
    let flood = [&[frame(Kind::HEADERS, 0, 3, &block)][..], &vec![part; 50]].concat();
    let wrong = [frame(Kind::HEADERS, HEADERS_END, 3, &[0x80]), ping.clone()].to_vec();
    for (cause, passed) in [
        (flood, good.clone()),
        (wrong, good.clone()),
        // A thousand of these may pass.
        (
            vec![ping.clone(); 1200],
            [&good[..], &ping.repeat(1000)].concat(),
        ),
    ] {
        let frames = [&good[..], &cause.concat()].concat();
        let bytes = [PREFACE, &frames].concat();
        for split in (1..40).chain([100, 1000, bytes.len()]) {
            let (seen, calm) = sieved(&bytes, split);
            assert!(seen == [PREFACE, &passed].concat(), "split {split}");
            assert!(calm.is_lost());
        }
    }
}
