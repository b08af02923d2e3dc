//! What a transport's socket has taken, and what its kernel says when it is asked
//! itself.
//!
//! TLS tells only of a flush that is done. Tokio asks only after an event, which may
//! be on its way still; and of room to write there is none before much of the
//! buffer is free.
//!
//! Invariant: bytes go out in the order in which they were given, for tokio keeps
//! none of them.

use std::io::{self, ErrorKind, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::AsyncWrite;
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

    /// As `poll_flush`; says too whether the socket took any of what TLS held.
    pub fn flush_some(&mut self, cx: &mut Context<'_>) -> (Poll<io::Result<()>>, bool) {
        let mut took = false;
        if let Self::Tls(stream) = self {
            while stream.get_ref().1.wants_write() {
                match write_tls(stream, |socket| Polled(socket, cx)) {
                    Ok(0) => break,
                    Ok(_) => took = true,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        return (Poll::Pending, took);
                    }
                    Err(error) => return (Poll::Ready(Err(error)), took),
                }
            }
        }
        (Pin::new(self).poll_flush(cx), took)
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
            Self::Tls(stream) => (write_tls(stream, |socket| Asked(socket)), false),
        };
        match taken {
            Ok(0) => Ok(None),
            Ok(taken) => Ok(Some(if of_rest { taken } else { 0 })),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Gives some of what the session holds to what `through` makes of its socket.
fn write_tls<'a, W: Write>(
    stream: &'a mut TlsStream<Socket>,
    through: impl FnOnce(&'a mut Socket) -> W,
) -> io::Result<usize> {
    match stream {
        TlsStream::Client(stream) => {
            let (socket, session) = stream.get_mut();
            session.write_tls(&mut through(socket))
        }
        TlsStream::Server(stream) => {
            let (socket, session) = stream.get_mut();
            session.write_tls(&mut through(socket))
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

/// A socket as tokio has it.
struct Polled<'a, 'b, 'c>(&'a mut Socket, &'b mut Context<'c>);

impl Write for Polled<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.0).poll_write(self.1, bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
