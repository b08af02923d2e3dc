//! Random lives of tunnels over real sockets, the same under both engines: tiny
//! buffers, writes of one byte, half-close and reset and orders at every point,
//! pipes that are full or not to be had.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsFd;
use std::time::Instant;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::super::engine::testing::{Worth, at_most, lent, set_worth};
use super::lives::cursor;
use super::lives::{Account, BOUND, Case, Event, Peer, QUIET, Witness, answer, case, cases, check};
use super::rig::{Engines, Near, Rig};
use super::*;
use crate::ws::frame::FrameCursor;

/// The sockets of a life, and when payload is spliced.
#[derive(Clone, Copy, Debug)]
struct Ground {
    /// Per side: TCP instead of a Unix pair.
    tcp: [bool; 2],
    /// `SO_SNDBUF` of all four ends; `None`: the kernel's default.
    buffer: Option<usize>,
    /// Pipes to be had; `None`: nothing is spliced.
    pipes: Option<usize>,
}

fn ground() -> impl Strategy<Value = Ground> {
    let tcp = prop::bool::weighted(0.2);
    let buffer = prop_oneof![2 => Just(Some(1)), 1 => Just(Some(10_000)), 1 => Just(None)];
    let pipes =
        prop_oneof![1 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(1)), 3 => Just(Some(8))];
    (tcp, tcp, buffer, pipes).prop_map(|(client, backend, buffer, pipes)| Ground {
        tcp: [client, backend],
        buffer,
        pipes,
    })
}

impl Ground {
    /// Has this thread splice at every chance, or never.
    fn prepare(self) {
        let start = if self.pipes.is_some() { 1 } else { u64::MAX };
        set_worth(Worth {
            start,
            tail: 1,
            thin: 1,
            full_reads: 0,
            full_reads_blind: 0,
        });
        at_most(self.pipes.unwrap_or(8));
    }

    fn pair(self, side: Side) -> (FarSocket, Near) {
        if self.tcp[usize::from(side == Side::Backend)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (near, _) = listener.accept().unwrap();
            for stream in [&far, &near] {
                stream.set_nonblocking(true).unwrap();
                stream.set_nodelay(true).unwrap();
                self.shrink(stream);
            }
            (FarSocket::Tcp(far), Near::Tcp(near))
        } else {
            let (far, near) = std::os::unix::net::UnixStream::pair().unwrap();
            for stream in [&far, &near] {
                stream.set_nonblocking(true).unwrap();
                self.shrink(stream);
            }
            (FarSocket::Unix(far), Near::Unix(near))
        }
    }

    fn shrink(self, socket: impl AsFd) {
        if let Some(bytes) = self.buffer {
            rustix::net::sockopt::set_socket_send_buffer_size(socket, bytes).unwrap();
        }
    }
}

enum FarSocket {
    Unix(std::os::unix::net::UnixStream),
    Tcp(std::net::TcpStream),
}

impl FarSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn end(&self) {
        // It may have been reset.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Dropped after this, it resets the other end (a Unix socket does so when
    /// it has unread bytes, and otherwise just ends both ways).
    fn prepare_reset(&self) {
        if let Self::Tcp(stream) = self {
            let zero = Some(Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(stream, zero).unwrap();
        }
    }
}

/// One peer while it lives.
struct Actor {
    side: Side,
    script: VecDeque<u8>,
    outbox: VecDeque<u8>,
    /// `None` once it has broken off.
    socket: Option<FarSocket>,
    random: StdRng,
    peer: Peer,
    sent: Vec<u8>,
    seen: Vec<u8>,
    sent_cursor: FrameCursor,
    seen_cursor: FrameCursor,
    buffer: Vec<u8>,
    /// It has said that it ends, and has ended when the outbox is empty.
    ends: bool,
    ended: bool,
    shut: bool,
    stalled: bool,
    answered: bool,
}

impl Actor {
    fn new(side: Side, peer: &Peer, socket: FarSocket, read_ahead: bool) -> (Self, Bytes) {
        let mut script: VecDeque<u8> = peer.script.concat().into();
        let ahead = if read_ahead { script.len().min(20) } else { 0 };
        let ahead: Bytes = script.drain(..ahead).collect();
        let actor = Self {
            side,
            script,
            outbox: VecDeque::new(),
            socket: Some(socket),
            random: StdRng::seed_from_u64(peer.chaos.seed),
            peer: peer.clone(),
            sent: ahead.to_vec(),
            seen: Vec::new(),
            sent_cursor: cursor(&ahead),
            seen_cursor: FrameCursor::new(),
            buffer: vec![0; peer.chaos.most],
            ends: false,
            ended: false,
            shut: false,
            stalled: false,
            answered: false,
        };
        (actor, ahead)
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Send(_, bytes) if !self.ends && !self.answered => {
                let bytes = usize::from(bytes).min(self.script.len());
                self.outbox.extend(self.script.drain(..bytes));
            }
            Event::Send(..) | Event::Order => {}
            Event::End(_) => self.ends = true,
            Event::Break(_) => {
                if let Some(socket) = self.socket.take() {
                    socket.prepare_reset();
                }
                self.outbox.clear();
            }
            Event::Stall(_, stalled) => self.stalled = stalled,
        }
    }

