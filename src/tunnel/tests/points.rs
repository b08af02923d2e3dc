//! What can happen to a tunnel, at every point of its stream: a Close of
//! longhaul's own, a half-close and a reset, behind each byte of a script with
//! every kind of frame. Under both engines, over TLS and from clients that speak
//! HTTP/2, over sockets that take a few bytes at a time, by splice and by copies.
//!
//! `sockets` does the same at random; here nothing is left out.

use std::io::{ErrorKind, Read, Write};

use super::ground::{Deliveries, FarSocket, Ground};
use super::lives::cursor;
use super::rig::{Engines, Rig};
use super::*;

/// A fragmented message with a ping in it, a long header, an empty message.
pub(super) fn script(masked: bool) -> Vec<u8> {
    let key: &[u8] = if masked { &[9, 8, 7, 6] } else { &[] };
    let bit = if masked { 0x80 } else { 0 };
    let frame = |first: u8, length: &[u8], payload: usize| {
        let head = [&[first, bit | length[0]], &length[1..], key].concat();
        [head, vec![0x88; payload]].concat()
    };
    [
        frame(0x01, &[3], 3),
        frame(0x89, &[2], 2),
        frame(0x80, &[1], 1),
        frame(0x82, &[126, 0, 2], 2),
        frame(0x82, &[127, 0, 0, 0, 0, 0, 0, 0, 1], 1),
        frame(0x81, &[0], 0),
    ]
    .concat()
}

pub(super) struct Far {
    socket: Option<FarSocket>,
    pub(super) seen: Vec<u8>,
    /// How many bytes it still reads.
    pub(super) takes: usize,
    pub(super) ended: bool,
    pub(super) reset: bool,
}

pub(super) struct Scene {
    pub(super) rig: Rig,
    /// The client and the backend.
    pub(super) far: [Far; 2],
    deliveries: Option<Deliveries>,
}

pub(super) const CLIENT: usize = 0;
pub(super) const BACKEND: usize = 1;

impl Scene {
    pub(super) fn new(engine: Engines, ground: Ground, options: &Options) -> Self {
        ground.prepare();
        let [(client, near_client), (backend, near_backend)] = ground.pairs(engine);
        let deliveries = Deliveries::of([&near_client, &near_backend]);
        let far = |socket| Far {
            socket: Some(socket),
            seen: Vec::new(),
            takes: usize::MAX,
            ended: false,
            reset: false,
        };
        Self {
            rig: Rig::new(engine, options, leg(near_client), leg(near_backend)),
            far: [far(client), far(backend)],
            deliveries,
        }
    }

    /// Byte by byte.
    pub(super) fn send(&mut self, side: usize, bytes: &[u8]) {
        for byte in bytes {
            let write = |scene: &mut Self| {
                let socket = scene.far[side].socket.as_mut().unwrap();
                socket.write(&[*byte])
            };
            if write(self).is_err() {
                // Its buffer is full.
                self.settle();
                assert_eq!(write(self).unwrap(), 1);
            }
            self.rig.turn();
        }
        self.settle();
    }

    /// At once, as far as there is room, and nobody looks; says whether it was all.
    pub(super) fn put(&mut self, side: usize, bytes: &[u8]) -> bool {
        let socket = self.far[side].socket.as_mut().unwrap();
        socket
            .write(bytes)
            .is_ok_and(|written| written == bytes.len())
    }

    /// Sends until nothing more goes in anywhere.
    pub(super) fn fill(&mut self, side: usize) {
        let mut refused = 0;
        while refused < 50 {
            refused = match self.put(side, &[0x55; 1000]) {
                true => 0,
                false => refused + 1,
            };
            self.rig.turn();
            self.far[side].pump();
        }
    }

    pub(super) fn end(&mut self, side: usize) {
        assert!(self.far[side].socket.as_mut().unwrap().end());
        self.settle();
    }

