//! The transports that longhaul speaks over, as one type.
//!
//! An enum and not a generic, so that hyper and the relay are compiled once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::http2::Tunnel;

/// A connected stream socket.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket, with or without TLS, or a stream of an HTTP/2 connection.
#[derive(Debug)]
pub enum Transport {
    Plain(Socket),
    // Boxed: a TLS session is a kilobyte, a socket is not.
    Tls(Box<TlsStream<Socket>>),
    Http2(Tunnel),
}

impl Socket {
    /// The bare descriptor, no longer known to tokio; it stays non-blocking.
    ///
    /// # Errors
    /// What the kernel says to taking it out of tokio's epoll.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Tcp(stream) => stream.into_std()?.into(),
            Self::Unix(stream) => stream.into_std()?.into(),
        })
    }

    /// By a second descriptor, since TLS does not let go of its stream.
    fn follow(&mut self) -> io::Result<()> {
        let descriptor = self.as_fd().try_clone_to_owned()?;
        *self = match self {
            Self::Tcp(_) => Self::Tcp(TcpStream::from_std(descriptor.into())?),
            Self::Unix(_) => Self::Unix(UnixStream::from_std(descriptor.into())?),
        };
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Transport {
    /// The end of the sending side is to be a reset, where that can be said
    /// without losing what was sent before: not on a socket.
    pub fn sever(&mut self) {
        if let Self::Http2(tunnel) = self {
            tunnel.sever();
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Has the events of the socket below come to the runtime that this is called
    /// in, and no more to the one before.
    ///
    /// # Errors
    /// No descriptor or no memory to be had; then nothing has changed.
    pub fn follow(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.follow(),
            Self::Tls(stream) => match &mut **stream {
                TlsStream::Client(stream) => stream.get_mut().0.follow(),
                TlsStream::Server(stream) => stream.get_mut().0.follow(),
            },
            Self::Http2(_) => Ok(()),
        }
    }

    /// The socket below; a stream of HTTP/2 has none of its own.
    pub fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Http2(_) => None,
        }
    }
}

macro_rules! delegate {
    ($type:ident: $($variant:ident),+) => {
        impl AsyncRead for $type {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(io) => Pin::new(io).poll_read(cx, buf),)+
                }
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(io) => Pin::new(io).poll_write(cx, buf),)+
                }
            }

            fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(io) => Pin::new(io).poll_write_vectored(cx, bufs),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $(Self::$variant(io) => io.is_write_vectored(),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(io) => Pin::new(io).poll_flush(cx),)+
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(io) => Pin::new(io).poll_shutdown(cx),)+
                }
            }
        }
    };
}

delegate!(Socket: Tcp, Unix);
delegate!(Transport: Plain, Tls, Http2);
