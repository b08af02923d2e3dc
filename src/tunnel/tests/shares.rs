//! What one tunnel of the engine may take, of its thread, of memory and of
//! pipes: a worker turned by hand, with several tunnels.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::task::{Context, Waker};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SendFlags;
use tokio::io::{AsyncWriteExt, duplex};

use super::super::engine::Adoption;
use super::super::engine::testing::{Ends, Worker, Worth, at_most, held, lent, set_worth};
use super::super::relay::{Quantum, Step};
use super::super::scratch;
use super::*;

/// Splices whatever there is.
const ALWAYS: Worth = Worth {
    start: 1,
    tail: 1,
    thin: 1,
    full_reads: 0,
    full_reads_blind: 0,
};
const NEVER: Worth = Worth {
    start: u64::MAX,
    full_reads_blind: u8::MAX,
    ..ALWAYS
};

struct Thread {
    registry: Arc<Registry>,
    worker: Worker,
    ends: Ends,
}

struct Far<S> {
    client: S,
    backend: S,
    tunnel: Arc<Tunnel>,
}

impl Thread {
    fn new(worth: Worth, pipes: usize) -> Self {
        set_worth(worth);
        at_most(pipes);
        scratch::shrink_to(scratch::SIZE);
        let registry = Registry::new();
        let (worker, ends) = Worker::by_hand(&registry);
        Self {
            registry,
            worker,
            ends,
        }
    }

    fn tunnel(&mut self) -> Far<UnixStream> {
        self.tunnel_of(Framing::Opaque)
    }

    fn tunnel_of(&mut self, framing: Framing) -> Far<UnixStream> {
        let [(client, near_client), (backend, near_backend)] =
            [(); 2].map(|()| UnixStream::pair().unwrap());
        for stream in [&client, &near_client, &backend, &near_backend] {
            stream.set_nonblocking(true).unwrap();
        }
        let tunnel = self.adopt_as(framing, near_client, near_backend);
        Far {
            client,
            backend,
            tunnel,
        }
    }

    fn adopt(
        &mut self,
        client: impl Into<std::os::fd::OwnedFd>,
        backend: impl Into<std::os::fd::OwnedFd>,
    ) -> Arc<Tunnel> {
        self.adopt_as(Framing::Opaque, client, backend)
    }

    fn adopt_as(
        &mut self,
        framing: Framing,
        client: impl Into<std::os::fd::OwnedFd>,
        backend: impl Into<std::os::fd::OwnedFd>,
    ) -> Arc<Tunnel> {
        let ticket = self.registry.open(facts(1), &options(framing));
        let tunnel = Arc::clone(ticket.tunnel());
        let adoption = Adoption {
            client: leg(client.into()),
            backend: leg(backend.into()),
            ticket,
            on_end: Box::new(|_| ()),
        };
        assert!(self.worker.door().adopt(adoption).is_ok());
        self.turn();
        tunnel
    }

    fn turn(&mut self) {
        self.worker.turn_once();
        self.ends.run();
    }

    /// Writes until nobody takes any more, however often the worker turns; says
    /// how much it was.
    fn fill(&mut self, stream: &mut UnixStream, bytes: &[u8]) -> usize {
        let (mut at, mut refused) = (0, 0);
        while at < bytes.len() && refused < 10 {
            match stream.write(&bytes[at..]) {
                Ok(written) => (at, refused) = (at + written, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => refused += 1,
                Err(error) => panic!("{error}"),
            }
            self.turn();
        }
        at
    }

    /// Writes the rest of `bytes` from `at` on, and reads and compares them all.
    fn drain(&mut self, far: &mut Far<UnixStream>, bytes: &[u8], mut at: usize) {
        let (mut read, mut idle, mut part) = (0, 0, vec![0; 50_000]);
        while read < bytes.len() {
            assert!(idle < 10, "stuck after {read} bytes");
            if let Ok(written) = far.client.write(&bytes[at..]) {
                at += written;
            }
            self.turn();
            match far.backend.read(&mut part) {
                Ok(count) => {
                    assert!(part[..count] == bytes[read..read + count]);
                    (read, idle) = (read + count, 0);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    idle += 1;
                }
            }
        }
    }
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at / 7 + at) as u8).collect()
}

#[test]
fn a_flood_waits_for_its_next_turn_and_needs_no_event_for_it() {
    const READ: usize = 100;
    // Four turns of eight reads each.
    const SHARE: u64 = 4 * 8 * READ as u64;
    for worth in [NEVER, ALWAYS] {
        let mut thread = Thread::new(worth, 0);
        scratch::shrink_to(READ);
        let (mut flood, mut small) = (thread.tunnel(), thread.tunnel());
        flood.client.write_all(&[7; 50_000]).unwrap();
        small.client.write_all(b"hello").unwrap();
        thread.turn();
        assert_eq!(flood.tunnel.bytes_in(), SHARE);
        let mut hello = [0; 5];
        small.backend.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello");
        // Its socket was not read empty, so epoll has nothing more to tell.
        thread.turn();
        assert_eq!(flood.tunnel.bytes_in(), 2 * SHARE);
    }
}