    fn reset(&mut self, side: usize) {
        self.far[side].socket.take().unwrap().reset();
        self.settle();
    }

    /// Until nothing happens any more.
    pub(super) fn settle(&mut self) {
        let mut calm = 0;
        while calm < 4 {
            calm += 1;
            self.rig.turn();
            if let Some(deliveries) = &mut self.deliveries {
                let sockets = self.far.iter().filter_map(|far| far.socket.as_ref());
                deliveries.make(sockets.filter_map(FarSocket::tcp));
            }
            for far in &mut self.far {
                if far.pump() | far.read() {
                    calm = 0;
                }
            }
        }
    }

    /// Whether a side can be told that its stream has not just ended: by TCP, by
    /// TLS and by HTTP/2, not by a bare Unix socket.
    pub(super) fn is_reset_possible(&self, side: usize) -> bool {
        !matches!(self.far[side].socket, Some(FarSocket::Unix(_)))
    }

    /// Whether a side is told so when it was the other that broke: where the
    /// reset of one stream loses nothing that was sent before it.
    pub(super) fn is_severed(&self, side: usize) -> bool {
        matches!(self.far[side].socket, Some(FarSocket::Http2(_)))
    }

    /// The tunnel is over: waits for what its closing sends to a side.
    pub(super) fn await_end(&mut self, side: usize) {
        self.deliveries = None;
        self.settle();
        while !self.far[side].ended {
            let socket = self.far[side].socket.as_mut().unwrap();
            assert!(socket.wait(), "a Unix socket delivers at once");
            self.settle();
        }
    }

    pub(super) fn outcome(&mut self) -> Outcome {
        self.rig.outcome().expect("an end")
    }
}

impl Far {
    fn pump(&mut self) -> bool {
        let reads = self.takes > 0;
        let socket = self.socket.as_mut();
        socket.is_some_and(|socket| socket.pump(reads))
    }

    fn read(&mut self) -> bool {
        let mut buffer = [0; 64];
        let most = self.takes.min(buffer.len());
        let reads = most > 0 && !self.ended;
        let Some(socket) = self.socket.as_mut().filter(|_| reads) else {
            return false;
        };
        match socket.read(&mut buffer[..most]) {
            Ok(0) => self.ended = true,
            Ok(read) => {
                self.takes -= read;
                self.seen.extend_from_slice(&buffer[..read]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            // Only a side that has been given up is reset, or over TLS ends so.
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(
                    kind,
                    ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
                ));
                (self.ended, self.reset) = (true, true);
            }
        }
        true
    }

    /// What came, and whether the stream ended behind it.
    fn account(&self) -> (&[u8], bool) {
        assert!(!self.reset);
        (&self.seen, self.ended)
    }
}

/// Plays `scene` at every point of the script, from each side, everywhere.
fn everywhere(tcp: &[bool], scene: impl Fn(Scene, usize, usize)) {
    let options = |_| options(Framing::WebSocket);
    on_grounds(Ground::narrow, tcp, options, scene);
}

/// The same on grounds and with options of one's own.
pub(super) fn on_grounds(
    ground: impl Fn(bool, Option<usize>) -> Ground,
    tcp: &[bool],
    options: impl Fn(usize) -> Options,
    scene: impl Fn(Scene, usize, usize),
) {
    for (engine, pipes) in [
        (Engines::Own, None),
        (Engines::Own, Some(1)),
        (Engines::Tokio, None),
        (Engines::Tls, None),
        (Engines::Http2, None),
    ] {
        for &tcp in tcp {
            let ground = ground(tcp, pipes);
            for side in [CLIENT, BACKEND] {
                for point in 0..=script(side == CLIENT).len() {
                    let options = options(side);
                    scene(Scene::new(engine, ground, &options), side, point);
                }
            }
        }
    }
}

