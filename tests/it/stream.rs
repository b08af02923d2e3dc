//! Byte transparency, end to end: pseudo-random frames through the real binary,
//! several tunnels and both ways at once, with every byte compared.
//!
//! `LONGHAUL_STREAM_MB` says how much goes through each of the six tests at least,
//! for every stream ends with a message: in the gate 35 MB, which makes 45.
//! `tests/long stream` has 10 GB go through in all.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::kit::{Authority, Over, Proxy, RawBackend, Setup, Site, Wire, over_each, soon};

over_each!(
    on two threads:
    plain_streams_pass_unchanged,
    streams_with_tls_from_the_client_pass_unchanged,
    streams_with_tls_on_both_legs_pass_unchanged,
);

/// At the same time.
const TUNNELS: u64 = 4;

/// Bytes through one test.
fn quota() -> u64 {
    let given = std::env::var("LONGHAUL_STREAM_MB").ok();
    given.map_or(35, |mb| mb.parse().expect("a number of megabytes")) * 1_000_000
}

/// Frames of random lengths with random contents, in messages of one or several
/// and with pings in between; the same for the same seed.
struct Frames {
    random: StdRng,
    masked: bool,
    /// Payload is cut from here, at random places.
    block: Arc<[u8]>,
    /// Of the open frame's payload.
    left: usize,
    /// Frames of the open message to come.
    to_come: u32,
    messages: u64,
}

impl Frames {
    fn new(seed: u64, masked: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut block = vec![0; 1 << 20];
        random.fill(&mut block[..]);
        Self {
            random,
            masked,
            block: block.into(),
            left: 0,
            to_come: 0,
            messages: 0,
        }
    }

    /// The next bytes of the stream: a header, a ping, or a piece of payload.
    fn next(&mut self, piece: &mut Vec<u8>) {
        piece.clear();
        if self.left > 0 {
            let length = self.left.min(64 * 1024);
            self.payload(piece, length);
            self.left -= length;
        } else if self.random.random_bool(0.1) {
            let length = self.random.random_range(0..126);
            self.header(piece, 0x89, length);
            self.payload(piece, length);
            return;
        } else {
            self.begin(piece);
        }
        if self.left == 0 && self.to_come == 0 {
            self.messages += 1;
        }
    }

    fn begin(&mut self, piece: &mut Vec<u8>) {
        let mut first = 0x00;
        if self.to_come == 0 {
            first = self.random.random_range(0x01..0x03);
            self.to_come = self.random.random_range(1..4);
        }
        self.to_come -= 1;
        if self.to_come == 0 {
            first |= 0x80;
        }
        self.left = match self.random.random_range(0..8) {
            0..3 => self.random.random_range(0..126),
            3..6 => self.random.random_range(126..65_536),
            6 => self.random.random_range(65_536..300_000),
            _ => self.random.random_range(300_000..4_000_000),
        };
        self.header(piece, first, self.left);
    }

    fn header(&mut self, piece: &mut Vec<u8>, first: u8, length: usize) {
        let mask = if self.masked { 0x80 } else { 0 };
        piece.push(first);
        match length {
            0..126 => piece.push(mask | length as u8),
            126..65_536 => {
                piece.push(mask | 126);
                piece.extend((length as u16).to_be_bytes());
            }
            _ => {
                piece.push(mask | 127);
                piece.extend((length as u64).to_be_bytes());
            }
        }
        if self.masked {
            piece.extend(self.random.random::<[u8; 4]>());
        }
    }

    fn payload(&mut self, piece: &mut Vec<u8>, length: usize) {
        let at = self.random.random_range(0..self.block.len() - length);
        piece.extend_from_slice(&self.block[at..at + length]);
    }

    fn between_messages(&self) -> bool {
        self.left == 0 && self.to_come == 0
    }
}

/// What went or came one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    bytes: u64,
    messages: u64,
}

/// Writes at least `least` bytes, in chunks of random sizes and up to a
/// message's end, and ends the stream.
async fn write(mut to: impl AsyncWrite + Unpin, mut frames: Frames, least: u64) -> Total {
    let (mut bytes, mut piece) = (0, Vec::new());
    let mut sizes = StdRng::seed_from_u64(least);
    while bytes < least || !frames.between_messages() {
        frames.next(&mut piece);
        bytes += piece.len() as u64;
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let most = rest.len().min(sizes.random_range(1..100_000));
            let (chunk, later) = rest.split_at(most);
            soon("to send", to.write_all(chunk)).await.expect("to send");
            rest = later;
        }
    }
    soon("to end", to.shutdown()).await.expect("to end");
    let messages = frames.messages;
    Total { bytes, messages }
}

