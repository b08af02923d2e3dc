//! How a tunnel ended: who began it, why, and what had passed by then.
//!
//! Ends are not errors, and nothing here is logged or counted; the words are
//! those of the access log.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::config::Ending;

/// One of the three that can end a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Client,
    Backend,
    /// A clock, a drain or an operator.
    Longhaul,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A peer sent a Close frame, with this status code.
    Close(Option<u16>),
    /// A peer ended its stream.
    Eof,
    /// A peer ended its stream without TLS's `close_notify`, as many do.
    TlsEof,
    /// A peer's connection broke.
    Reset,
    /// The HTTP/2 connection ended that a peer's stream was on.
    ConnectionLost,
    /// A peer's kernel no longer answered (keepalive, `TCP_USER_TIMEOUT`).
    PeerTimeout,
    /// A peer's kernel may have answered, its program did not (`ping_timeout`).
    PingTimeout,
    /// A peer began a frame, or a message, that is larger than `message_limits`
    /// allow.
    MaxFrame,
    MaxMessage,
    /// A peer sent more messages, or bytes, than they allow in that time.
    MessageRate,
    ByteRate,
    /// A peer sent the header of a frame that cannot be, where its messages are
    /// limited.
    MalformedFrame,
    /// A peer sent what is not TLS.
    TlsError,
    /// No byte from either side for `idle_timeout`.
    IdleTimeout,
    /// One side had ended, with a Close frame or its stream, and the other
    /// did not follow within `half_close_timeout`.
    HalfCloseTimeout,
    MaxLifetime,
    /// What the client was granted has ended (`X-Longhaul-Expires`).
    Expired,
    /// The process stops, or a person drains a backend.
    Drain,
    /// An edit took the backend away (`on_removed = "drain"`).
    Removed,
    /// Its backend went down (`on_unhealthy = "drain"`).
    Unhealthy,
    /// A person closed this tunnel.
    Operator,
    /// Its backend had more than its share of the tunnels.
    Rebalance,
}

/// What is left to say once both sides are shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who sent the first Close frame, or else the first end of stream or
    /// reset; longhaul, when it ordered the end before any Close.
    pub ended_by: Side,
    pub cause: Cause,
    /// From open until both sides were shut.
    pub duration: Duration,
    /// Bytes from the client that were passed on.
    pub bytes_in: u64,
    /// Bytes from the backend that were passed on.
    pub bytes_out: u64,
    /// Data messages from the client; 0 for protocols without frames.
    pub messages_in: u64,
    /// Data messages from the backend.
    pub messages_out: u64,
    /// The status code of the client's Close frame, passed on or not.
    pub client_close_code: Option<u16>,
    /// The status code of the backend's Close frame, passed on or not.
    pub backend_close_code: Option<u16>,
    /// The client has sent a frame header that is impossible: whoever has to read
    /// on from there cannot.
    pub client_unreadable: bool,
}

impl Cause {
    pub(super) fn of_ending(ending: Ending) -> Self {
        match ending {
            // One word in the log: the process says itself that it stops.
            Ending::Stop | Ending::Drain => Self::Drain,
            Ending::Removed => Self::Removed,
            Ending::Unhealthy => Self::Unhealthy,
            Ending::Rebalance => Self::Rebalance,
            Ending::Operator => Self::Operator,
            Ending::MaxLifetime => Self::MaxLifetime,
            Ending::IdleTimeout => Self::IdleTimeout,
            Ending::PingTimeout => Self::PingTimeout,
        }
    }

    /// What a failed read or write says about its peer.
    pub(super) fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            // rustls: the stream ended without close_notify.
            io::ErrorKind::UnexpectedEof => Self::TlsEof,
            // Behind a gateway that has noticed, the kernel says so instead of
            // that its user timeout has passed.
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => Self::PeerTimeout,
            io::ErrorKind::InvalidData => Self::TlsError,
            io::ErrorKind::ConnectionAborted => Self::ConnectionLost,
            _ => Self::Reset,
        }
    }

    /// Whether a peer has sent more than it may.
    pub(super) fn is_breach(&self) -> bool {
        matches!(
            self,
            Self::MaxFrame
                | Self::MaxMessage
                | Self::MessageRate
                | Self::ByteRate
                | Self::MalformedFrame
        )
    }

    /// The word without its number, for a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Close(_) => "close",
            Self::Eof => "eof",
            Self::TlsEof => "tls_eof",
            Self::Reset => "reset",
            Self::ConnectionLost => "connection_lost",
            Self::PeerTimeout => "peer_timeout",
            Self::PingTimeout => "ping_timeout",
            Self::MaxFrame => "max_frame",
            Self::MaxMessage => "max_message",
            Self::MessageRate => "message_rate",
            Self::ByteRate => "byte_rate",
            Self::MalformedFrame => "malformed_frame",
            Self::TlsError => "tls_error",
            Self::IdleTimeout => "idle_timeout",
            Self::HalfCloseTimeout => "half_close_timeout",
            Self::MaxLifetime => "max_lifetime",
            Self::Expired => "expired",
            Self::Drain => "drain",
            Self::Removed => "removed",
            Self::Unhealthy => "unhealthy",
            Self::Operator => "operator",
            Self::Rebalance => "rebalance",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Close(Some(code)) => write!(f, "close {code}"),
            _ => f.write_str(self.label()),
        }
    }
}

impl Side {
    /// The word of the access log.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Longhaul => "longhaul",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
