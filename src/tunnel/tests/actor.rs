//! One peer of a random life over real sockets: what it sends, reads and
//! answers, a little at a time.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::event::{PollFd, PollFlags};

use super::ground::FarSocket;
use super::lives::{Event, Peer, Witness, answer, cursor};
use super::strainer::{Strainer, pong};
use super::*;
use crate::ws::frame::FrameCursor;
use crate::ws::pong::{PongWatch, Seen};

/// One peer while it lives.
pub(super) struct Actor {
    side: Side,
    script: VecDeque<u8>,
    outbox: VecDeque<u8>,
    /// `None` once it has broken off.
    socket: Option<FarSocket>,
    pub(super) random: StdRng,
    pub(super) peer: Peer,
    pub(super) sent: Vec<u8>,
    pub(super) seen: Vec<u8>,
    sent_cursor: FrameCursor,
    seen_cursor: FrameCursor,
    strainer: Strainer,
    /// Answers to longhaul's pings, and how much of the first is written.
    pongs: VecDeque<u8>,
    in_pong: bool,
    /// What is written of one that is not whole: if it breaks off there, these are
    /// bytes as all others.
    part: Vec<u8>,
    buffer: Vec<u8>,
    /// It has said that it ends, and has ended when the outbox is empty.
    ends: bool,
    ended: bool,
    pub(super) shut: bool,
    stalled: bool,
    answered: bool,
}

impl Actor {
    pub(super) fn new(
        side: Side,
        peer: &Peer,
        socket: FarSocket,
        read_ahead: bool,
    ) -> (Self, Bytes) {
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
            strainer: Strainer::new(side),
            pongs: VecDeque::new(),
            in_pong: false,
            part: Vec::new(),
            buffer: vec![0; peer.chaos.most],
            ends: false,
            ended: false,
            shut: false,
            stalled: false,
            answered: false,
        };
        (actor, ahead)
    }

    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::Send(_, bytes) if !self.ends && !self.answered => {
                let bytes = usize::from(bytes).min(self.script.len());
                self.outbox.extend(self.script.drain(..bytes));
            }
            Event::Send(..) | Event::Order => {}
            Event::End(_) => self.ends = true,
            Event::Break(_) => {
                if let Some(socket) = self.socket.take() {
                    socket.reset();
                }
                self.outbox.clear();
                self.sent.append(&mut self.part);
            }
            Event::Stall(_, stalled) => self.stalled = stalled,
        }
    }

    /// Reads and writes a little; says whether anything came of it.
    pub(super) fn act(&mut self) -> bool {
        self.react();
        let reads = !self.stalled && !self.shut;
        let mut moved = self
            .socket
            .as_mut()
            .is_some_and(|socket| socket.pump(reads));
        let budget = self.random.random_range(1..=40);
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
        let at_boundary = self.sent_cursor.at_frame_boundary();
        if !self.pongs.is_empty() && !self.ended && (self.in_pong || at_boundary) {
            return self.write_pong();
        }
        if self.outbox.is_empty() {
            let due = self.ends && !self.ended;
            self.ended |= due && socket.end();
            return due && self.ended;
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

    /// One byte of it. It is no part of what is sent.
    fn write_pong(&mut self) -> bool {
        let Some((socket, byte)) = self.socket.as_mut().zip(self.pongs.front()) else {
            return false;
        };
        match socket.write(&[*byte]) {
            Ok(_) => {
                self.part.extend(self.pongs.pop_front());
                if self.part.len() == pong(self.side).len() {
                    self.part.clear();
                }
                self.in_pong = !self.pongs.is_empty();
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.pongs.clear();
                false
            }
        }
    }

    /// What the tunnel may hold of what was sent: the beginning of a frame that
    /// may become an answer.
    pub(super) fn is_held(&self) -> usize {
        let (mut cursor, mut at) = (FrameCursor::new(), 0);
        loop {
            let open = at;
            at += cursor.advance_past_frame(&self.sent[at..]);
            if at == self.sent.len() {
                let tail = &self.sent[open..];
                let seen = PongWatch::new(*PAYLOAD).look(tail).1;
                let may_be = !cursor.at_frame_boundary() && seen == Seen::Undecided;
                return if may_be { tail.len() } else { 0 };
            }
        }
    }

    /// Bytes that have reached it, with what may yet become a ping of longhaul's:
    /// the beginning of a frame of which no more may ever come.
    pub(super) fn has_come(&self) -> usize {
        self.seen.len() + self.strainer.held()
    }

    fn see(&mut self, read: usize) {
        let (seen, pings) = self.strainer.strain(&self.buffer[..read]);
        self.seen.extend_from_slice(&seen);
        self.seen_cursor.advance(&seen);
        // Behind a Close nothing may follow.
        if self.peer.polite && self.sent_cursor.close().is_none() && !self.answered {
            for _ in 0..pings {
                self.pongs.extend(pong(self.side));
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
                self.see(read);
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

    /// Its socket, if it is TCP.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        self.socket.as_ref()?.tcp()
    }

    /// Whether it has something to send that the kernel does not take yet.
    pub(super) fn is_held_up(&self) -> bool {
        let flushes = |socket: &FarSocket| {
            !self.outbox.is_empty() || socket.is_flushing() || (self.ends && !self.ended)
        };
        self.socket.as_ref().is_some_and(flushes)
    }

    /// What it waits for.
    pub(super) fn poll(&self) -> Option<PollFd<'_>> {
        let stream = self.tcp().filter(|_| !self.shut)?;
        let mut events = PollFlags::IN;
        events.set(PollFlags::OUT, !self.outbox.is_empty());
        Some(PollFd::new(stream, events))
    }

    /// The tunnel is over, and has closed its end.
    pub(super) fn witness(mut self) -> Witness {
        // What is in its socket has reached it, and what is on its way will.
        self.stalled = false;
        loop {
            while self.read() {}
            let socket = self.socket.as_mut().filter(|_| !self.shut);
            if !socket.is_some_and(FarSocket::wait) {
                break;
            }
        }
        Witness {
            side: self.side,
            sent: self.sent,
            seen: self.seen,
            cut: self.strainer.into_held(),
            shut: self.shut,
            polite: self.peer.polite,
        }
    }
}