/// Reads to the end of the stream and compares.
async fn compare(mut from: impl AsyncRead + Unpin, mut frames: Frames) -> Total {
    let (mut bytes, mut piece, mut at) = (0, Vec::new(), 0);
    let mut buffer = vec![0; 200_000];
    loop {
        let read = soon("to receive", from.read(&mut buffer)).await;
        let mut seen = &buffer[..read.expect("to receive")];
        if seen.is_empty() {
            break;
        }
        while !seen.is_empty() {
            if at == piece.len() {
                frames.next(&mut piece);
                at = 0;
            }
            let common = seen.len().min(piece.len() - at);
            let same = seen[..common] == piece[at..at + common];
            assert!(same, "changed within {common} bytes from byte {bytes} on");
            bytes += common as u64;
            at += common;
            seen = &seen[common..];
        }
    }
    assert!(at == piece.len() && frames.between_messages(), "cut short");
    let messages = frames.messages;
    Total { bytes, messages }
}

/// Both ends of one tunnel; what went in and what went out.
async fn both_ways(client: Wire, backend: Wire, number: u64) -> [Total; 2] {
    let least = quota() / TUNNELS / 2;
    let [up, down] = [2 * number, 2 * number + 1];
    let mut tasks = Vec::new();
    for (wire, masked, sends, sees) in [(client, true, up, down), (backend, false, down, up)] {
        let (transport, ahead) = wire.into_parts();
        assert!(ahead.is_empty());
        let (reader, writer) = tokio::io::split(transport);
        tasks.push((
            tokio::spawn(write(writer, Frames::new(sends, masked), least)),
            tokio::spawn(compare(reader, Frames::new(sees, !masked))),
        ));
    }
    let [(up_sent, down_seen), (down_sent, up_seen)] = tasks.try_into().expect("two sides");
    let [up_sent, up_seen] = [up_sent.await.unwrap(), up_seen.await.unwrap()];
    let [down_sent, down_seen] = [down_sent.await.unwrap(), down_seen.await.unwrap()];
    assert_eq!((up_sent, down_sent), (up_seen, down_seen));
    [up_sent, down_sent]
}

/// Through every tunnel at once; then the log must say the same.
async fn through(proxy: &Proxy, backend: &RawBackend, clients: Vec<Wire>) {
    let mut opened = Vec::new();
    for client in clients {
        opened.push(backend.join(client).await);
    }
    // All are open first: while they stream, a handshake may take long.
    let tunnels: Vec<_> = opened
        .into_iter()
        .zip(0..)
        .map(|((client, server), number)| tokio::spawn(both_ways(client, server, number)))
        .collect();
    let mut expected = Vec::new();
    for tunnel in tunnels {
        let [up, down] = tunnel.await.expect("every byte");
        expected.push([up.bytes, down.bytes, up.messages, down.messages]);
    }
    let is_end = |event: &crate::kit::Event| event.message == "tunnel closed";
    let all = || proxy.log.all(is_end).len() as u64 == TUNNELS;
    crate::kit::eventually("every tunnel's end in the log", all).await;
    let keys = ["bytes_in", "bytes_out", "messages_in", "messages_out"];
    let mut logged: Vec<_> = proxy
        .log
        .all(is_end)
        .iter()
        .map(|event| keys.map(|key| event.number(key)))
        .collect();
    logged.sort_unstable();
    expected.sort_unstable();
    assert_eq!(logged, expected);
    let total: u64 = expected.iter().map(|[up, down, ..]| up + down).sum();
    assert!(total >= quota());
    println!("{total} bytes passed unchanged");
}

async fn plain_streams_pass_unchanged(over: Over) {
    let backend = RawBackend::start().await;
    let proxy = Proxy::start(Site::one(backend.address())).await.over(over);
    let mut clients = Vec::new();
    for _ in 0..TUNNELS {
        clients.push(proxy.connect().await);
    }
    through(&proxy, &backend, clients).await;
}

async fn streams_with_tls_from_the_client_pass_unchanged(over: Over) {
    let backend = RawBackend::start().await;
    with_tls(
        over,
        &Authority::new(),
        Site::one(backend.address()),
        &backend,
    )
    .await;
}

async fn streams_with_tls_on_both_legs_pass_unchanged(over: Over) {
    let authority = Authority::new();
    let behind = authority.pair(&["behind"]);
    let backend = RawBackend::tls(authority.acceptor(&behind, None)).await;
    let tls = "scheme = 'https'\ntls = { ca = 'ca.pem', server_name = 'behind' }";
    let site = Site::one(backend.address()).upstream(tls);
    with_tls(over, &authority, site, &backend).await;
}

async fn with_tls(over: Over, authority: &Authority, site: Site, backend: &RawBackend) {
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    setup.write("ca.pem", authority.pem());
    let proxy = setup.start(site.tls()).await.over(over);
    let mut clients = Vec::new();
    for _ in 0..TUNNELS {
        clients.push(proxy.tls(&authority.client(), "localhost").await);
    }
    through(&proxy, backend, clients).await;
}