    /// Reads and writes a little; says whether anything came of it.
    fn act(&mut self) -> bool {
        self.react();
        let (mut moved, budget) = (false, self.random.random_range(1..=40));
        for _ in 0..budget {
            let (wrote, read) = (self.write(), self.read());
            moved |= wrote | read;
            if !wrote && !read {
                break;
            }
        }
        moved
    }

    fn chunk(&mut self) -> usize {
        self.random.random_range(1..=self.peer.chaos.most)
    }

    fn write(&mut self) -> bool {
        let most = self.chunk();
        let Some(socket) = &mut self.socket else {
            return false;
        };
        if self.outbox.is_empty() {
            let due = self.ends && !self.ended;
            if due {
                socket.end();
                self.ended = true;
            }
            return due;
        }
        let (bytes, _) = self.outbox.as_slices();
        match socket.write(&bytes[..most.min(bytes.len())]) {
            Ok(written) => {
                self.sent_cursor.advance(&bytes[..written]);
                self.sent.extend(self.outbox.drain(..written));
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                // The tunnel is gone: nothing more can be sent.
                self.outbox.clear();
                false
            }
        }
    }

    fn read(&mut self) -> bool {
        let most = self.chunk();
        let Some(socket) = self.socket.as_mut().filter(|_| !self.stalled && !self.shut) else {
            return false;
        };
        match socket.read(&mut self.buffer[..most]) {
            Ok(0) => {
                self.shut = true;
                true
            }
            Ok(read) => {
                self.seen.extend_from_slice(&self.buffer[..read]);
                self.seen_cursor.advance(&self.buffer[..read]);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.shut = true;
                true
            }
        }
    }

    /// Answers a Close frame between its own messages, and an end of stream.
    fn react(&mut self) {
        if !self.peer.polite || self.ends || !self.outbox.is_empty() {
            return;
        }
        let told = self.seen_cursor.close().is_some();
        let said = &self.sent_cursor;
        let has_said = said.close().is_some();
        if told && said.at_message_boundary() && !has_said && !self.answered {
            self.outbox.extend(answer(self.side));
            self.answered = true;
        }
        let server_is_done = self.side == Side::Backend && told && (has_said || self.answered);
        self.ends = self.shut || server_is_done;
    }

    /// What it waits for.
    fn poll(&self) -> Option<PollFd<'_>> {
        let socket = self.socket.as_ref().filter(|_| !self.shut)?;
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, !self.stalled);
        events.set(PollFlags::OUT, !self.outbox.is_empty());
        Some(match socket {
            FarSocket::Unix(stream) => PollFd::new(stream, events),
            FarSocket::Tcp(stream) => PollFd::new(stream, events),
        })
    }

    fn witness(mut self) -> Witness {
        // What is still in its socket has reached it.
        self.stalled = false;
        while self.read() {}
        Witness {
            side: self.side,
            sent: self.sent,
            seen: self.seen,
            shut: self.shut,
            polite: self.peer.polite,
        }
    }
}

/// How one life goes.
struct Life {
    client: Actor,
    backend: Actor,
    rig: Rig,
    random: StdRng,
    order: Arc<CloseOrder>,
    /// In ticks of a tenth of a second.
    now: u32,
    ordered: Option<(u32, [u64; 2])>,
    interfered: bool,
    /// For the kernel, in real time, since something happened.
    waited: Duration,
}

const TICK: Duration = Duration::from_millis(100);

impl Life {
    fn begin(case: &Case, ground: Ground, engine: Engines) -> Self {
        ground.prepare();
        let (client, near_client) = ground.pair(Side::Client);
        let (backend, near_backend) = ground.pair(Side::Backend);
        let (client, ahead_in) = Actor::new(Side::Client, &case.client, client, case.read_ahead);
        let (backend, ahead_out) =
            Actor::new(Side::Backend, &case.backend, backend, case.read_ahead);
        let mut options = options(case.framing);
        options.close.code = case.close_code;
        let client_leg = Leg {
            stream: near_client,
            read_ahead: ahead_in,
        };
        let backend_leg = Leg {
            stream: near_backend,
            read_ahead: ahead_out,
        };
        Self {
            client,
            backend,
            rig: Rig::new(engine, &options, client_leg, backend_leg),
            random: StdRng::seed_from_u64(case.client.chaos.seed ^ case.backend.chaos.seed),
            order: Arc::new(drain(case.close_code)),
            now: 0,
            ordered: None,
            interfered: false,
            waited: Duration::ZERO,
        }
    }