#[test]
fn a_message_waits_for_one_of_those_who_move_much_and_not_for_all() {
    const READ: usize = 100;
    const SHARE: u64 = 4 * 8 * READ as u64;
    let mut thread = Thread::new(NEVER, 0);
    scratch::shrink_to(READ);
    let mut floods: Vec<_> = (0..10).map(|_| thread.tunnel()).collect();
    let mut small = thread.tunnel();
    for flood in &mut floods {
        flood.client.write_all(&[7; 50_000]).unwrap();
    }
    // Nobody has moved much yet: all go.
    thread.turn();
    for flood in &floods {
        assert_eq!(flood.tunnel.bytes_in(), SHARE);
    }
    let mut hello = [0; 5];
    for round in 2..5 {
        for turn in 1..=10 {
            small.client.write_all(b"hello").unwrap();
            thread.turn();
            small.backend.read_exact(&mut hello).unwrap();
            let moved: u64 = floods.iter().map(|flood| flood.tunnel.bytes_in()).sum();
            assert_eq!(moved, (10 * (round - 1) + turn) * SHARE);
        }
        // Each in its turn.
        for flood in &floods {
            assert_eq!(flood.tunnel.bytes_in(), round * SHARE);
        }
    }
}

#[test]
fn who_is_done_with_much_goes_with_the_messages_again() {
    const MUCH: usize = 100_000;
    let mut thread = Thread::new(NEVER, 0);
    let mut done = thread.tunnel();
    let (written, mut bytes) = (vec![7; MUCH], vec![0; MUCH]);
    done.client.write_all(&written).unwrap();
    for _ in 0..10 {
        thread.turn();
    }
    done.backend.read_exact(&mut bytes).unwrap();
    // The first step after that finds little.
    done.client.write_all(b"x").unwrap();
    thread.turn();
    assert_eq!(done.tunnel.bytes_in() as usize, MUCH + 1);
    // Now two others move much, and no turn is theirs alone.
    scratch::shrink_to(100);
    let mut floods = [thread.tunnel(), thread.tunnel()];
    for flood in &mut floods {
        flood.client.write_all(&[7; 50_000]).unwrap();
    }
    thread.turn();
    for more in 2..5 {
        done.client.write_all(b"y").unwrap();
        thread.turn();
        assert_eq!(done.tunnel.bytes_in() as usize, MUCH + more);
    }
}

#[test]
fn a_thousand_small_messages_are_bulk() {
    const EMPTY: [u8; 6] = [0x81, 0x80, 0, 0, 0, 0];
    let mut thread = Thread::new(NEVER, 0);
    let mut floods = [(); 2].map(|()| thread.tunnel_of(Framing::WebSocket));
    let messages = EMPTY.repeat(1_000);
    for flood in &mut floods {
        flood.client.write_all(&messages).unwrap();
    }
    thread.turn();
    for flood in &mut floods {
        flood.client.write_all(&messages).unwrap();
    }
    // They go with each other, and not both in one turn.
    for turn in 3..=4 {
        thread.turn();
        let moved: u64 = floods.iter().map(|flood| flood.tunnel.bytes_in()).sum();
        assert_eq!(moved as usize, turn * messages.len());
    }
}

#[test]
fn who_has_had_thousands_of_messages_one_by_one_goes_with_the_messages() {
    const EMPTY: [u8; 6] = [0x81, 0x80, 0, 0, 0, 0];
    let mut thread = Thread::new(NEVER, 0);
    let mut all = [(); 2].map(|()| thread.tunnel_of(Framing::WebSocket));
    for count in 1..=3_000 {
        for one in &mut all {
            one.client.write_all(&EMPTY).unwrap();
        }
        // Each has its step in every turn.
        thread.turn();
        for one in &mut all {
            assert_eq!(one.tunnel.messages_in(), count);
            one.backend.read_exact(&mut [0; EMPTY.len()]).unwrap();
        }
    }
}

#[tokio::test]
async fn messages_that_are_dropped_count_in_a_step() {
    const EMPTY: [u8; 6] = [0x81, 0x80, 0, 0, 0, 0];
    let registry = Registry::new();
    let ticket = registry.open(facts(1), &options(Framing::WebSocket));
    let tunnel = Arc::clone(ticket.tunnel());
    let (mut client, near_client) = duplex(64 * 1024);
    let (_backend, near_backend) = duplex(64 * 1024);
    let mut relay = relay(leg(near_client), leg(near_backend), ticket);
    let mut step = || {
        let mut context = Context::from_waker(Waker::noop());
        relay.step(&mut context, false, Quantum::Messages)
    };
    // After longhaul's Close nothing of the client is passed on.
    assert!(tunnel.close(Arc::new(drain(Some(1012)))));
    assert!(matches!(step(), Step::Waits(Quantum::Messages)));
    client.write_all(&EMPTY.repeat(1_000)).await.unwrap();
    assert!(matches!(step(), Step::Again));
    assert_eq!(tunnel.bytes_in(), 0);
}

