//! The cases: section, rule, what must come of it, and the frames.

use std::sync::LazyLock;

use Fate::{Connection, Fine, Status, Stream};

use crate::kit::h2::{Code, Flag, Frame, Kind, Raw, Setting};

/// What must come of it.
#[derive(Clone, Debug)]
pub enum Fate {
    /// GOAWAY with one of these codes, and the end.
    Connection(&'static [u32]),
    /// RST_STREAM of the case's stream with one of these codes; the connection
    /// lives.
    Stream(&'static [u32]),
    /// An answer with this status on the case's stream; the connection lives.
    Status(u16),
    /// Nothing; the connection lives.
    Fine,
}
const PROTOCOL: &[u32] = &[Code::PROTOCOL_ERROR];
const SIZE: &[u32] = &[Code::FRAME_SIZE_ERROR, Code::PROTOCOL_ERROR];
const FLOW: &[u32] = &[Code::FLOW_CONTROL_ERROR];
pub const CLOSED: &[u32] = &[Code::STREAM_CLOSED, Code::PROTOCOL_ERROR];
const COMPRESSION: &[u32] = &[Code::COMPRESSION_ERROR, Code::PROTOCOL_ERROR];
pub const REFUSED: &[u32] = &[Code::REFUSED_STREAM, Code::PROTOCOL_ERROR];

/// What is added to the numbers of a case's streams: the first stream of its
/// connection is a tunnel's.
pub const BESIDE: u32 = 2;

pub type Play = Box<dyn Fn(&mut Raw) -> Vec<Frame> + Send + Sync>;

pub struct Case {
    pub section: &'static str,
    pub rule: &'static str,
    pub play: Play,
    pub fate: Fate,
}

fn case(
    section: &'static str,
    rule: &'static str,
    fate: Fate,
    play: impl Fn(&mut Raw) -> Vec<Frame> + Send + Sync + 'static,
) -> Case {
    let play = Box::new(play);
    Case {
        section,
        rule,
        play,
        fate,
    }
}

/// Frames that depend on nothing.
fn fixed(section: &'static str, rule: &'static str, fate: Fate, frames: Vec<Frame>) -> Case {
    case(section, rule, fate, move |_| frames.clone())
}

/// A GET, with these fields beside or, by the same name, instead of the usual ones.
fn request(
    raw: &mut Raw,
    flags: u8,
    changed: &[(&str, Option<&str>)],
    more: &[(&str, &str)],
) -> Frame {
    let usual = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "h"),
    ];
    let mut fields = Vec::new();
    for (name, value) in usual {
        match changed.iter().find(|(changed, _)| *changed == name) {
            None => fields.push((name, value)),
            Some((_, Some(value))) => fields.push((name, value)),
            Some((_, None)) => {}
        }
    }
    fields.extend(more);
    raw.headers(1, flags, &fields)
}

const END: u8 = Flag::END_STREAM;

pub fn get(raw: &mut Raw, more: &[(&str, &str)]) -> Frame {
    request(raw, END, &[], more)
}

fn post(raw: &mut Raw, more: &[(&str, &str)]) -> Frame {
    request(raw, 0, &[(":method", Some("POST"))], more)
}

/// A GET with these more fields must have this fate.
fn with(
    section: &'static str,
    rule: &'static str,
    fate: Fate,
    more: &'static [(&'static str, &'static str)],
) -> Case {
    case(section, rule, fate, move |raw| vec![get(raw, more)])
}

/// A GET with other pseudo-header fields must have this fate.
fn changed(
    section: &'static str,
    rule: &'static str,
    fate: Fate,
    changes: &'static [(&'static str, Option<&'static str>)],
) -> Case {
    case(section, rule, fate, move |raw| {
        vec![request(raw, END, changes, &[])]
    })
}

/// The fields of an extended CONNECT, all of them given.
fn connect(
    section: &'static str,
    rule: &'static str,
    fate: Fate,
    fields: &'static [(&'static str, &'static str)],
) -> Case {
    case(section, rule, fate, move |raw| {
        vec![raw.headers(1, 0, fields)]
    })
}