/// A short frame of longhaul's own, unmasked.
pub(super) fn said(side: usize, bytes: &[u8]) -> Vec<u8> {
    if side == CLIENT {
        return bytes.to_vec();
    }
    let (head, key, payload) = (&bytes[..2], &bytes[2..6], &bytes[6..]);
    let payload = payload.iter().zip(key.iter().cycle());
    let head = [head[0], head[1] & 0x7f];
    head.into_iter()
        .chain(payload.map(|(a, b)| a ^ b))
        .collect()
}

#[test]
fn a_close_goes_in_at_the_first_boundary_wherever_it_is_ordered() {
    const CLOSE: &[u8] = &[0x88, 0x05, 0x03, 0xf4, b'b', b'y', b'e'];
    everywhere(&[false, true], |mut scene, side, point| {
        let (script, other) = (script(side == CLIENT), 1 - side);
        scene.send(side, &script[..point]);
        assert_eq!(scene.far[other].account(), (&script[..point], false));
        assert!(scene.rig.tunnel.close(Arc::new(drain(Some(1012)))));
        scene.settle();
        let mut at = cursor(&script[..point]);
        let boundary = point + at.advance_to_message_boundary(&script[point..]);
        scene.send(side, &script[point..]);
        let (passed, close) = scene.far[other].seen.split_at(boundary);
        assert!(passed == &script[..boundary], "ordered at {point}");
        assert_eq!(said(other, close), CLOSE, "ordered at {point}");
        assert_eq!(said(side, &scene.far[side].seen), CLOSE);
        // Both answer, and the backend ends first.
        for side in [BACKEND, CLIENT] {
            scene.send(side, lives::answer([Side::Client, Side::Backend][side]));
            scene.end(side);
        }
        let outcome = scene.outcome();
        assert_eq!(
            (outcome.ended_by, outcome.cause),
            (Side::Longhaul, Cause::Drain)
        );
        assert!(scene.far.iter().all(|far| far.ended));
    });
}

#[test]
fn a_half_close_passes_at_every_point_and_the_other_way_goes_on() {
    everywhere(&[false, true], |mut scene, side, point| {
        let (sent, other) = (script(side == CLIENT), 1 - side);
        let answer = script(other == CLIENT);
        scene.send(side, &sent[..point]);
        scene.end(side);
        assert_eq!(scene.far[other].account(), (&sent[..point], true));
        assert_eq!(scene.rig.tunnel.state(), State::HalfClosed);
        scene.send(other, &answer);
        scene.end(other);
        assert_eq!(scene.far[side].account(), (&answer[..], true));
        let outcome = scene.outcome();
        let by = [Side::Client, Side::Backend][side];
        assert_eq!((outcome.ended_by, outcome.cause), (by, Cause::Eof));
        let mut ways = [
            (outcome.bytes_in as usize, outcome.messages_in),
            (outcome.bytes_out as usize, outcome.messages_out),
        ];
        ways.rotate_left(side);
        let messages = [cursor(&sent[..point]), cursor(&answer)].map(|cursor| cursor.messages());
        assert_eq!(ways, [(point, messages[0]), (answer.len(), messages[1])]);
    });
}

#[test]
fn a_reset_at_every_point_ends_the_other_side_behind_what_had_passed() {
    // A Unix socket has no reset of its own.
    everywhere(&[true], |mut scene, side, point| {
        let (sent, other) = (script(side == CLIENT), 1 - side);
        scene.send(side, &sent[..point]);
        scene.reset(side);
        let far = &scene.far[other];
        assert_eq!((&far.seen[..], far.ended), (&sent[..point], true));
        assert_eq!(far.reset, scene.is_severed(other));
        scene.end(other);
        let outcome = scene.outcome();
        let by = [Side::Client, Side::Backend][side];
        assert_eq!((outcome.ended_by, outcome.cause), (by, Cause::Reset));
        assert_eq!(outcome.bytes_in + outcome.bytes_out, point as u64);
    });
}
