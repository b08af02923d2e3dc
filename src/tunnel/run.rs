//! The way into a tunnel: chooses what relays it.
//!
//! Plain sockets go to the engine, if one runs; whatever has TLS on a side
//! stays in tokio. Both keep the same rules.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;

use super::bulk::{Bulk, Moved};
use super::engine::{Adoption, OnEnd};
use super::outcome::{Cause, Side};
use super::registry::Ticket;
use super::relay::{Leg, Relay};
use crate::net::{Transport, reset_when_closed};

/// Relays both sides, from the next byte on, and calls `on_end` with how it
/// ended. It returns at once; what has to live as long as the tunnel goes into
/// `on_end`.
///
/// To be called in a tokio runtime.
pub fn run(client: Leg<Transport>, backend: Leg<Transport>, ticket: Ticket, on_end: OnEnd) {
    let Some(engine) = ticket.engine() else {
        return spawn(client, backend, ticket, on_end);
    };
    match (client.stream, backend.stream) {
        (Transport::Plain(client_socket), Transport::Plain(backend_socket)) => {
            let (Ok(client_fd), Ok(backend_fd)) =
                (client_socket.into_fd(), backend_socket.into_fd())
            else {
                // Only a descriptor that is not one fails, and none is left.
                return on_end(ticket.tunnel().outcome(Side::Longhaul, Cause::Reset));
            };
            let adopted = engine.adopt(Adoption {
                client: Leg {
                    stream: client_fd,
                    read_ahead: client.read_ahead,
                },
                backend: Leg {
                    stream: backend_fd,
                    read_ahead: backend.read_ahead,
                },
                ticket,
                on_end,
            });
            if let Err(stopping) = adopted {
                let Adoption { ticket, on_end, .. } = *stopping;
                on_end(ticket.tunnel().outcome(Side::Longhaul, Cause::Drain));
            }
        }
        (client_stream, backend_stream) => spawn(
            Leg {
                stream: client_stream,
                read_ahead: client.read_ahead,
            },
            Leg {
                stream: backend_stream,
                read_ahead: backend.read_ahead,
            },
            ticket,
            on_end,
        ),
    }
}

/// In the relays' runtime, if there is one and both sides can go there: on the
/// threads of connections a flood of strangers would hold the tunnel up.
fn spawn(mut client: Leg<Transport>, mut backend: Leg<Transport>, ticket: Ticket, on_end: OnEnd) {
    let relays = ticket.relays().cloned();
    let sides = [&mut client.stream, &mut backend.stream];
    let runtime = match relays {
        Some(relays) if sides.iter().all(|side| side.socket().is_some()) => {
            let _entered = relays.enter();
            for side in sides {
                if let Err(error) = side.follow() {
                    // It stays where it was: slower, and whole.
                    tracing::debug!(%error, "a socket keeps its runtime");
                }
            }
            relays
        }
        // A stream of HTTP/2 is where its connection is.
        _ => Handle::current(),
    };
    runtime.spawn(Task {
        relay: Some(Relay::new(client, backend, ticket)),
        on_end: Some(on_end),
    });
}

/// Everything goes through the scratch buffer, and a reset is passed on where
/// the other side knows more than one end.
pub(super) struct Severing;

impl Bulk<Transport, Transport> for Severing {
    fn poll_move(_: &mut Context<'_>, _: &mut Transport, _: &mut Transport, _: u64) -> Moved {
        Moved::No
    }

    fn progressed(_: &mut Transport) -> bool {
        false
    }

    fn flush(cx: &mut Context<'_>, sink: &mut Transport) -> (Poll<io::Result<()>>, bool) {
        sink.flush_some(cx)
    }

    fn stirs(source: &mut Transport) -> bool {
        source.stirs()
    }

    fn press(sink: &mut Transport, rest: &[u8]) -> io::Result<Option<usize>> {
        sink.press(rest)
    }

    fn sever(sink: &mut Transport) {
        sink.sever();
    }

    fn forsake(sink: &mut Transport) {
        if let Some(socket) = sink.socket() {
            reset_when_closed(socket);
        }
    }
}

/// A relay and what follows it. Written by hand: an `async` block would hold
/// the relay twice.
struct Task {
    /// `None` after the end: then the registry has it no more.
    relay: Option<Relay<Transport, Transport, Severing>>,
    on_end: Option<OnEnd>,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(relay) = &mut self.relay else {
            return Poll::Ready(());
        };
        let outcome = ready!(Pin::new(relay).poll(cx));
        self.relay = None;
        if let Some(on_end) = self.on_end.take() {
            on_end(outcome);
        }
        Poll::Ready(())
    }
}
