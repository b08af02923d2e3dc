//! What comes out of the sieve, however what goes in was split.

use super::super::hpack::encode;
use super::*;

const BOUNDS: Bounds = Bounds {
    head: 64 * 1024,
    streams: 100,
    window: 1000,
};

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
    let (mut sieve, calm) = (Sieve::new(BOUNDS), Calm::new(1000, 1000));
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

/// What `h2` takes for a mistake of this stream.
fn reset(stream: u32) -> Vec<u8> {
    let itself = [0, 0, 0, stream as u8, 0];
    frame(Kind::PRIORITY, 0, stream, &itself)
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
        frame(Kind::PRIORITY, 0, 0, &[0, 0, 0, 1, 16]),
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
    comes_out(
        &[
            frame(Kind::HEADERS, Frame::END_HEADERS, 1, &bad),
            frame(Kind::DATA, 0, 1, b""),
            frame(Kind::WINDOW_UPDATE, 0, 1, &[0; 4]),
            frame(Kind::PRIORITY, 0, 1, &[0; 4]),
            frame(Kind::HEADERS, HEADERS_END, 1, &bad),
            frame(Kind::PING, 0, 0, &[1; 8]),
        ],
        &[
            frame(Kind::HEADERS, Frame::END_HEADERS, 1, &verdict),
            reset(1),
            reset(1),
            // Trailers that end nothing.
            frame(Kind::HEADERS, Frame::END_HEADERS, 1, b""),
            frame(Kind::PING, 0, 0, &[1; 8]),
        ],
    );
}

/// RFC 9113 section 5.1, and of section 6.9.1 that all DATA counts for the
/// connection's window.
#[test]
fn what_comes_behind_the_end_of_a_stream_resets_it() {
    let block = head(&[(":method", "GET")]);
    let trailers = frame(Kind::HEADERS, HEADERS_END, 1, &head(&[("x-sum", "1")]));
    let nothing = frame(Kind::HEADERS, Frame::END_HEADERS, 1, b"");
    let begun = frame(Kind::HEADERS, Frame::END_HEADERS, 1, &block);
    let data = frame(Kind::DATA, 0, 1, b"more");
    let last = frame(Kind::DATA, Frame::END_STREAM, 1, b"");
    let whole = frame(Kind::HEADERS, HEADERS_END, 1, &block);
    for end in [
        vec![whole],
        vec![begun.clone(), data.clone(), last.clone()],
        vec![begun, trailers.clone()],
    ] {
        for (more, becomes) in [
            (&data, [reset(1), data.clone()].concat()),
            (&last, reset(1)),
            (&frame(Kind::DATA, 0, 1, b""), reset(1)),
            (&trailers, nothing.clone()),
        ] {
            let passed = [&end[..], &[becomes]].concat();
            comes_out(&[&end[..], std::slice::from_ref(more)].concat(), &passed);
        }
    }
}

/// As much of it as the connection's window has to spare; then it is a mistake like
/// any other.
#[test]
fn data_behind_a_reset_is_thrown_away() {
    let begun = frame(
        Kind::HEADERS,
        Frame::END_HEADERS,
        1,
        &head(&[(":method", "GET")]),
    );
    let end = [begun, frame(Kind::RST_STREAM, 0, 1, &[0; 4])];
    let data = frame(Kind::DATA, 0, 1, &[7; 400]);
    let (more, last) = (vec![data.clone(); 3], [reset(1), data]);
    comes_out(&[&end[..], &more].concat(), &[&end[..], &last].concat());
}

/// The state of compression is the connection's, and so changes with what is
/// thrown away.
#[test]
fn blocks_behind_the_end_of_a_stream_are_read() {
    // A field that is to be indexed, and a reference to it.
    let indexed = [&[0x40, 0x03][..], b"x-a", &[0x01], b"b"].concat();
    let whole = frame(Kind::HEADERS, HEADERS_END, 1, &head(&[(":method", "GET")]));
    comes_out(
        &[
            whole.clone(),
            frame(Kind::HEADERS, HEADERS_END, 1, &indexed),
            frame(Kind::HEADERS, HEADERS_END, 3, &[0x80 | 62]),
        ],
        &[
            whole,
            frame(Kind::HEADERS, Frame::END_HEADERS, 1, b""),
            frame(Kind::HEADERS, HEADERS_END, 3, &head(&[("x-a", "b")])),
        ],
    );
}

/// RFC 9113 sections 5.3.2 and 6.4.
#[test]
fn priorities_mean_nothing() {
    let itself = [0, 0, 0, 1, 16];
    let whole = frame(Kind::HEADERS, HEADERS_END, 1, &head(&[(":method", "GET")]));
    comes_out(
        &[
            frame(Kind::PRIORITY, 0, 1, &itself),
            frame(Kind::PRIORITY, 0, 1, &[0; 4]),
            whole.clone(),
            frame(Kind::PRIORITY, 0, 1, &itself),
        ],
        &[whole],
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
