//! One listener: accept, admit, hand to a task of its own.
//!
//! The loop never waits for a client. When the process is out of descriptors it
//! backs off and resumes by itself, with one warning for each such time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::Context;
use super::bind::Listening;
use super::connection::{self, Accepted};
use crate::drain::{self, Drain, Stage, Watch};
use crate::metrics;
use crate::net::{Peer, Refused, Socket};

/// Asks an accept loop whether it is still going round.
pub(super) type Probe = mpsc::Sender<oneshot::Sender<()>>;

const FIRST_BACK_OFF: Duration = Duration::from_millis(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// A running accept loop. When this is dropped it ends, and its connections
/// finish the request in hand; tunnels live on.
#[derive(Debug)]
pub(super) struct AcceptLoop {
    pub(super) probe: Probe,
    _drain: Drain,
}

/// What an accept loop gives to each of its connections.
struct Listener {
    name: Arc<str>,
    context: Arc<Context>,
    /// Of the process.
    watch: Watch,
    /// Of this listener.
    listener_watch: Watch,
}

/// A listening socket in the data plane's runtime.
#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AcceptLoop {
    /// Starts accepting; within the data plane's runtime.
    pub(super) fn start(
        name: Arc<str>,
        acceptor: Acceptor,
        context: Arc<Context>,
        watch: Watch,
    ) -> Self {
        let (probe, probes) = mpsc::channel(1);
        let (drain, listener_watch) = drain::channel();
        let listener = Listener {
            name,
            context,
            watch,
            listener_watch,
        };
        tokio::spawn(accept_loop(listener, acceptor, probes));
        Self {
            probe,
            _drain: drain,
        }
    }
}

async fn accept_loop(
    listener: Listener,
    acceptor: Acceptor,
    mut probes: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let name = &*listener.name;
    let mut stopping = listener.watch.clone();
    let mut back_off = FIRST_BACK_OFF;
    let mut warned_full = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.reached(Stage::Draining) => return,
            probe = probes.recv() => match probe {
                Some(answer) => {
                    let _ = answer.send(());
                    continue;
                }
                // The listener was removed.
                None => return,
            },
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                if back_off > FIRST_BACK_OFF {
                    tracing::info!(listener = name, "accepting again");
                    back_off = FIRST_BACK_OFF;
                }
                let refused = listener.admit(socket, peer);
                warned_full = warn_once(name, refused, warned_full);
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                listener.context.state.metrics.accept_errors.inc();
                if back_off == FIRST_BACK_OFF {
                    tracing::warn!(listener = name, %error, "accept failed; backing off");
                }
                back_off = (back_off * 2).min(LONGEST_BACK_OFF);
                sleep(back_off).await;
            }
        }
    }
}

impl Listener {
    /// Starts the connection's task, or says why not.
    fn admit(&self, socket: Socket, peer: Peer) -> Option<Refused> {
        match self.context.limiter.admit(peer.ip()) {
            Ok(permit) => {
                let accepted = Accepted {
                    listener: Arc::clone(&self.name),
                    socket,
                    peer,
                    permit,
                    context: Arc::clone(&self.context),
                    watch: self.watch.clone(),
                    listener_watch: self.listener_watch.clone(),
                };
                tokio::spawn(connection::serve(accepted));
                None
            }
            Err(refused) => {
                let refusal = refused.label();
                let counters = &self.context.state.metrics.connections_refused;
                counters.get_or_create(&metrics::Refused { refusal }).inc();
                Some(refused)
            }
        }
    }
}

/// One warning for each time that the limit is reached.
fn warn_once(name: &str, refused: Option<Refused>, warned: bool) -> bool {
    match refused {
        Some(Refused::Full) => {
            if !warned {
                tracing::warn!(
                    listener = name,
                    "max_connections are open; refusing new ones"
                );
            }
            true
        }
        Some(refused @ Refused::AddressFull) => {
            tracing::debug!(listener = name, %refused, "connection refused");
            warned
        }
        None => false,
    }
}

impl Acceptor {
    /// Within the data plane's runtime.
    ///
    /// # Errors
    /// If the runtime does not take the socket.
    pub(super) fn new(socket: Listening) -> io::Result<Self> {
        Ok(match socket {
            Listening::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            Listening::Unix(socket) => Self::Unix(UnixListener::from_std(socket)?),
        })
    }

    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((Socket::Tcp(stream), Peer::Tcp(peer)))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                Ok((Socket::Unix(stream), Peer::Unix))
            }
        }
    }
}

/// Errors of a connection that was gone before it was accepted (`accept(2)`).
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}
