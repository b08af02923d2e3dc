//! How a stream broke, in the words of the rest of longhaul.

use std::io;

use h2::Reason;

/// Why nothing more can pass on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// RST_STREAM, from either side (RFC 9113 section 6.4).
    #[error("the stream was reset ({0})")]
    Reset(Reason),
    /// The connection that the stream was on ended.
    #[error("the http/2 connection ended")]
    Lost,
    /// The kernel gave up the peer of that connection.
    #[error("the peer of the http/2 connection no longer answers")]
    Unanswered,
    /// The peer keeps its window closed.
    #[error("the peer has opened no window for too long")]
    Stalled,
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        if error.is_reset() {
            return Self::Reset(error.reason().unwrap_or(Reason::INTERNAL_ERROR));
        }
        match error.get_io().map(io::Error::kind) {
            Some(
                io::ErrorKind::TimedOut
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable,
            ) => Self::Unanswered,
            _ => Self::Lost,
        }
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        let kind = match broken {
            Broken::Reset(_) => io::ErrorKind::ConnectionReset,
            // No socket says this of a connection that was once open.
            Broken::Lost => io::ErrorKind::ConnectionAborted,
            Broken::Unanswered | Broken::Stalled => io::ErrorKind::TimedOut,
        };
        Self::new(kind, broken)
    }
}
