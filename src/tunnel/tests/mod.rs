//! Tests of whole tunnels.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::config::{Clocks, PingSide, Pings};

use super::*;

mod actor;
mod carried;
mod ends;
mod engine;
mod ground;
mod live;
mod lives;
mod model;
mod pages;
mod pings;
mod points;
mod pressure;
mod quotas;
mod races;
mod rig;
mod sealed;
mod shares;
mod signs;
mod sizes;
mod sockets;
mod strainer;
mod tls;
mod wire;

/// What pings of longhaul's own carry here.
pub(super) const PAYLOAD: &[u8; 8] = b"longhaul";

/// A registry whose clock runs.
pub(super) fn registry() -> Arc<Registry> {
    let registry = Registry::new();
    tokio::spawn(Arc::clone(&registry).sweep_forever());
    registry
}

pub(super) fn facts(id: u64) -> Facts {
    let labels = Labels {
        listener: "public".into(),
        http: "1.1",
        route: "chat".into(),
        upstream: "chat".into(),
        backend: format!("chat-{}", id % 2).into(),
    };
    Facts {
        id,
        labels: Arc::new(labels),
        key: 0,
        opening: Opening::default(),
    }
}

/// Half close after 30 s, close within 5 s, linger for 1 s; the rest is off.
pub(super) fn options(framing: Framing) -> Options {
    Options {
        expiry: None,
        messages: None,
        framing,
        clocks: Clocks {
            pings: None,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: None,
            half_close_timeout: Duration::from_secs(30),
            max_lifetime: None,
            max_lifetime_jitter: 0.0,
        },
        close: Close {
            codes: codes(Some(1012)),
            timeout: Duration::from_secs(5),
        },
    }
}

/// Those of a `[drain]` that says no more than `close_code`.
pub(super) fn codes(code: Option<u16>) -> Codes {
    Codes {
        max_lifetime: code,
        idle_timeout: code.map(|_| 1001),
        client_hangs: code.map(|_| 1001),
        backend_hangs: code.map(|_| 1011),
    }
}

/// Ticks of silence before a ping, and for a sign of life after it.
pub(super) const INTERVAL: u32 = 30;
pub(super) const TIMEOUT: u32 = 10;

/// The same with pings.
pub(super) fn with_pings(side: PingSide) -> Options {
    let mut options = options(Framing::WebSocket);
    options.clocks.pings = Some(Pings {
        interval: Duration::from_secs(3),
        timeout: Duration::from_secs(1),
        side,
    });
    options
}

pub(super) fn drain(code: Option<u16>) -> CloseOrder {
    CloseOrder {
        cause: Cause::Drain,
        code,
        reason: Cow::Borrowed("bye"),
    }
}

pub(super) fn leg<S>(stream: S) -> Leg<S> {
    Leg {
        stream,
        read_ahead: Bytes::new(),
    }
}

/// Starts a tunnel in a task of its own.
pub(super) fn start<C, B>(
    registry: &Arc<Registry>,
    options: &Options,
    client: C,
    backend: B,
) -> (Arc<Tunnel>, JoinHandle<Outcome>)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ticket = registry.open(facts(1), options);
    let tunnel = Arc::clone(ticket.tunnel());
    (
        tunnel,
        tokio::spawn(relay(leg(client), leg(backend), ticket)),
    )
}
