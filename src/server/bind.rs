//! Listening sockets: bound, inherited, and cleaned up.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::ListenAddress;
use crate::net::remove_stale_socket;

/// Connections that may wait for accept. The kernel caps it at
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

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

/// Binds a socket, ready for an asynchronous runtime.
pub(super) fn bind(address: &ListenAddress) -> io::Result<(Listening, Option<SocketFile>)> {
    match address {
        ListenAddress::Tcp(address) => Ok((Listening::Tcp(bind_tcp(*address)?), None)),
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

/// Whether this machine could bind the address, as far as can be told without
/// taking it: what is in use now may be free at the next start.
///
/// # Errors
/// What the kernel says.
pub fn could_bind(address: &ListenAddress) -> io::Result<()> {
    match address {
        ListenAddress::Tcp(address) => {
            let mut free = *address;
            free.set_port(0);
            bind_tcp(free).map(drop)
        }
        ListenAddress::Unix { path, .. } => could_hold_socket(path),
    }
}

/// Whether a socket file could be made at this path.
///
/// # Errors
/// If its directory is not there.
pub fn could_hold_socket(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    match fs::metadata(directory)?.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

impl Listening {
    /// Takes over a socket that the service manager has bound.
    pub(super) fn inherit(fd: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(fd);
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

    /// The same socket once more.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.as_fd().try_clone_to_owned()?.into()),
            Self::Unix(socket) => Self::Unix(socket.as_fd().try_clone_to_owned()?.into()),
        })
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
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
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
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
