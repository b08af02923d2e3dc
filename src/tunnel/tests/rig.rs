//! One tunnel between two real sockets, under either engine, turned by hand in
//! the test's thread: no other thread, and no time but the registry's clock.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::mpsc;

use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsStream;

use super::super::engine::Adoption;
use super::super::engine::testing::{Ends, Worker};
use super::super::run::Severing;
use super::*;
use crate::net::{Socket, Transport, http2};

/// What relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engines {
    Tokio,
    /// The same, with TLS on both sides.
    Tls,
    /// The same, with a stream of HTTP/2 on the client's.
    Http2,
    /// The engine of its own.
    Own,
}

pub(super) struct Rig {
    pub(super) registry: Arc<Registry>,
    pub(super) tunnel: Arc<Tunnel>,
    driver: Driver,
    outcomes: mpsc::Receiver<Outcome>,
    outcome: Cell<Option<Outcome>>,
}

enum Driver {
    Tokio(Rc<Runtime>),
    Own(Box<Worker>, Ends),
}

/// A near end: what the tunnel gets.
pub(super) enum Near {
    Unix(std::os::unix::net::UnixStream),
    Tcp(std::net::TcpStream),
    /// Known to that runtime.
    Tls(Box<TlsStream<Socket>>, Rc<Runtime>),
    Http2 {
        tunnel: http2::Tunnel,
        /// Of the connection, if it is TCP.
        socket: Option<std::net::TcpStream>,
        runtime: Rc<Runtime>,
    },
}

/// One in which the driver is asked for events at every turn. Its time is for
/// streams of HTTP/2, whose patience no life outlasts.
pub(super) fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().event_interval(1).build().unwrap()
}

/// Has its tasks do what they can do now, or a part of it.
pub(super) fn turn(runtime: &Runtime) {
    runtime.block_on(async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    });
}

impl Rig {
    pub(super) fn new(
        engine: Engines,
        options: &Options,
        client: Leg<Near>,
        backend: Leg<Near>,
    ) -> Self {
        let registry = Registry::new();
        let ticket = registry.open(facts(1), options);
        let tunnel = Arc::clone(ticket.tunnel());
        let (ended, outcomes) = mpsc::channel();
        let on_end = Box::new(move |outcome| ended.send(outcome).unwrap());
        let driver = match engine {
            Engines::Own => {
                let (worker, ends) = Worker::by_hand(&registry);
                let adoption = Adoption {
                    client: map(client, Near::into_fd),
                    backend: map(backend, Near::into_fd),
                    ticket,
                    on_end,
                };
                assert!(worker.door().adopt(adoption).is_ok());
                Driver::Own(Box::new(worker), ends)
            }
            Engines::Tokio | Engines::Tls | Engines::Http2 => {
                let runtime = match &client.stream {
                    Near::Tls(_, runtime) | Near::Http2 { runtime, .. } => Rc::clone(runtime),
                    _ => Rc::new(runtime()),
                };
                let guard = runtime.enter();
                let relay = Relay::<_, _, Severing>::new(
                    map(client, Near::into_transport),
                    map(backend, Near::into_transport),
                    ticket,
                );
                drop(guard);
                runtime.spawn(async move { on_end(relay.await) });
                Driver::Tokio(runtime)
            }
        };
        Self {
            registry,
            tunnel,
            driver,
            outcomes,
            outcome: Cell::new(None),
        }
    }

    /// Has the tunnel do what it can do now, or a part of it.
    pub(super) fn turn(&mut self) {
        match &mut self.driver {
            Driver::Own(worker, ends) => {
                worker.turn_once();
                ends.run();
            }
            Driver::Tokio(runtime) => turn(runtime),
        }
        if let Ok(outcome) = self.outcomes.try_recv() {
            self.outcome.set(Some(outcome));
        }
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outcome.get()
    }
}

fn map<T>(leg: Leg<Near>, into: impl FnOnce(Near) -> T) -> Leg<T> {
    Leg {
        stream: into(leg.stream),
        read_ahead: leg.read_ahead,
    }
}

impl Near {
    /// Another handle on it, if it is TCP.
    pub(super) fn another(&self) -> Option<std::net::TcpStream> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(stream) => Some(stream.try_clone().unwrap()),
            Self::Tls(stream, _) => match stream.get_ref().0 {
                Socket::Unix(_) => None,
                Socket::Tcp(stream) => Some(stream.as_fd().try_clone_to_owned().unwrap().into()),
            },
            Self::Http2 { socket, .. } => {
                let another = |stream: &std::net::TcpStream| stream.try_clone().unwrap();
                socket.as_ref().map(another)
            }
        }
    }

    fn into_fd(self) -> OwnedFd {
        match self {
            Self::Unix(stream) => stream.into(),
            Self::Tcp(stream) => stream.into(),
            Self::Tls(..) | Self::Http2 { .. } => unreachable!("it stays in tokio"),
        }
    }

    fn into_transport(self) -> Transport {
        match self {
            Self::Tls(stream, _) => Transport::Tls(stream),
            Self::Http2 { tunnel, .. } => Transport::Http2(tunnel),
            plain => Transport::Plain(plain.into_tokio()),
        }
    }

    pub(super) fn into_tokio(self) -> Socket {
        match self {
            Self::Unix(stream) => Socket::Unix(UnixStream::from_std(stream).unwrap()),
            Self::Tcp(stream) => Socket::Tcp(TcpStream::from_std(stream).unwrap()),
            Self::Tls(..) | Self::Http2 { .. } => unreachable!("it is there already"),
        }
    }
}
