//! Clients that use HTTP/2 against the server: each ends its own connection, and
//! a thousand tunnels beside it notice nothing.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kit::h2::{Code, Flag, Frame, H2, Kind, Raw, Setting, Stream};
use crate::kit::{Echo, Opcode, Proxy, Setup, Site, alone, masked, soon};

pub const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "h"),
];

/// Longest an echo may take beside an attack, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much later than without the attack, beside what the machine makes of it.
const LATE: Duration = Duration::from_millis(250);

/// Most that an attack, and the thousand echoes beside it, may cost.
const CPU: Duration = Duration::from_millis(500);

/// A thousand tunnels, on ten connections.
pub struct Crowd {
    streams: Vec<Stream>,
    _clients: Vec<H2>,
}

impl Crowd {
    pub async fn gather(proxy: &Proxy) -> Self {
        let (mut streams, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let client = proxy.h2().await;
            streams.extend((0..100).map(|_| client.connect("/", "h", &[])));
            clients.push(client);
        }
        for stream in &mut streams {
            assert_eq!(stream.status().await, 200);
            read::<14>(stream).await;
        }
        Self {
            streams,
            _clients: clients,
        }
    }

    /// A message through every one of them; the longest wait.
    pub async fn echo(&mut self) -> Duration {
        let start = Instant::now();
        for stream in &mut self.streams {
            let message = masked(Opcode::Text, true, b"good");
            stream.write_all(&message).await.expect("to send");
        }
        for stream in &mut self.streams {
            assert_eq!(&read::<6>(stream).await[2..], b"good");
        }
        start.elapsed()
    }
}

/// What comes of an attack; a message goes through every tunnel of the crowd
/// beside it, and in no more time than without it.
pub async fn beside<T>(
    name: &str,
    proxy: &Proxy,
    crowd: &mut Crowd,
    attack: impl Future<Output = T>,
) -> T {
    let machine = crowd.echo().await;
    let before = proxy.cpu();
    let (outcome, echo) = tokio::join!(attack, crowd.echo());
    let spent = proxy.cpu() - before;
    println!("{name}: {spent:?} on a core; {echo:?}, without it {machine:?}");
    assert!(spent < CPU, "{name}: {spent:?} on a core");
    // The attack's own client has its part of the machine too.
    let allowed = PATIENCE.min(LATE + 2 * machine);
    assert!(echo < allowed, "{name}: {echo:?}, without it {machine:?}");
    outcome
}

async fn read<const N: usize>(stream: &mut Stream) -> [u8; N] {
    let mut bytes = [0; N];
    soon("bytes", stream.read_exact(&mut bytes))
        .await
        .expect("bytes");
    bytes
}

/// Sends batches until the server says GOAWAY; the code, and how many batches.
async fn until_goaway(raw: &mut Raw, mut batch: impl FnMut(&mut Raw) -> Vec<u8>) -> (u32, usize) {
    for count in 1..2000 {
        let bytes = batch(raw);
        if raw.wire.try_send(bytes).await.is_err() {
            break_off(raw).await;
        }
        while let Some(frame) = raw.arrived().await {
            if frame.kind == Kind::GOAWAY {
                return (frame.number(4), count);
            }
        }
    }
    panic!("no GOAWAY");
}

async fn break_off(raw: &mut Raw) {
    // What the server has said is still to be read.
    let _ = raw.wire.readable().await;
}

