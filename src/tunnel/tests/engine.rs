//! The engine's own threads, with real sockets: many tunnels, orders from
//! everywhere, bulk both ways, and a stop that never hangs.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot::error::TryRecvError;

use super::super::engine::testing::{Worker, rests};
use super::super::engine::{Adoption, Doors, OnEnd};
use super::*;
use crate::ws::frame::FrameCursor;

/// A patience that only a hang outlasts.
const HANGS: Duration = Duration::from_secs(30);

fn near(stream: impl Into<OwnedFd>) -> Leg<OwnedFd> {
    let fd = stream.into();
    let flags = rustix::fs::fcntl_getfl(&fd).unwrap() | rustix::fs::OFlags::NONBLOCK;
    rustix::fs::fcntl_setfl(&fd, flags).unwrap();
    leg(fd)
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// Has the engine relay between two sockets; its outcome comes by the channel.
fn adopt(
    registry: &Arc<Registry>,
    options: &Options,
    client: Leg<OwnedFd>,
    backend: Leg<OwnedFd>,
) -> (Arc<Tunnel>, mpsc::Receiver<Outcome>) {
    let ticket = registry.open(facts(1), options);
    let tunnel = Arc::clone(ticket.tunnel());
    let (ended, outcome) = mpsc::channel();
    let adoption = Adoption {
        client,
        backend,
        on_end: Box::new(move |outcome| ended.send(outcome).unwrap()),
        ticket,
    };
    let engine = adoption.ticket.engine().unwrap();
    assert!(engine.adopt(adoption).is_ok());
    (tunnel, outcome)
}

#[test]
fn many_tunnels_on_two_threads_echo_and_end() {
    let registry = Registry::new();
    let engine = Engine::start(&registry, 2).unwrap();
    let mut far = Vec::new();
    for index in 0..300u32 {
        let (near_backend, backend) = tcp_pair();
        let (mut client, outcome): (Box<dyn Far>, _) = if index % 2 == 0 {
            let (client, near_client) = UnixStream::pair().unwrap();
            let options = options(Framing::WebSocket);
            let (_, outcome) = adopt(&registry, &options, near(near_client), near(near_backend));
            (Box::new(client), outcome)
        } else {
            let (near_client, client) = tcp_pair();
            let options = options(Framing::Opaque);
            let (_, outcome) = adopt(&registry, &options, near(near_client), near(near_backend));
            (Box::new(client), outcome)
        };
        client.write_all(&[0x82, 4]).unwrap();
        client.write_all(&index.to_be_bytes()).unwrap();
        far.push((index, client, backend, outcome));
    }
    assert_eq!(registry.len(), 300);
    for (index, client, backend, _) in &mut far {
        let mut message = [0; 6];
        backend.read_exact(&mut message).unwrap();
        assert_eq!(message[2..], index.to_be_bytes());
        backend.write_all(&message).unwrap();
        client.read_exact(&mut message).unwrap();
        assert_eq!(message[2..], index.to_be_bytes());
    }
    for (index, client, mut backend, outcome) in far {
        drop(client);
        assert_eq!(backend.read(&mut [0; 8]).unwrap(), 0);
        drop(backend);
        let outcome = outcome.recv_timeout(HANGS).unwrap();
        assert_eq!(
            (outcome.ended_by, outcome.cause),
            (Side::Client, Cause::Eof)
        );
        assert_eq!((outcome.bytes_in, outcome.bytes_out), (6, 6));
        assert_eq!(outcome.messages_in, u64::from(index % 2 == 0));
    }
    assert!(registry.is_empty());
    drop(engine);
}

trait Far: Read + Write + Send {}
impl<T: Read + Write + Send> Far for T {}

#[test]
fn a_stop_ends_what_lives_and_what_comes_too_late() {
    let registry = Registry::new();
    let engine = Engine::start(&registry, 1).unwrap();
    let (mut client, near_client) = UnixStream::pair().unwrap();
    let (_backend, near_backend) = UnixStream::pair().unwrap();
    let (_, outcome) = adopt(
        &registry,
        &options(Framing::WebSocket),
        near(near_client),
        near(near_backend),
    );
    let doors = registry.open(facts(2), &options(Framing::Opaque)).engine();
    drop(engine);
    let outcome = outcome.recv_timeout(HANGS).unwrap();
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Longhaul, Cause::Drain)
    );
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    let (one, other) = UnixStream::pair().unwrap();
    let late = Adoption {
        client: near(one),
        backend: near(other),
        ticket: registry.open(facts(3), &options(Framing::Opaque)),
        on_end: Box::new(|_| unreachable!("it is given back")),
    };
    assert!(doors.unwrap().adopt(late).is_err());
    assert!(
        registry.is_empty()
            && registry
                .open(facts(4), &options(Framing::Opaque))
                .engine()
                .is_none()
    );
}

