//! Listening sockets: bound, inherited, and cleaned up.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::{TcpStream, UnixStream};

use crate::config::{Config, ListenAddress};
use crate::net::{Keepalive, Peer, Socket, remove_stale_socket, tune_tcp};

/// Connections that may wait for accept. The kernel caps it at
/// `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// A bound listening socket.
#[derive(Debug)]
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The file of a Unix socket that we made; removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it; nothing to do about the rest.
        let _ = fs::remove_file(&self.0);
    }
}

/// Binds a socket, ready for an asynchronous runtime, whose connections, if it is of
/// TCP, are born with these options.
pub(super) fn bind(
    address: &ListenAddress,
    options: &Keepalive,
) -> io::Result<(Listening, Option<SocketFile>)> {
    match address {
        ListenAddress::Tcp(address) => {
            let socket = bind_tcp(*address, Share::Never, options)?;
            Ok((Listening::Tcp(socket), None))
        }
        ListenAddress::Unix { path, mode } => {
            let (socket, file) = bind_unix(path, *mode)?;
            Ok((Listening::Unix(socket), Some(file)))
        }
    }
}

/// Gives the file of a Unix socket the configured mode, as far as that goes.
pub(super) fn set_mode(address: &ListenAddress) {
    if let ListenAddress::Unix { path, mode } = address
        && let Err(error) = fs::set_permissions(path, Permissions::from_mode(*mode))
    {
        tracing::warn!(path = %path.display(), %error, "the socket keeps its mode");
    }
}

/// Binds an address that sockets of ours overlap which are about to be closed:
/// from `127.0.0.1:80` to `0.0.0.0:80`, without a moment in which nobody listens.
///
/// The kernel lets sockets of one user share an address if all of them say so
/// (`SO_REUSEPORT`). They say so for this moment only: who does not say it later
/// finds the address in use, as ever.
pub(super) fn bind_over(
    address: SocketAddr,
    leaving: &[&Listening],
    options: &Keepalive,
) -> io::Result<Listening> {
    let share = |on| {
        let tcp = leaving.iter().filter_map(|one| match one {
            Listening::Tcp(socket) => Some(SockRef::from(socket)),
            Listening::Unix(_) => None,
        });
        tcp.map(|socket| socket.set_reuse_port(on))
            .fold(Ok(()), io::Result::and)
    };
    let bound = share(true).and_then(|()| bind_tcp(address, Share::ForNow, options));
    share(false)?;
    Ok(Listening::Tcp(bound?))
}

/// Whether these cannot both be listened on.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() != 0 && one.port() == other.port() && (covers(a, b) || covers(b, a))
}

/// Whether the configuration has another listener in the way of this one.
pub(super) fn excludes_another(config: &Config, name: &str, address: SocketAddr) -> bool {
    let mut others = config.listeners.iter().filter(|(other, _)| *other != name);
    others.any(|(_, listener)| match listener.address {
        ListenAddress::Tcp(at) => overlap(at, address),
        ListenAddress::Unix { .. } => false,
    })
}

/// `[::]` takes IPv4 too.
fn covers(wide: IpAddr, ip: IpAddr) -> bool {
    wide == ip || wide.is_unspecified() && (wide.is_ipv6() || ip.is_ipv4())
}

impl Listening {
    /// Takes over a socket that the service manager has bound.
    pub(super) fn inherit(fd: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(fd);
        socket.set_nonblocking(true)?;
        if socket.local_addr()?.is_unix() {
            return Ok(Self::Unix(OwnedFd::from(socket).into()));
        }
        Ok(Self::Tcp(socket.into()))
    }

    /// The bound address as it is shown to people.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Tcp(socket) => socket
                .local_addr()
                .map(|a| a.to_string())
                .unwrap_or_default(),
            Self::Unix(socket) => socket
                .local_addr()
                .ok()
                .and_then(|address| {
                    address
                        .as_pathname()
                        .map(|path| format!("unix:{}", path.display()))
                })
                .unwrap_or_else(|| "unix:".into()),
        }
    }

    /// Whether this socket is bound to the configured address.
    pub(super) fn is_at(&self, address: &ListenAddress) -> bool {
        match (self, address) {
            (Self::Tcp(socket), ListenAddress::Tcp(address)) => {
                address.port() != 0 && socket.local_addr().is_ok_and(|bound| bound == *address)
            }
            (Self::Unix(socket), ListenAddress::Unix { path, .. }) => socket
                .local_addr()
                .is_ok_and(|bound| bound.as_pathname() == Some(path.as_path())),
            _ => false,
        }
    }

    /// Whether the two cannot be bound side by side.
    pub(super) fn overlaps(&self, address: SocketAddr) -> bool {
        match self {
            Self::Tcp(socket) => socket
                .local_addr()
                .is_ok_and(|bound| overlap(bound, address)),
            Self::Unix(_) => false,
        }
    }

    /// The next connection that waits, if one does.
    pub(super) fn accept_now(&self) -> io::Result<(Socket, Peer)> {
        // What is accepted does not inherit the listener's mode.
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Socket::Tcp(TcpStream::from_std(stream)?), Peer::Tcp(peer)))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Socket::Unix(UnixStream::from_std(stream)?), Peer::Unix))
            }
        }
    }

    /// The same socket once more.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.as_fd().try_clone_to_owned()?.into()),
            Self::Unix(socket) => Self::Unix(socket.as_fd().try_clone_to_owned()?.into()),
        })
    }
}

/// Whether an address may be one that another socket of ours listens on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Never,
    ForNow,
}

pub(super) fn bind_tcp(
    address: SocketAddr,
    share: Share,
    options: &Keepalive,
) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the connections of the process before.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` is both families unless it is bound beside `0.0.0.0`.
        socket.set_only_v6(false)?;
    }
    if share == Share::ForNow {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    // Before anybody can come: see `tuning`.
    tune_tcp(&socket, options)?;
    socket.listen(BACKLOG)?;
    if share == Share::ForNow {
        socket.set_reuse_port(false)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale_socket(path)?;
    let socket = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.set_nonblocking(true)?;
    Ok((socket, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_by_port_and_width() {
        let overlaps = |one: &str, other: &str| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(one, other), overlap(other, one));
            overlap(one, other)
        };
        for other in [
            "127.0.0.1:80",
            "0.0.0.0:80",
            "[::]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(overlaps("127.0.0.1:80", other), "{other}");
        }
        for other in ["127.0.0.1:81", "127.0.0.2:80", "[::1]:80"] {
            assert!(!overlaps("127.0.0.1:80", other), "{other}");
        }
        assert!(overlaps("[::]:80", "[::1]:80"));
        assert!(!overlaps("0.0.0.0:80", "[::1]:80"));
        assert!(!overlaps("[::]:0", "[::]:0"));
    }
}
