//! Socket options of both legs: no Nagle delay, and a kernel that notices a
//! peer whose packets have stopped.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::Socket;

/// When the kernel gives up on a silent peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    pub interval: Duration,
    pub probes: u32,
    /// `TCP_USER_TIMEOUT` (RFC 5482): unacknowledged data, unanswered probes or
    /// a closed window for this long end the connection.
    pub user_timeout: Duration,
}

/// Has the closing of a socket reset it: the kernel keeps nothing for its peer.
/// A Unix socket is just closed.
pub fn reset_when_closed(socket: impl AsFd) {
    // Whatever is wrong with it, it is about to be closed.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Prepares a connected socket for a long life. Nothing to do for Unix sockets.
///
/// # Errors
/// What the kernel says, for instance of a socket that is already reset.
pub fn tune(socket: &Socket, keepalive: &Keepalive) -> io::Result<()> {
    match socket {
        Socket::Tcp(stream) => tune_tcp(stream, keepalive),
        Socket::Unix(_) => Ok(()),
    }
}

/// The same for a socket of TCP, connected or listening: the connections of one that
/// listens are born with its options.
///
/// # Errors
/// What the kernel says.
pub fn tune_tcp(socket: &impl AsFd, keepalive: &Keepalive) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.probes),
    )?;
    socket.set_tcp_user_timeout(Some(keepalive.user_timeout))
}