#[test]
fn a_reader_that_stalls_stalls_the_writer_with_and_without_pipes() {
    for (worth, pipes) in [(NEVER, 0), (ALWAYS, 0), (ALWAYS, 8)] {
        let mut thread = Thread::new(worth, pipes);
        let mut far = thread.tunnel();
        let bytes = bytes(8 << 20);
        let written = thread.fill(&mut far.client, &bytes);
        // Two sockets of the kernel's, and one buffer or one pipe.
        assert!(written < 2 << 20, "{written} bytes have gone somewhere");
        assert!((far.tunnel.bytes_in() as usize) < written);
        thread.drain(&mut far, &bytes, written);
        assert_eq!(far.tunnel.bytes_in() as usize, bytes.len());
        assert_eq!(lent(), 0);
    }
}

#[test]
fn where_pipes_run_out_bytes_are_copied() {
    let mut thread = Thread::new(ALWAYS, 1);
    let [mut first, mut second] = [thread.tunnel(), thread.tunnel()];
    let bytes = bytes(4 << 20);
    let held = thread.fill(&mut first.client, &bytes);
    assert_eq!(lent(), 1, "the one pipe is full");
    let written = thread.fill(&mut second.client, &bytes);
    thread.drain(&mut second, &bytes, written);
    assert_eq!(lent(), 1);
    thread.drain(&mut first, &bytes, held);
    assert_eq!(lent(), 0);
}

#[test]
fn a_pipe_that_nobody_drains_is_given_back_and_its_bytes_are_kept() {
    let mut thread = Thread::new(ALWAYS, 1);
    let mut far = thread.tunnel();
    let bytes = bytes(4 << 20);
    let written = thread.fill(&mut far.client, &bytes);
    assert_eq!(lent(), 1);
    for _ in 0..2 {
        thread.registry.pass(10);
        thread.turn();
    }
    assert_eq!(lent(), 0, "it is still held");
    thread.drain(&mut far, &bytes, written);
}

#[test]
fn many_readers_that_stall_cost_no_more_than_the_thread_may_keep() {
    const PIPES: usize = 64;
    let mut thread = Thread::new(ALWAYS, PIPES);
    let bytes = bytes(4 << 20);
    let mut far = Vec::new();
    let mut most = 0;
    // Each has what the kernel holds for a Unix socket in its pipe.
    for stalled in 0..400 {
        let mut one = thread.tunnel();
        let written = thread.fill(&mut one.client, &bytes);
        far.push((one, written));
        if stalled % 50 == 49 {
            for _ in 0..2 {
                thread.registry.pass(10);
                thread.turn();
            }
            most = most.max(held().1);
        }
    }
    assert!((8 << 20..=16 << 20).contains(&most), "{most} bytes kept");
    assert!(lent() > 0, "the rest stays in pipes, and then is copied");
    for (one, written) in far.iter_mut().step_by(57) {
        thread.drain(one, &bytes, *written);
    }
    drop(far);
    for _ in 0..3 {
        thread.turn();
    }
    for _ in 0..2 {
        thread.registry.pass(400);
        thread.turn();
    }
    assert!(thread.registry.is_empty());
    assert_eq!(lent(), 0);
    let (descriptors, kept) = held();
    assert!(descriptors <= 8 && kept == 0, "{descriptors}, {kept}");
}

#[test]
fn an_urgent_byte_in_the_midst_of_bulk_stops_nothing() {
    let mut thread = Thread::new(ALWAYS, 8);
    let [(mut client, near_client), (mut backend, near_backend)] = [(); 2].map(|()| tcp_pair());
    thread.adopt(near_client, near_backend);
    let (bytes, mut seen) = (bytes(30_000), Vec::<u8>::new());
    client.write_all(&bytes[..10_000]).unwrap();
    rustix::net::send(&client, b"!", SendFlags::OOB).unwrap();
    client.write_all(&bytes[10_000..]).unwrap();
    let begun = Instant::now();
    while seen.len() < bytes.len() {
        thread.turn();
        let mut polled = [PollFd::new(&backend, PollFlags::IN)];
        let soon = Timespec::try_from(Duration::from_millis(5)).unwrap();
        if rustix::event::poll(&mut polled, Some(&soon)).unwrap() > 0 {
            let mut part = vec![0; 50_000];
            let count = backend.read(&mut part).unwrap();
            seen.extend(&part[..count]);
        }
        let patience = Duration::from_secs(10);
        assert!(begun.elapsed() < patience, "stuck after {}", seen.len());
    }
    assert!(seen == bytes);
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    (far, near)
}
