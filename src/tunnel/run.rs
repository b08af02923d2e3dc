//! The way into a tunnel: chooses what relays it.
//!
//! Plain sockets go to the engine, if one runs; whatever has TLS on a side
//! stays in tokio. Both keep the same rules.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::engine::{Adoption, OnEnd};
use super::outcome::{Cause, Side};
use super::registry::Ticket;
use super::relay::{Leg, Relay, relay};
use crate::net::Transport;

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

fn spawn(client: Leg<Transport>, backend: Leg<Transport>, ticket: Ticket, on_end: OnEnd) {
    tokio::spawn(Task {
        relay: relay(client, backend, ticket),
        on_end: Some(on_end),
    });
}

/// A relay and what follows it. Written by hand: an `async` block would hold
/// the relay twice.
struct Task {
    relay: Relay<Transport, Transport>,
    on_end: Option<OnEnd>,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let outcome = ready!(Pin::new(&mut self.relay).poll(cx));
        if let Some(on_end) = self.on_end.take() {
            on_end(outcome);
        }
        Poll::Ready(())
    }
}
