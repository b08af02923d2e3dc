//! What the kernel says of a transport's socket when it is asked itself.
//!
//! Tokio asks only after an event, which may be on its way still; and of room to
//! write there is none before much of the buffer is free.
//!
//! Invariant: bytes go out in the order in which they were given, for tokio keeps
//! none of them.

use std::io::{self, ErrorKind, Write};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio_rustls::TlsStream;

use super::{Socket, Transport};

impl Transport {
    /// Whether something is to be read from the socket: bytes, an end or an error.
    pub fn stirs(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let looks = |socket| recv(socket, &mut [0_u8; 1], flags);
        self.socket()
            .is_some_and(|socket| !matches!(looks(socket), Err(Errno::AGAIN | Errno::INTR)))
    }

    /// Gives the socket some of what a TLS session holds for it, or else of `rest`,
    /// which is to follow: how many bytes of `rest`, `None` if it took nothing.
    ///
    /// # Errors
    /// What the kernel says, but that there is no room.
    pub fn press(&mut self, rest: &[u8]) -> io::Result<Option<usize>> {
        let (taken, of_rest) = match self {
            Self::Http2(_) => return Ok(None),
            Self::Plain(socket) => (Asked(socket).write(rest), true),
            Self::Tls(stream) => (write_tls(stream), false),
        };
        match taken {
            Ok(0) => Ok(None),
            Ok(taken) => Ok(Some(if of_rest { taken } else { 0 })),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn write_tls(stream: &mut TlsStream<Socket>) -> io::Result<usize> {
    match stream {
        TlsStream::Client(stream) => {
            let (socket, session) = stream.get_mut();
            session.write_tls(&mut Asked(socket))
        }
        TlsStream::Server(stream) => {
            let (socket, session) = stream.get_mut();
            session.write_tls(&mut Asked(socket))
        }
    }
}

/// A socket past tokio.
struct Asked<'a>(&'a Socket);

impl Write for Asked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match send(self.0, bytes, flags) {
            Err(Errno::INTR) => Ok(0),
            sent => Ok(sent?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