fn frame(kind: Kind, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind, flags, stream, payload)
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn frames_and_settings() -> Vec<Case> {
    let settings = |pairs: &[(u16, u32)]| vec![Frame::settings(pairs)];
    vec![
        fixed(
            "4.1",
            "unknown types of frames are ignored",
            Fine,
            vec![frame(Kind(0xee), 0xff, 0, [1; 20])],
        ),
        case(
            "4.1",
            "flags that mean nothing are ignored",
            Status(200),
            |raw| {
                let mut frame = get(raw, &[]);
                frame.flags |= 0x52;
                vec![frame]
            },
        ),
        case("4.1", "the reserved bit is ignored", Status(200), |raw| {
            let mut frame = get(raw, &[]);
            frame.stream |= 1 << 31;
            vec![frame]
        }),
        fixed(
            "4.2",
            "a frame beyond SETTINGS_MAX_FRAME_SIZE",
            Connection(SIZE),
            vec![frame(Kind(0xee), 0, 0, vec![0; 16_385])],
        ),
        case("4.2", "a frame of just that size", Status(200), |raw| {
            let body = Frame::data(1, vec![7; 16_384]).ending();
            vec![post(raw, &[]), body]
        }),
        fixed(
            "4.3",
            "a block that is no HPACK",
            Connection(COMPRESSION),
            vec![frame(Kind::HEADERS, Flag::END_HEADERS | END, 1, [0xff; 8])],
        ),
        fixed(
            "4.3",
            "a block cut off in a field",
            Connection(COMPRESSION),
            vec![frame(
                Kind::HEADERS,
                Flag::END_HEADERS | END,
                1,
                [0x00, 0x05, b'a'],
            )],
        ),
        fixed(
            "6.5",
            "SETTINGS on a stream",
            Connection(PROTOCOL),
            vec![frame(Kind::SETTINGS, 0, 1, [])],
        ),
        fixed(
            "6.5",
            "SETTINGS of no whole number of settings",
            Connection(SIZE),
            vec![frame(Kind::SETTINGS, 0, 0, [0; 5])],
        ),
        fixed(
            "6.5",
            "an acknowledgement with a payload",
            Connection(SIZE),
            vec![frame(Kind::SETTINGS, Flag::ACK, 0, [0; 6])],
        ),
        fixed(
            "6.5.2",
            "ENABLE_PUSH is 0 or 1",
            Connection(PROTOCOL),
            settings(&[(Setting::ENABLE_PUSH, 2)]),
        ),
        fixed(
            "6.5.2",
            "a window beyond 2^31-1",
            Connection(&[Code::FLOW_CONTROL_ERROR, Code::PROTOCOL_ERROR]),
            settings(&[(Setting::INITIAL_WINDOW_SIZE, 1 << 31)]),
        ),
        fixed(
            "6.5.2",
            "a frame size below 2^14",
            Connection(PROTOCOL),
            settings(&[(Setting::MAX_FRAME_SIZE, 16_383)]),
        ),
        fixed(
            "6.5.2",
            "a frame size beyond 2^24-1",
            Connection(PROTOCOL),
            settings(&[(Setting::MAX_FRAME_SIZE, 1 << 24)]),
        ),
        fixed(
            "6.5.2",
            "unknown settings are ignored",
            Fine,
            settings(&[(0xeeee, 7)]),
        ),
        fixed(
            "6.5.3",
            "the last of two values counts",
            Fine,
            settings(&[
                (Setting::INITIAL_WINDOW_SIZE, 1),
                (Setting::INITIAL_WINDOW_SIZE, 65_535),
            ]),
        ),
        fixed(
            "6.7",
            "PING on a stream",
            Connection(PROTOCOL),
            vec![frame(Kind::PING, 0, 1, [0; 8])],
        ),
        fixed(
            "6.7",
            "PING of another length",
            Connection(SIZE),
            vec![frame(Kind::PING, 0, 0, [0; 7])],
        ),
        fixed(
            "6.7",
            "an answer to no PING",
            Fine,
            vec![frame(Kind::PING, Flag::ACK, 0, [9; 8])],
        ),
        fixed(
            "6.8",
            "GOAWAY on a stream",
            Connection(PROTOCOL),
            vec![frame(Kind::GOAWAY, 0, 1, [0; 8])],
        ),
        fixed(
            "6.6",
            "PUSH_PROMISE of a client",
            Connection(PROTOCOL),
            vec![frame(
                Kind::PUSH_PROMISE,
                Flag::END_HEADERS,
                1,
                [0, 0, 0, 2],
            )],
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn streams() -> Vec<Case> {
    vec![
        fixed(
            "5.1",
            "DATA on an idle stream",
            Connection(CLOSED),
            vec![Frame::data(1, [1])],
        ),
        fixed(
            "5.1",
            "RST_STREAM on an idle stream",
            Connection(PROTOCOL),
            vec![Frame::reset(1, Code::CANCEL)],
        ),
        fixed(
            "5.1",
            "credit on an idle stream",
            Connection(PROTOCOL),
            vec![Frame::credit(1, 1)],
        ),
        fixed(
            "5.1",
            "PRIORITY on an idle stream",
            Fine,
            vec![frame(Kind::PRIORITY, 0, 1, [0, 0, 0, 0, 16])],
        ),
        case("5.1", "DATA after END_STREAM", Stream(CLOSED), |raw| {
            vec![get(raw, &[]), Frame::data(1, [1])]
        }),
        case("5.1", "END_STREAM twice", Stream(CLOSED), |raw| {
            vec![
                post(raw, &[]),
                Frame::data(1, []).ending(),
                Frame::data(1, []).ending(),
            ]
        }),
        case("5.1", "HEADERS after END_STREAM", Stream(CLOSED), |raw| {
            vec![get(raw, &[]), get(raw, &[])]
        }),
        case("5.1", "trailers after END_STREAM", Stream(CLOSED), |raw| {
            vec![get(raw, &[]), raw.headers(1, END, &[("x-sum", "1")])]
        }),
        case("5.1", "trailers twice", Stream(CLOSED), |raw| {
            vec![
                post(raw, &[]),
                raw.headers(1, END, &[("x-sum", "1")]),
                raw.headers(1, END, &[("x-sum", "1")]),
            ]
        }),
        case("5.1", "credit after END_STREAM", Status(200), |raw| {
            vec![get(raw, &[]), Frame::credit(1, 1)]
        }),
        case("5.1", "RST_STREAM after END_STREAM", Fine, |raw| {
            vec![get(raw, &[]), Frame::reset(1, Code::CANCEL)]
        }),
        case("5.1", "frames behind a reset of one's own", Fine, |raw| {
            vec![
                post(raw, &[]),
                Frame::reset(1, Code::CANCEL),
                Frame::credit(1, 1),
                Frame::data(1, [1]),
                Frame::data(1, []).ending(),
            ]
        }),
        case(
            "5.1.1",
            "a stream of the server's numbers",
            Connection(PROTOCOL),
            |raw| {
                let mut frame = get(raw, &[]);
                frame.stream = 2;
                vec![frame]
            },
        ),
        case(
            "5.1.1",
            "a number below one used",
            Connection(PROTOCOL),
            |raw| {
                let mut first = get(raw, &[]);
                first.stream = 5;
                vec![first, get(raw, &[])]
            },
        ),
        case(
            "5.1.1",
            "stream 0 has no HEADERS",
            Connection(PROTOCOL),
            |raw| {
                let mut frame = get(raw, &[]);
                frame.stream = 0;
                vec![frame]
            },
        ),
        case(
            "5.5",
            "an unknown frame within a header block",
            Connection(PROTOCOL),
            |raw| {
                let mut head = get(raw, &[]);
                head.flags &= !Flag::END_HEADERS;
                vec![head, frame(Kind(0xee), 0, 0, [])]
            },
        ),
        fixed(
            "6.1",
            "DATA on stream 0",
            Connection(PROTOCOL),
            vec![Frame::data(0, [1])],
        ),
        case(
            "6.1",
            "padding as long as the payload",
            Connection(PROTOCOL),
            |raw| {
                vec![
                    post(raw, &[]),
                    frame(Kind::DATA, Flag::PADDED, 1, [5, 0, 0, 0, 0]),
                ]
            },
        ),
        case("6.1", "padding is taken off", Status(200), |raw| {
            vec![
                post(raw, &[("content-length", "2")]),
                frame(Kind::DATA, Flag::PADDED | END, 1, [3, b'h', b'i', 0, 0, 0]),
            ]
        }),
        case(
            "6.2",
            "padding longer than the block",
            Connection(PROTOCOL),
            |raw| {
                let mut head = get(raw, &[]);
                head.flags |= Flag::PADDED;
                head.payload.insert(0, 255);
                vec![head]
            },
        ),
        case(
            "6.2",
            "padding and priority are taken off",
            Status(200),
            |raw| {
                let mut head = get(raw, &[]);
                head.flags |= Flag::PADDED | Flag::PRIORITY;
                head.payload.splice(0..0, [2, 0, 0, 0, 0, 15]);
                head.payload.extend([0, 0]);
                vec![head]
            },
        ),
        fixed(
            "6.3",
            "PRIORITY on stream 0",
            Connection(PROTOCOL),
            vec![frame(Kind::PRIORITY, 0, 0, [0, 0, 0, 3, 16])],
        ),
        case("6.3", "PRIORITY of another length", Stream(SIZE), |raw| {
            vec![post(raw, &[]), frame(Kind::PRIORITY, 0, 1, [0; 4])]
        }),
        fixed(
            "6.4",
            "an idle stream is never reset",
            Fine,
            vec![frame(Kind::PRIORITY, 0, 1, [0; 4])],
        ),
        case(
            "5.3.2",
            "a stream that depends on itself",
            Status(200),
            |raw| {
                let itself = [0, 0, 0, 1 + BESIDE as u8, 16];
                vec![get(raw, &[]), frame(Kind::PRIORITY, 0, 1, itself)]
            },
        ),
        fixed(
            "6.4",
            "RST_STREAM on stream 0",
            Connection(PROTOCOL),
            vec![Frame::reset(0, Code::CANCEL)],
        ),
        case(
            "6.4",
            "RST_STREAM of another length",
            Connection(SIZE),
            |raw| vec![post(raw, &[]), frame(Kind::RST_STREAM, 0, 1, [0; 3])],
        ),
        case("6.10", "a block in many parts", Status(200), |raw| {
            let block = raw.block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "h"),
            ]);
            let mut frames = vec![frame(Kind::HEADERS, END, 1, &block[..1])];
            frames.extend(
                block[1..4]
                    .iter()
                    .map(|byte| frame(Kind::CONTINUATION, 0, 1, [*byte])),
            );
            frames.push(frame(Kind::CONTINUATION, Flag::END_HEADERS, 1, &block[4..]));
            frames
        }),
        fixed(
            "6.10",
            "CONTINUATION without HEADERS",
            Connection(PROTOCOL),
            vec![frame(Kind::CONTINUATION, Flag::END_HEADERS, 1, [])],
        ),
        case(
            "6.10",
            "CONTINUATION after the block's end",
            Connection(PROTOCOL),
            |raw| {
                vec![
                    get(raw, &[]),
                    frame(Kind::CONTINUATION, Flag::END_HEADERS, 1, []),
                ]
            },
        ),
        case(
            "6.10",
            "CONTINUATION of another stream",
            Connection(PROTOCOL),
            |raw| {
                let mut head = get(raw, &[]);
                head.flags &= !Flag::END_HEADERS;
                vec![head, frame(Kind::CONTINUATION, Flag::END_HEADERS, 3, [])]
            },
        ),
    ]
}