    fn apply(&mut self, event: Event) {
        let side = match event {
            Event::Order => return self.give_order(),
            Event::Send(side, _) | Event::End(side) => side,
            Event::Break(side) => {
                self.interfered = true;
                side
            }
            Event::Stall(side, stalled) => {
                self.interfered |= stalled;
                side
            }
        };
        match side {
            Side::Client => self.client.apply(event),
            _ => self.backend.apply(event),
        }
    }

    fn give_order(&mut self) {
        let tunnel = &self.rig.tunnel;
        if tunnel.close(Arc::clone(&self.order)) {
            self.ordered = Some((self.now, [tunnel.bytes_in(), tunnel.bytes_out()]));
        }
    }

    /// One round in which a peer may miss its turn.
    fn rough_round(&mut self) {
        for actor in [&mut self.client, &mut self.backend] {
            if !actor.random.random_bool(actor.peer.chaos.pending) {
                actor.act();
            }
        }
        self.rig.turn();
    }

    /// Everyone acts once; says whether anything came of it.
    fn round(&mut self) -> bool {
        let passed = |rig: &Rig| (rig.tunnel.bytes_in(), rig.tunnel.bytes_out(), rig.outcome());
        let before = passed(&self.rig);
        let acted = self.client.act() | self.backend.act();
        self.rig.turn();
        acted | (before != passed(&self.rig))
    }

    /// Until nothing happens any more but by the clock.
    fn settle(&mut self, ground: Ground) {
        let by_tcp = ground.tcp != [false; 2];
        let mut calm = 0;
        while self.rig.outcome().is_none() {
            if self.round() {
                calm = 0;
                self.waited = Duration::ZERO;
            } else {
                calm += 1;
                // The kernel delivers at once on a Unix socket; TCP has timers
                // of its own, as that of a delayed ACK.
                let waits = by_tcp && self.is_under_way() && self.wait();
                if calm > 2 && !waits {
                    break;
                }
            }
        }
    }

    /// Whether bytes are on their way that nothing of this life holds up.
    fn is_under_way(&self) -> bool {
        let passed = [self.rig.tunnel.bytes_in(), self.rig.tunnel.bytes_out()];
        let ways = [(&self.client, &self.backend), (&self.backend, &self.client)];
        let mut ways = ways.into_iter().zip(passed);
        !self.interfered
            && ways.any(|((from, to), passed)| {
                // More was seen than passed: a Close of longhaul's own is behind it.
                let (passed, seen) = (passed as usize, to.seen.len());
                !to.shut && (passed > seen || (passed == seen && passed < from.sent.len()))
            })
    }

    /// Waits for the kernel; says whether there was still time for it.
    fn wait(&mut self) -> bool {
        const PATIENCE: Duration = Duration::from_millis(250);
        if self.waited > PATIENCE {
            return false;
        }
        let begun = Instant::now();
        let mut polled: Vec<_> = [&self.client, &self.backend]
            .iter()
            .filter_map(|actor| actor.poll())
            .collect();
        let most = Timespec::try_from(Duration::from_millis(5)).unwrap();
        rustix::event::poll(&mut polled, Some(&most)).unwrap();
        self.waited += begun.elapsed();
        true
    }

    fn pass(&mut self, ticks: u32) {
        self.now += ticks;
        self.rig.registry.pass(ticks);
    }

    fn play(mut self, case: &Case, ground: Ground) -> Account {
        for (at, event) in &case.events {
            let at = (*at / 100) as u32;
            if at > self.now && self.rig.outcome().is_none() {
                // A slow reader is not a stalled one: it gets what it can in no time.
                self.settle(ground);
                self.pass(at - self.now);
            }
            self.apply(*event);
            for _ in 0..self.random.random_range(1..4) {
                self.rough_round();
            }
        }
        self.settle(ground);
        let last = self.now;
        while self.rig.outcome().is_none() {
            let quiet = (self.now - last) * TICK > QUIET;
            if quiet && self.rig.tunnel.state() == State::Open {
                self.give_order();
            }
            // Finer where a second counts.
            self.pass(if self.ordered.is_some() { 1 } else { 4 });
            self.settle(ground);
            assert!(
                (self.now - last) * TICK < QUIET + BOUND + TICK * 8,
                "never ended"
            );
        }
        assert!(self.rig.registry.is_empty());
        assert_eq!(lent(), 0, "a pipe outlives its tunnel");
        Account {
            outcome: self.rig.outcome().unwrap(),
            client: self.client.witness(),
            backend: self.backend.witness(),
            ordered: self.ordered.map(|(at, passed)| (TICK * at, passed)),
            ended: TICK * self.now,
            interfered: self.interfered,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(2000), ..ProptestConfig::default() })]
    #[test]
    fn every_life_keeps_the_rules_under_both_engines(case in case(), ground in ground()) {
        for engine in [Engines::Own, Engines::Tokio] {
            let life = Life::begin(&case, ground, engine).play(&case, ground);
            check(&case, &life).map_err(|error| TestCaseError::fail(format!("{engine:?}: {error}")))?;
        }
    }
}
