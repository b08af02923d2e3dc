//! Gives up a peer on a Unix socket that takes no bytes.
//!
//! On TCP the kernel does it (`TCP_USER_TIMEOUT`); a Unix socket has no such
//! thing. Only what hyper writes is bounded here: tunnels have clocks of their
//! own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::{Socket, Transport};

/// How long a write may wait.
#[derive(Debug, Default)]
pub(super) struct Patience {
    limit: Option<Duration>,
    // While a write waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(super) fn with(transport: &Transport, limit: Duration) -> Self {
        let is_unix = matches!(transport.socket(), Some(Socket::Unix(_)));
        Self {
            limit: is_unix.then_some(limit),
            timer: None,
        }
    }

    /// The result of a write, or an error where it has waited too long.
    pub(super) fn bound<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}