#[test]
fn a_panic_in_an_end_costs_no_other_its_own() {
    let registry = Registry::new();
    let engine = Engine::start(&registry, 1).unwrap();
    let pairs: Vec<_> = (0..2).map(|_| UnixStream::pair().unwrap()).collect();
    let [(client, near_client), (backend, near_backend)] = pairs.try_into().unwrap();
    let adoption = Adoption {
        client: near(near_client),
        backend: near(near_backend),
        ticket: registry.open(facts(1), &options(Framing::Opaque)),
        on_end: Box::new(|_| std::panic::resume_unwind(Box::new("on purpose"))),
    };
    assert!(adoption.ticket.engine().unwrap().adopt(adoption).is_ok());
    drop((client, backend));
    let (client, near_client) = UnixStream::pair().unwrap();
    let (backend, near_backend) = UnixStream::pair().unwrap();
    let options = options(Framing::Opaque);
    let (_, outcome) = adopt(&registry, &options, near(near_client), near(near_backend));
    drop((client, backend));
    outcome.recv_timeout(HANGS).unwrap();
    drop(engine);
}

#[test]
fn orders_race_with_adoption_and_none_is_lost() {
    let registry = Registry::new();
    let engine = Engine::start(&registry, 2).unwrap();
    let said = Arc::new(AtomicUsize::new(0));
    let mut outcomes = Vec::new();
    for _ in 0..500 {
        let (mut client, near_client) = UnixStream::pair().unwrap();
        let (mut backend, near_backend) = UnixStream::pair().unwrap();
        let ticket = registry.open(facts(1), &options(Framing::WebSocket));
        let tunnel = Arc::clone(ticket.tunnel());
        // While it is on its way from one thread to the other.
        let orders = thread::spawn(move || tunnel.close(Arc::new(drain(Some(1012)))));
        let (ended, outcome) = mpsc::channel();
        let adoption = Adoption {
            client: near(near_client),
            backend: near(near_backend),
            ticket,
            on_end: Box::new(move |outcome| ended.send(outcome).unwrap()),
        };
        assert!(
            registry
                .open(facts(2), &options(Framing::Opaque))
                .engine()
                .unwrap()
                .adopt(adoption)
                .is_ok()
        );
        assert!(orders.join().unwrap());
        let said = Arc::clone(&said);
        outcomes.push(thread::spawn(move || {
            let (mut close, mut masked) = ([0; 7], [0; 11]);
            client.read_exact(&mut close).unwrap();
            backend.read_exact(&mut masked).unwrap();
            assert_eq!(close[..4], [0x88, 5, 0x03, 0xf4]);
            said.fetch_add(1, Ordering::Relaxed);
            drop((client, backend));
            outcome.recv_timeout(HANGS).unwrap()
        }));
        if outcomes.len() == 50 {
            for outcome in outcomes.drain(..) {
                assert_eq!(outcome.join().unwrap().cause, Cause::Drain);
            }
        }
    }
    assert_eq!(said.load(Ordering::Relaxed), 500);
    drop(engine);
}

/// How much each way; 64 MiB in the gate.
fn bulk() -> u64 {
    let given = std::env::var("LONGHAUL_BULK_MIB").ok();
    given.map_or(64, |mib| mib.parse::<u64>().unwrap()) << 20
}

/// Frames of random lengths with random contents, the same for the same seed.
struct Frames {
    random: StdRng,
    masked: bool,
    left: usize,
    /// Payload is cut from here, at random places.
    block: Vec<u8>,
}

impl Frames {
    fn new(seed: u64, masked: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut block = vec![0; 1 << 20];
        random.fill(&mut block[..]);
        Self {
            random,
            masked,
            left: 0,
            block,
        }
    }

    /// The next bytes of the stream, header by header and chunk by chunk.
    fn next(&mut self, chunk: &mut Vec<u8>) {
        chunk.clear();
        if self.left == 0 {
            self.left = match self.random.random_range(0..4) {
                0 => self.random.random_range(0..126),
                1 => self.random.random_range(126..65_536),
                2 => self.random.random_range(65_536..300_000),
                _ => self.random.random_range(300_000..4_000_000),
            };
            self.header(chunk);
            return;
        }
        let length = self.left.min(64 * 1024);
        let at = self.random.random_range(0..self.block.len() - length);
        chunk.extend_from_slice(&self.block[at..at + length]);
        self.left -= length;
    }

    fn header(&mut self, chunk: &mut Vec<u8>) {
        let mask = if self.masked { 0x80 } else { 0 };
        chunk.push(0x82);
        match self.left {
            0..126 => chunk.push(mask | self.left as u8),
            126..65_536 => {
                chunk.push(mask | 126);
                chunk.extend((self.left as u16).to_be_bytes());
            }
            _ => {
                chunk.push(mask | 127);
                chunk.extend((self.left as u64).to_be_bytes());
            }
        }
        if self.masked {
            chunk.extend(self.random.random::<[u8; 4]>());
        }
    }
}

/// Writes at least `least` bytes of frames in chunks of random sizes, with the
/// last frame whole; says how many bytes and messages that were.
fn write_frames(mut to: impl Write, mut frames: Frames, least: u64) -> (u64, u64) {
    let mut sizes = StdRng::seed_from_u64(7);
    let (mut written, mut chunk, mut cursor) = (0, Vec::new(), FrameCursor::new());
    while written < least || !cursor.at_frame_boundary() {
        frames.next(&mut chunk);
        cursor.advance(&chunk);
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let size = sizes.random_range(1..=rest.len().min(100_000));
            to.write_all(&rest[..size]).unwrap();
            rest = &rest[size..];
        }
        written += chunk.len() as u64;
    }
    (written, cursor.messages())
}

