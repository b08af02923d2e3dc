//! What a random life plays on: real sockets with their buffers, when payload
//! is spliced between them, and a way to have the kernel deliver by TCP what it
//! was given.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use super::super::engine::testing::{Worth, at_most, set_worth};
use super::super::scratch;
use super::carried::{Carried, carry};
use super::rig::{Engines, Near, runtime};
use super::sealed::{Sealed, seal};
use super::*;
use crate::net::Socket;

/// A patience that only a hang outlasts.
const HANGS: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

/// The sockets of a life, and when payload is spliced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    /// Per side: TCP instead of a Unix pair.
    tcp: [bool; 2],
    /// `SO_SNDBUF` of all four ends; `None`: the kernel's default.
    buffer: Option<usize>,
    /// Pipes to be had; `None`: nothing is spliced.
    pipes: Option<usize>,
    /// What the tunnel reads at once.
    read: usize,
    /// Whether it is played over TLS too, and from a client of HTTP/2.
    pub(super) tls: bool,
    pub(super) http2: bool,
}

pub(super) fn ground() -> impl Strategy<Value = Ground> {
    let tcp = prop::bool::weighted(0.2);
    let buffer = prop_oneof![2 => Just(Some(1)), 1 => Just(Some(10_000)), 1 => Just(None)];
    let pipes =
        prop_oneof![1 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(1)), 3 => Just(Some(8))];
    let read = prop_oneof![4 => Just(scratch::SIZE), 1 => Just(13)];
    let also = (prop::bool::weighted(0.3), prop::bool::weighted(0.3));
    ([tcp, tcp], buffer, pipes, read, also).prop_map(|(tcp, buffer, pipes, read, also)| Ground {
        tcp,
        buffer,
        pipes,
        read,
        tls: also.0,
        http2: also.1,
    })
}

impl Ground {
    /// With the smallest buffers there are, and reads of one byte.
    pub(super) fn narrow(tcp: bool, pipes: Option<usize>) -> Self {
        Self {
            tcp: [tcp; 2],
            buffer: Some(1),
            pipes,
            read: 1,
            tls: true,
            http2: true,
        }
    }

    /// The same with so much room that no byte of a short script waits.
    pub(super) fn roomy(self) -> Self {
        Self {
            buffer: None,
            ..self
        }
    }

    /// The same with reads as large as they are.
    pub(super) fn broad(self) -> Self {
        Self {
            read: scratch::SIZE,
            ..self
        }
    }

    /// Has this thread splice at every chance or never, and read so much.
    pub(super) fn prepare(self) {
        let start = if self.pipes.is_some() { 1 } else { u64::MAX };
        set_worth(Worth {
            start,
            tail: 1,
            thin: 1,
            full_reads: 0,
            full_reads_blind: 0,
        });
        at_most(self.pipes.unwrap_or(8));
        scratch::shrink_to(self.read);
    }

    /// The far and near ends of both sides, as the engine takes them.
    pub(super) fn pairs(self, engine: Engines) -> [(FarSocket, Near); 2] {
        let pairs = self.tcp.map(|tcp| self.pair(tcp));
        match engine {
            Engines::Own | Engines::Tokio => pairs,
            Engines::Tls => {
                let runtime = Rc::new(runtime());
                pairs.map(|(far, near)| seal(far, near, &runtime))
            }
            Engines::Http2 => {
                let [(far, near), backend] = pairs;
                [carry(far, near, &Rc::new(runtime())), backend]
            }
        }
    }

    fn pair(self, tcp: bool) -> (FarSocket, Near) {
        if tcp {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (near, _) = listener.accept().unwrap();
            for stream in [&far, &near] {
                stream.set_nonblocking(true).unwrap();
                stream.set_nodelay(true).unwrap();
                // BBR, the default of many kernels, paces even loopback.
                sockopt::set_tcp_congestion(stream, "reno").unwrap();
                self.shrink(stream);
            }
            (FarSocket::Tcp(far), Near::Tcp(near))
        } else {
            let (far, near) = UnixStream::pair().unwrap();
            for stream in [&far, &near] {
                stream.set_nonblocking(true).unwrap();
                self.shrink(stream);
            }
            (FarSocket::Unix(far), Near::Unix(near))
        }
    }

