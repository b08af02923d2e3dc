//! One listener: accept, admit, hand to a task of its own.
//!
//! The loop never waits for a client. When the process is out of descriptors it
//! backs off and resumes by itself, with one warning for each such time.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::Context;
use super::bind::Listening;
use super::connection::{self, Accepted};
use super::tuning::Tuning;
use crate::drain::{self, Drain, Stage, Watch};
use crate::guard::Shut;
use crate::metrics;
use crate::net::{Keepalive, Peer, Refused, Socket};

/// Asks an accept loop whether it is still going round.
pub(super) type Probe = mpsc::Sender<oneshot::Sender<()>>;

const FIRST_BACK_OFF: Duration = Duration::from_millis(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);
/// A shortage is over when no accept has failed for so long.
const OVER: Duration = Duration::from_secs(10);

/// A running accept loop. When this is dropped it ends, and its connections
/// finish the request in hand; tunnels live on.
#[derive(Debug)]
pub(super) struct AcceptLoop {
    pub(super) probe: Probe,
    drain: Drain,
    watch: Watch,
    ended: oneshot::Receiver<()>,
}

/// What a listener leaves behind that moves to another address.
#[derive(Debug)]
pub(super) struct Left {
    socket: Listening,
    /// Its connections stay: they are the listener's, wherever it listens.
    drain: Drain,
    watch: Watch,
    /// Says that its accept loop is over.
    ended: oneshot::Receiver<()>,
}

/// What an accept loop gives to each of its connections.
#[derive(Clone)]
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
    /// Starts accepting; within the data plane's runtime. Who still waits at the
    /// socket that was left comes in too.
    pub(super) fn start(
        name: Arc<str>,
        acceptor: Acceptor,
        tuning: Tuning,
        left: Option<Left>,
        context: Arc<Context>,
        watch: Watch,
    ) -> Self {
        let (probe, probes) = mpsc::channel(1);
        let (ends, ended) = oneshot::channel();
        let ((drain, listener_watch), waiting) = match left {
            None => (drain::channel(), None),
            Some(left) => ((left.drain, left.watch), Some((left.socket, left.ended))),
        };
        let listener = Listener {
            name,
            context,
            watch,
            listener_watch: listener_watch.clone(),
        };
        if let Some((socket, ended)) = waiting {
            tokio::spawn(listener.clone().admit_waiting(socket, ended));
        }
        tokio::spawn(async move {
            accept_loop(listener, acceptor, tuning, probes).await;
            let _ = ends.send(());
        });
        Self {
            probe,
            drain,
            watch: listener_watch,
            ended,
        }
    }

    /// Ends the loop for a successor at another address.
    pub(super) fn leave(self, socket: Listening) -> Left {
        Left {
            socket,
            drain: self.drain,
            watch: self.watch,
            ended: self.ended,
        }
    }
}

async fn accept_loop(
    listener: Listener,
    acceptor: Acceptor,
    mut tuning: Tuning,
    mut probes: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let name = &*listener.name;
    let mut stopping = listener.watch.clone();
    let mut shortage = Shortage::default();
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
                shortage.eased(name);
                let tuned = tuning.covers(&acceptor, listener.keepalive());
                let refused = listener.admit(socket, peer, tuned);
                warned_full = warn_once(name, refused, warned_full);
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                listener.context.state.metrics.accept_errors.inc();
                sleep(shortage.felt(name, &error)).await;
            }
        }
    }
}

/// A time in which accepts fail, most often for want of descriptors. Near the
/// limit they fail and succeed by turns: that is one shortage, and one warning.
#[derive(Default)]
struct Shortage {
    back_off: Option<Duration>,
    last: Option<Instant>,
}

impl Shortage {
    /// An accept has failed: how long to wait before the next.
    fn felt(&mut self, listener: &str, error: &io::Error) -> Duration {
        if self.last.is_none() {
            tracing::warn!(listener, %error, "accept failed; backing off");
        }
        self.last = Some(Instant::now());
        let back_off = self.back_off.map_or(FIRST_BACK_OFF, |last| last * 2);
        *self.back_off.insert(back_off.min(LONGEST_BACK_OFF))
    }

    /// An accept has succeeded.
    fn eased(&mut self, listener: &str) {
        self.back_off = None;
        if self.last.is_some_and(|last| last.elapsed() > OVER) {
            self.last = None;
            tracing::info!(listener, "accepting again");
        }
    }
}

impl Listener {
    /// The kernel would reset those who wait when their socket is closed.
    async fn admit_waiting(self, socket: Listening, ended: oneshot::Receiver<()>) {
        // After that nobody else holds the socket.
        let _ = ended.await;
        while let Ok((stream, peer)) = socket.accept_now() {
            self.admit(stream, peer, false);
        }
    }

    /// The options of sockets, as they are now.
    fn keepalive(&self) -> Keepalive {
        self.context.state.snapshot().config.tcp.into()
    }

    /// Under which address a connection counts. Behind a proxy that says whose it
    /// is, under none until it has said so.
    fn counted(&self, peer: Peer) -> Option<IpAddr> {
        let snapshot = self.context.state.snapshot();
        let state = snapshot.came_by(&self.name);
        let is_told = state.is_some_and(|state| state.proxy_protocol.is_some());
        peer.ip().filter(|_| !is_told)
    }

    /// Starts the connection's task, or says why not. `tuned`: the socket has its
    /// options.
    fn admit(&self, socket: Socket, peer: Peer, tuned: bool) -> Option<Refused> {
        if let Err(shut) = self.ask(peer) {
            self.count(shut.label());
            tracing::debug!(listener = &*self.name, %peer, %shut, "connection refused");
            return None;
        }
        match self.context.limiter.admit(self.counted(peer)) {
            Ok(permit) => {
                let accepted = Accepted {
                    listener: Arc::clone(&self.name),
                    socket,
                    tuned,
                    peer,
                    permit,
                    context: Arc::clone(&self.context),
                    watch: self.watch.clone(),
                    listener_watch: self.listener_watch.clone(),
                };
                // Boxed: tokio moves a task's future about ten times, and this one is large.
                tokio::spawn(Box::pin(connection::serve(accepted)));
                None
            }
            Err(refused) => {
                self.count(refused.label());
                Some(refused)
            }
        }
    }

    /// Asks the rules of this moment's configuration. Behind a proxy that says whose
    /// the connection is, it is asked when that has been said.
    fn ask(&self, peer: Peer) -> Result<(), Shut> {
        let snapshot = self.context.state.snapshot();
        match snapshot.came_by(&self.name) {
            Some(listener) if listener.proxy_protocol.is_none() => listener
                .accept_rules
                .admit(peer.ip(), Instant::now().into_std()),
            // Its task will find that it is gone.
            Some(_) | None => Ok(()),
        }
    }

    fn count(&self, refusal: &'static str) {
        let counters = &self.context.state.metrics.connections_refused;
        counters.get(&metrics::Refused { refusal }).inc();
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
