//! The sockets on which operators are answered: a Unix socket, and TCP if asked
//! for.
//!
//! Each has a `gate` of its own, so that neither can keep the other from being served.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::sleep;

use super::access::Access;
use super::desk::Desk;
use super::dress::Dress;
use super::gate::Gate;
use super::person::{Caller, Peer};
use super::serve::serve;
use super::token::TokenError;
use crate::config;
use crate::files::FileError;
use crate::net::remove_stale_socket;
use crate::state::State;

const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// The bound sockets; the Unix socket's file goes when it is dropped.
#[derive(Debug)]
pub struct Admin {
    socket: Option<(UnixListener, SocketFile)>,
    listen: Option<TcpListener>,
    of_socket: Access,
    of_tcp: Access,
    /// `None`: plain HTTP over TCP.
    dress: Option<Arc<Dress>>,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

/// Why an address of the admin API cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("the admin socket cannot be bound to unix:{0}")]
    Socket(PathBuf, #[source] io::Error),
    #[error("the admin API cannot be bound to {0}")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("the token file {0} is not usable")]
    Token(PathBuf, #[source] TokenError),
}

impl Admin {
    /// Binds what is asked for, within a runtime. A Unix socket that a dead
    /// process left behind is replaced.
    ///
    /// # Errors
    /// If another process serves it, or the kernel refuses.
    pub fn bind(settings: &config::Admin) -> Result<Self, BindError> {
        let of_tcp = Access::of_tcp(settings);
        if let Some((file, error)) = of_tcp.unusable().pop() {
            return Err(BindError::Token(file, error));
        }
        let socket = settings.socket.as_deref().map(|path| {
            bind_socket(path, settings.mode)
                .map_err(|error| BindError::Socket(path.to_owned(), error))
        });
        let listen = settings
            .listen
            .map(|address| bind_tcp(address).map_err(|error| BindError::Listen(address, error)));
        Ok(Self {
            socket: socket.transpose()?,
            listen: listen.transpose()?,
            of_socket: Access::of_socket(settings),
            of_tcp,
            dress: (!settings.certificates.is_empty()).then(Arc::default),
        })
    }

    /// Serves until dropped.
    pub async fn serve(self, state: Arc<State>) -> Infallible {
        let listening = self.listen.as_ref().map(TcpListener::local_addr);
        let desk = Desk::new(state, listening.and_then(Result::ok));
        let (of_socket, of_tcp) = (Arc::new(self.of_socket), Arc::new(self.of_tcp));
        let unix = async {
            match &self.socket {
                None => std::future::pending().await,
                Some((listener, _file)) => {
                    let accept = async || {
                        let (stream, _) = listener.accept().await?;
                        let user = stream.peer_cred()?;
                        let (uid, gid) = (user.uid(), user.gid());
                        Ok((stream, Peer::User { uid, gid }))
                    };
                    accept_all(accept, &desk, &of_socket, None).await
                }
            }
        };
        let tcp = async {
            match &self.listen {
                None => std::future::pending().await,
                Some(listener) => {
                    let accept = async || {
                        let (stream, address) = listener.accept().await?;
                        Ok((stream, Peer::Address(address)))
                    };
                    accept_all(accept, &desk, &of_tcp, self.dress.as_ref()).await
                }
            }
        };
        tokio::select! {
            never = unix => never,
            never = tcp => never,
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

fn bind_socket(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale_socket(path)?;
    let listener = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((listener, file))
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    // With SO_REUSEADDR, so that a restart need not wait for old connections.
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn accept_all<S>(
    accept: impl AsyncFn() -> io::Result<(S, Peer)>,
    desk: &Arc<Desk>,
    access: &Arc<Access>,
    dress: Option<&Arc<Dress>>,
) -> Infallible
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let gate = Arc::new(Gate::new());
    loop {
        let turn = gate.turn().await;
        match accept().await {
            Ok((stream, peer)) => {
                let passing = Arc::clone(&gate).pass(turn, peer.ip());
                let (desk, access, dress) = (Arc::clone(desk), Arc::clone(access), dress.cloned());
                tokio::spawn(async move {
                    match passing.await {
                        Ok(_pass) => serve_dressed(stream, peer, desk, access, dress).await,
                        Err(refused) => desk.denials.closed(peer, refused),
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "admin accept failed");
                sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

async fn serve_dressed<S>(
    stream: S,
    peer: Peer,
    desk: Arc<Desk>,
    access: Arc<Access>,
    dress: Option<Arc<Dress>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match dress {
        None => serve(stream, Caller::plain(peer), desk, access).await,
        Some(dress) => {
            if let Some((stream, caller)) = dress.accept(stream, peer, &desk).await {
                serve(stream, caller, desk, access).await;
            }
        }
    }
}

/// What stands in the way of its tokens: each file, why it is not usable, and
/// whether that may be only for who asks.
pub fn token_obstacles(settings: &config::Admin) -> Vec<(PathBuf, String, bool)> {
    let unusable = Access::of_tcp(settings).unusable().into_iter();
    let told = |(file, error): (PathBuf, TokenError)| {
        let denied = matches!(&error, TokenError::File(FileError::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied);
        (file, error.to_string(), denied)
    };
    unusable.map(told).collect()
}