    fn shrink(self, socket: impl AsFd) {
        if let Some(bytes) = self.buffer {
            sockopt::set_socket_send_buffer_size(socket, bytes).unwrap();
        }
    }
}

pub(super) enum FarSocket {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<Sealed>),
    Http2(Box<Carried>),
}

impl FarSocket {
    /// What is under TLS or HTTP/2, if it is TCP.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(stream) => Some(stream),
            Self::Tls(sealed) => sealed.socket().tcp(),
            Self::Http2(carried) => carried.socket(),
        }
    }

    /// Moves what its TLS or HTTP/2 has to move, if it has any; says whether it
    /// did, as far as no read tells.
    pub(super) fn pump(&mut self, reads: bool) -> bool {
        match self {
            Self::Tls(sealed) => sealed.pump(reads),
            Self::Http2(carried) => {
                carried.pump();
                false
            }
            Self::Unix(_) | Self::Tcp(_) => false,
        }
    }

    /// Waits for more to read; `false` if nothing can be on its way.
    pub(super) fn wait(&mut self) -> bool {
        if let Self::Http2(carried) = self {
            carried.wait();
            return true;
        }
        let Some(stream) = self.tcp() else {
            return false;
        };
        let ready = poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&HANGS));
        assert!(ready.unwrap() > 0, "the end does not come");
        true
    }

    /// Whether its TLS or HTTP/2 has yet to write what was given to it.
    pub(super) fn is_flushing(&self) -> bool {
        match self {
            Self::Tls(sealed) => sealed.is_flushing(),
            Self::Http2(carried) => carried.is_flushing(),
            Self::Unix(_) | Self::Tcp(_) => false,
        }
    }

    /// Ends the stream; says whether it has come to that.
    pub(super) fn end(&mut self) -> bool {
        // It may have been reset.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(sealed) => return sealed.end(),
            Self::Http2(carried) => {
                carried.end();
                Ok(())
            }
        };
        true
    }

    /// Resets the other end (a Unix socket does so when it has unread bytes, and
    /// otherwise just ends both ways).
    pub(super) fn reset(self) {
        match self {
            Self::Http2(carried) => carried.reset(),
            _ => {
                if let Some(stream) = self.tcp() {
                    let zero = Some(Duration::ZERO);
                    sockopt::set_socket_linger(stream, zero).unwrap();
                }
            }
        }
    }

    pub(super) fn into_tokio(self) -> Socket {
        match self {
            Self::Unix(stream) => Near::Unix(stream).into_tokio(),
            Self::Tcp(stream) => Near::Tcp(stream).into_tokio(),
            Self::Tls(_) | Self::Http2(_) => unreachable!("it is no bare socket"),
        }
    }
}

impl Read for FarSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(sealed) => sealed.read(buffer),
            Self::Http2(carried) => carried.read(buffer),
        }
    }
}

impl Write for FarSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(sealed) => sealed.write(bytes),
            Self::Http2(carried) => carried.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has the kernel deliver what was sent by TCP.
///
/// A Unix socket delivers at once. Loopback TCP does so in a queue of each core
/// that is worked off at once or, when much is going on, by a thread of the
/// kernel; and bytes that wait for room in a send buffer wait for an ACK, which
/// may be delayed by 40 ms. So the thread stays on one core, whose queue is
/// worked off in order: when a byte of its own has come through, all has that
/// was sent before. ACKs are asked for.
pub(super) struct Deliveries {
    near: Vec<TcpStream>,
    sends: TcpStream,
    receives: TcpStream,
}

impl Deliveries {
    /// Of these near ends.
    ///
    /// To be dropped when the tunnel has closed them: what is open here stays open.
    pub(super) fn of(near: [&Near; 2]) -> Option<Self> {
        let near: Vec<TcpStream> = near.into_iter().filter_map(Near::another).collect();
        if near.is_empty() {
            return None;
        }
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sends = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        sends.set_nodelay(true).unwrap();
        let (receives, _) = listener.accept().unwrap();
        Some(Self {
            near,
            sends,
            receives,
        })
    }

    pub(super) fn make<'a>(&'a mut self, far: impl Iterator<Item = &'a TcpStream>) {
        for stream in self.near.iter().chain(far) {
            // It may have been reset.
            let _ = sockopt::set_tcp_quickack(stream, true);
        }
        self.sends.write_all(&[0]).unwrap();
        self.receives.read_exact(&mut [0]).unwrap();
    }
}