fn flow_control() -> Vec<Case> {
    vec![
        fixed(
            "6.9",
            "no credit for the connection",
            Connection(PROTOCOL),
            vec![Frame::credit(0, 0)],
        ),
        case("6.9", "no credit for a stream", Stream(PROTOCOL), |raw| {
            vec![post(raw, &[]), Frame::credit(1, 0)]
        }),
        fixed(
            "6.9",
            "credit of another length",
            Connection(SIZE),
            vec![frame(Kind::WINDOW_UPDATE, 0, 0, [0; 3])],
        ),
        fixed(
            "6.9.1",
            "a connection's window beyond 2^31-1",
            Connection(FLOW),
            vec![Frame::credit(0, 0x7fff_ffff)],
        ),
        case(
            "6.9.1",
            "a stream's window beyond 2^31-1",
            Stream(FLOW),
            |raw| vec![post(raw, &[]), Frame::credit(1, 0x7fff_ffff)],
        ),
        case(
            "6.9.1",
            "more DATA than a stream's window takes",
            Stream(FLOW),
            |raw| {
                let mut frames = vec![request(
                    raw,
                    0,
                    &[(":method", Some("POST"))],
                    &[("expect", "100-continue")],
                )];
                frames.extend((0..5).map(|_| Frame::data(1, vec![0; 16_384])));
                frames
            },
        ),
        case(
            "6.9.2",
            "a window beyond 2^31-1 by SETTINGS",
            Connection(FLOW),
            |raw| {
                vec![
                    post(raw, &[]),
                    Frame::credit(1, 0x7fff_0000),
                    Frame::settings(&[(Setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff)]),
                ]
            },
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn messages() -> Vec<Case> {
    vec![
        with("8.1", "a request", Status(200), &[]),
        case("8.1", "trailers", Status(200), |raw| {
            vec![
                post(raw, &[]),
                Frame::data(1, *b"x"),
                raw.headers(1, END, &[("x-sum", "1")]),
            ]
        }),
        case(
            "8.1",
            "trailers that end nothing",
            Stream(PROTOCOL),
            |raw| vec![post(raw, &[]), raw.headers(1, 0, &[("x-sum", "1")])],
        ),
        case(
            "8.1",
            "pseudo-header fields in trailers",
            Stream(PROTOCOL),
            |raw| vec![post(raw, &[]), raw.headers(1, END, &[(":path", "/")])],
        ),
        case(
            "8.1.1",
            "a body shorter than its length",
            Stream(PROTOCOL),
            |raw| {
                vec![
                    post(raw, &[("content-length", "5")]),
                    Frame::data(1, *b"abc").ending(),
                ]
            },
        ),
        case(
            "8.1.1",
            "a body longer than its length",
            Stream(PROTOCOL),
            |raw| {
                vec![
                    post(raw, &[("content-length", "2")]),
                    Frame::data(1, *b"abc"),
                ]
            },
        ),
        case("8.1.1", "a length and no body", Stream(PROTOCOL), |raw| {
            vec![request(
                raw,
                END,
                &[(":method", Some("POST"))],
                &[("content-length", "5")],
            )]
        }),
        with(
            "8.1.1",
            "two lengths",
            Stream(PROTOCOL),
            &[("content-length", "0"), ("content-length", "1")],
        ),
        with(
            "8.1.1",
            "a length that is no number",
            Stream(PROTOCOL),
            &[("content-length", "x")],
        ),
        with(
            "8.2",
            "a name with capitals",
            Status(400),
            &[("X-Own", "1")],
        ),
        with(
            "8.2.1",
            "a name with a space",
            Status(400),
            &[("x own", "1")],
        ),
        with(
            "8.2.1",
            "a name with a colon",
            Status(400),
            &[("x:own", "1")],
        ),
        with(
            "8.2.1",
            "a value with NUL",
            Status(400),
            &[("x-own", "a\0b")],
        ),
        with(
            "8.2.1",
            "a value with CR LF",
            Status(400),
            &[("x-own", "a\r\nx: y")],
        ),
        with(
            "8.2.2",
            "connection",
            Stream(PROTOCOL),
            &[("connection", "close")],
        ),
        with(
            "8.2.2",
            "keep-alive",
            Stream(PROTOCOL),
            &[("keep-alive", "timeout=5")],
        ),
        with(
            "8.2.2",
            "proxy-connection",
            Stream(PROTOCOL),
            &[("proxy-connection", "close")],
        ),
        with(
            "8.2.2",
            "transfer-encoding",
            Stream(PROTOCOL),
            &[("transfer-encoding", "chunked")],
        ),
        with(
            "8.2.2",
            "upgrade",
            Stream(PROTOCOL),
            &[("upgrade", "websocket")],
        ),
        with(
            "8.2.2",
            "te beside trailers",
            Stream(PROTOCOL),
            &[("te", "gzip")],
        ),
        with("8.2.2", "te trailers", Status(200), &[("te", "trailers")]),
        with(
            "8.2.3",
            "cookies in parts",
            Status(200),
            &[("cookie", "a=b"), ("cookie", "c=d")],
        ),
        with(
            "8.3",
            "a pseudo-header field behind others",
            Stream(PROTOCOL),
            &[("x-own", "1"), (":path", "/")],
        ),
        with(
            "8.3",
            "an unknown pseudo-header field",
            Status(400),
            &[(":own", "1")],
        ),
        with(
            "8.3",
            "one of responses",
            Status(400),
            &[(":status", "200")],
        ),
        with("8.3", "one twice", Stream(PROTOCOL), &[(":path", "/")]),
        changed(
            "8.3.1",
            "no :method",
            Stream(PROTOCOL),
            &[(":method", None)],
        ),
        changed(
            "8.3.1",
            "no :scheme",
            Stream(PROTOCOL),
            &[(":scheme", None)],
        ),
        changed("8.3.1", "no :path", Stream(PROTOCOL), &[(":path", None)]),
        changed(
            "8.3.1",
            "an empty :path",
            Stream(PROTOCOL),
            &[(":path", Some(""))],
        ),
        changed(
            "8.3.1",
            "a user in :authority",
            Status(400),
            &[(":authority", Some("u@h"))],
        ),
        changed(
            "8.3.1",
            "neither :authority nor host",
            Status(400),
            &[(":authority", None)],
        ),
        case("8.3.1", "host instead of :authority", Status(200), |raw| {
            vec![request(raw, END, &[(":authority", None)], &[("host", "h")])]
        }),
        with(
            "8.3.1",
            "a host like :authority",
            Status(200),
            &[("host", "H")],
        ),
        with(
            "8.3.1",
            "another host than :authority",
            Status(400),
            &[("host", "i")],
        ),
        changed(
            "8.5",
            "CONNECT with :scheme and :path",
            Stream(PROTOCOL),
            &[(":method", Some("CONNECT"))],
        ),
        changed(
            "8.5",
            "CONNECT to anywhere",
            Status(501),
            &[
                (":method", Some("CONNECT")),
                (":scheme", None),
                (":path", None),
            ],
        ),
        with(
            "8441 4",
            ":protocol without CONNECT",
            Stream(PROTOCOL),
            &[(":protocol", "websocket")],
        ),
        connect(
            "8441 4",
            "extended CONNECT without :scheme",
            Stream(PROTOCOL),
            &[
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":path", "/"),
                (":authority", "h"),
            ],
        ),
        connect(
            "8441 4",
            "extended CONNECT without :path",
            Stream(PROTOCOL),
            &[
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":authority", "h"),
            ],
        ),
        connect(
            "8441 4",
            "extended CONNECT without :authority",
            Status(400),
            &[
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":path", "/"),
            ],
        ),
        connect("8441 5", "a WebSocket", Status(200), WEBSOCKET),
        connect(
            "8441 5",
            "another protocol",
            Status(501),
            &[
                (":method", "CONNECT"),
                (":protocol", "other"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "h"),
            ],
        ),
    ]
}

pub const WEBSOCKET: &[(&str, &str)] = &[
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "h"),
    ("sec-websocket-version", "13"),
];

pub static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let all = [frames_and_settings(), streams(), flow_control(), messages()];
    all.into_iter().flatten().collect()
});
