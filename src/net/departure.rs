//! Notices that a client has left although bytes of it are still unread.
//!
//! hyper does not read on while a request is pending and more has come behind
//! it, so it cannot see the end of the stream. This looks at the socket instead
//! of reading: the kernel says `EPOLLRDHUP` as soon as the peer's FIN is there,
//! however much lies before it, and a reset as well.
//!
//! It costs a descriptor and an entry in epoll, so it is made only for such a
//! request. It is a second view on the socket: what is read, and the readiness
//! that reading goes by, are left alone.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

use super::Socket;

/// The end of the client's stream, seen from outside.
pub(super) struct Departure(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Departure {
    /// # Errors
    /// If there is no descriptor to be had.
    pub(super) fn of(socket: &Socket) -> io::Result<Self> {
        let view = second_view(socket)?;
        Ok(Self(Box::pin(async move {
            while let Ok(seen) = ready(&view).await {
                if seen.is_read_closed() {
                    return;
                }
                // More bytes: epoll is edge-triggered and tells of the next news.
                pass_over(&view);
            }
        })))
    }

    /// Ready once the client has ended its stream, or reset it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Departure").finish_non_exhaustive()
    }
}

fn second_view(socket: &Socket) -> io::Result<Socket> {
    let fd = socket.as_fd().try_clone_to_owned()?;
    Ok(match socket {
        Socket::Tcp(_) => Socket::Tcp(TcpStream::from_std(fd.into())?),
        Socket::Unix(_) => Socket::Unix(UnixStream::from_std(fd.into())?),
    })
}

async fn ready(socket: &Socket) -> io::Result<Ready> {
    match socket {
        Socket::Tcp(stream) => stream.ready(Interest::READABLE).await,
        Socket::Unix(stream) => stream.ready(Interest::READABLE).await,
    }
}

/// Has the next [`ready`] wait for news.
fn pass_over(socket: &Socket) {
    let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
    // It says so, which is what clears the readiness.
    let _ = match socket {
        Socket::Tcp(stream) => stream.try_io(Interest::READABLE, nothing),
        Socket::Unix(stream) => stream.try_io(Interest::READABLE, nothing),
    };
}