/// A name, and what is sent again and again: the number says how often before.
type Attack = (&'static str, fn(&mut Raw, u32) -> Vec<u8>);

fn rapid_reset(raw: &mut Raw, turn: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..10 {
        let stream = 1 + 2 * (turn * 10 + index);
        bytes.extend(raw.headers(stream, Flag::END_STREAM, &GET).bytes());
        bytes.extend(Frame::reset(stream, Code::CANCEL).bytes());
    }
    bytes
}

/// The server is made to reset streams itself (CVE-2025-8671).
fn made_you_reset(raw: &mut Raw, turn: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..10 {
        let stream = 1 + 2 * (turn * 10 + index);
        bytes.extend(raw.headers(stream, 0, &GET).bytes());
        bytes.extend(Frame::credit(stream, 0x7fff_ffff).bytes());
    }
    bytes
}

fn settings_flood(_: &mut Raw, _: u32) -> Vec<u8> {
    Frame::settings(&[(Setting::INITIAL_WINDOW_SIZE, 65_535)])
        .bytes()
        .repeat(20)
}

fn ping_flood(_: &mut Raw, _: u32) -> Vec<u8> {
    Frame::new(Kind::PING, 0, 0, [1; 8]).bytes().repeat(20)
}

fn priority_flood(_: &mut Raw, _: u32) -> Vec<u8> {
    Frame::new(Kind::PRIORITY, 0, 1, [0, 0, 0, 0, 1])
        .bytes()
        .repeat(20)
}

fn empty_data(raw: &mut Raw, turn: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    if turn == 0 {
        bytes.extend(raw.headers(1, 0, &GET).bytes());
    }
    bytes.extend(Frame::data(1, []).bytes().repeat(20));
    bytes
}

fn continuation_flood(raw: &mut Raw, turn: u32) -> Vec<u8> {
    if turn == 0 {
        let mut head = raw.headers(1, Flag::END_STREAM, &GET);
        head.flags &= !Flag::END_HEADERS;
        return head.bytes();
    }
    // A field without indexing, over and over (CVE-2024-27316).
    let block = [&[0x00, 0x03][..], b"x-a", &[0x7f, 0x01], &[b'v'; 128]].concat();
    Frame::new(Kind::CONTINUATION, 0, 1, block).bytes()
}

/// The same, in pieces that the server reads all at once: what comes behind the
/// one too many is part of a block that it has given up.
fn continuations_at_once(raw: &mut Raw, turn: u32) -> Vec<u8> {
    let mut head = raw.headers(1 + 2 * turn, Flag::END_STREAM, &GET);
    head.flags &= !Flag::END_HEADERS;
    let part = Frame::new(Kind::CONTINUATION, 0, head.stream, [0]);
    [head.bytes(), part.bytes().repeat(100)].concat()
}

/// One large field in the table, and a reference to it in every byte that follows.
fn header_bomb(raw: &mut Raw, turn: u32) -> Vec<u8> {
    let large = "x".repeat(3900);
    let mut fields = GET.to_vec();
    fields.push(("x-large", &large));
    let mut head = raw.headers(1 + 2 * turn, Flag::END_STREAM, &fields);
    if turn > 0 {
        // 62 is the newest entry of the table (RFC 7541 section 2.3.3).
        head.payload.extend([0x80 | 62; 2000]);
    }
    head.bytes()
}

const ATTACKS: &[Attack] = &[
    ("rapid reset", rapid_reset),
    ("made you reset", made_you_reset),
    ("settings", settings_flood),
    ("pings", ping_flood),
    ("priorities", priority_flood),
    ("empty data", empty_data),
    ("continuations", continuation_flood),
    ("continuations at once", continuations_at_once),
    ("a header bomb", header_bomb),
];

#[tokio::test]
async fn each_ends_its_own_connection_and_no_other() {
    let _machine = alone().await;
    let backend = Echo::start("a").await;
    let more = "[http2]\nmax_early_resets = 100\nmax_control_frames = 500\nmax_stream_errors = 200";
    let site = Site::one(backend.address()).more(more);
    let proxy = Setup::new().beside().start(site).await;
    let mut crowd = Crowd::gather(&proxy).await;
    crowd.echo().await;
    let before = proxy.memory();
    for (name, attack) in ATTACKS {
        let (mut raw, _) = Raw::open(&proxy).await;
        let mut turn = 0;
        let mut batch = |raw: &mut Raw| {
            turn += 1;
            attack(raw, turn - 1)
        };
        let assault = until_goaway(&mut raw, &mut batch);
        let (code, batches) = beside(name, &proxy, &mut crowd, assault).await;
        assert_eq!(code, Code::ENHANCE_YOUR_CALM, "{name}");
        assert!(batches < 200, "{name}: {batches} batches");
        while raw.next_frame().await.is_some() {}
    }
    let grown = proxy.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "grew by {grown}");
    assert_eq!(proxy.status().await["tunnels"], 1000);
    crowd.echo().await;
}