/// Reads to the end of stream and compares; says how many bytes came.
fn read_frames(mut from: impl Read, mut frames: Frames) -> u64 {
    let (mut read, mut chunk, mut at) = (0u64, Vec::new(), 0);
    let mut buffer = vec![0; 200_000];
    loop {
        let count = from.read(&mut buffer).unwrap();
        if count == 0 {
            return read;
        }
        let mut seen = &buffer[..count];
        read += count as u64;
        while !seen.is_empty() {
            if at == chunk.len() {
                frames.next(&mut chunk);
                at = 0;
            }
            let expected = &chunk[at..];
            let common = seen.len().min(expected.len());
            assert!(
                seen[..common] == expected[..common],
                "changed before byte {read}"
            );
            at += common;
            seen = &seen[common..];
        }
    }
}

#[test]
fn bulk_passes_unchanged_both_ways_at_once() {
    let registry = Registry::new();
    let engine = Engine::start(&registry, 1).unwrap();
    let (near_client, client) = tcp_pair();
    let (near_backend, backend) = tcp_pair();
    let (_, outcome) = adopt(
        &registry,
        &options(Framing::WebSocket),
        near(near_client),
        near(near_backend),
    );
    let threads = [(client, true), (backend, false)].map(|(stream, masked)| {
        let reader = stream.try_clone().unwrap();
        let seed = u64::from(masked);
        let reads = thread::spawn(move || read_frames(reader, Frames::new(1 - seed, !masked)));
        let writes = thread::spawn(move || {
            let written = write_frames(&stream, Frames::new(seed, masked), bulk());
            stream.shutdown(Shutdown::Write).unwrap();
            written
        });
        (reads, writes)
    });
    let [(out_read, in_written), (in_read, out_written)] =
        threads.map(|(reads, writes)| (reads.join().unwrap(), writes.join().unwrap()));
    let outcome = outcome.recv_timeout(HANGS).unwrap();
    assert_eq!((in_read, out_read), (in_written.0, out_written.0));
    assert_eq!((outcome.bytes_in, outcome.bytes_out), (in_read, out_read));
    assert_eq!(
        (outcome.messages_in, outcome.messages_out),
        (in_written.1, out_written.1)
    );
    assert_eq!(outcome.cause, Cause::Eof);
    drop(engine);
}

#[test]
fn a_stop_does_not_wait_for_a_peer_that_reads_nothing() {
    let registry = Registry::new();
    let engine = Engine::start(&registry, 1).unwrap();
    let (near_client, mut client) = tcp_pair();
    let (near_backend, _backend) = tcp_pair();
    let options = options(Framing::Opaque);
    let (tunnel, outcome) = adopt(&registry, &options, near(near_client), near(near_backend));
    client
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let chunk = vec![7; 1 << 20];
    while client.write_all(&chunk).is_ok() {}
    assert!(tunnel.bytes_in() > 0);
    let start = Instant::now();
    drop(engine);
    assert!(start.elapsed() < HANGS);
    outcome.recv_timeout(HANGS).unwrap();
}

/// Else they would queue up behind the rests, each with its lease.
#[test]
fn all_that_have_ended_are_seen_to_before_the_next_rest() {
    let registry = Registry::new();
    let count = Arc::new(AtomicUsize::new(0));
    let ended = (0..500).map(|_| {
        let counted = Arc::clone(&count);
        let on_end: OnEnd = Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        (registry.open(facts(1), &options(Framing::Opaque)), on_end)
    });
    assert_eq!(rests(ended), 1);
    assert_eq!(count.load(Ordering::Relaxed), 500);
}

/// A worker that nobody turns is a thread that is stuck.
#[test]
fn a_thread_that_does_not_go_round_answers_no_question() {
    let registry = Registry::new();
    assert!(registry.ask_engine().is_empty(), "there is no engine");
    let (mut turning, _ends) = Worker::by_hand(&registry);
    let (mut stuck, _others) = Worker::by_hand(&registry);
    let doors = [&turning, &stuck].map(|worker| Arc::clone(worker.door()));
    registry.set_engine(Some(Doors::of(doors.to_vec())));
    let mut answers = registry.ask_engine();
    turning.turn_once();
    assert!(answers[0].try_recv().is_ok());
    assert_eq!(answers[1].try_recv(), Err(TryRecvError::Empty));
    stuck.turn_once();
    assert!(answers[1].try_recv().is_ok());

    // One that has ended is not stuck: it drops the question.
    drop(stuck);
    let mut answers = registry.ask_engine();
    assert_eq!(answers[1].try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn every_thread_of_an_engine_answers() {
    let registry = Registry::new();
    let _engine = Engine::start(&registry, 3).unwrap();
    let answers = registry.ask_engine();
    assert_eq!(answers.len(), 3);
    for answer in answers {
        assert!(answer.blocking_recv().is_ok());
    }
}
