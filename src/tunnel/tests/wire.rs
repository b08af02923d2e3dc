//! A stream that behaves as badly as streams may: reads and writes of random
//! length, `Pending` at random, bytes that stay behind until flushed, stalls,
//! ends and resets.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The relay's end.
pub(super) struct Wire(Arc<Mutex<Inner>>);

/// The peer's end.
pub(super) struct Far(Arc<Mutex<Inner>>);

/// How bad it is.
#[derive(Clone, Debug)]
pub(super) struct Chaos {
    pub(super) seed: u64,
    /// Chance that a call is `Pending` for no reason.
    pub(super) pending: f64,
    /// Bytes read or written by one call, at most.
    pub(super) most: usize,
    /// Whether written bytes wait for a flush.
    pub(super) buffered: bool,
}

pub(super) struct Inner {
    chaos: Chaos,
    random: StdRng,
    coming: VecDeque<u8>,
    /// Everything the peer sent before it ended or broke.
    pub(super) sent: Vec<u8>,
    pub(super) ended: bool,
    pub(super) broken: Option<io::ErrorKind>,
    unflushed: Vec<u8>,
    /// Everything that has reached the peer.
    pub(super) seen: Vec<u8>,
    /// Calls that wrote something.
    pub(super) writes: usize,
    stalled: bool,
    /// The relay has ended its stream.
    pub(super) shut: bool,
    pub(super) dropped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Chaos {
    /// None at all.
    pub(super) fn none() -> Self {
        Self {
            seed: 0,
            pending: 0.0,
            most: usize::MAX,
            buffered: false,
        }
    }
}

pub(super) fn wire(chaos: Chaos) -> (Wire, Far) {
    let inner = Arc::new(Mutex::new(Inner {
        random: StdRng::seed_from_u64(chaos.seed),
        chaos,
        coming: VecDeque::new(),
        sent: Vec::new(),
        ended: false,
        broken: None,
        unflushed: Vec::new(),
        seen: Vec::new(),
        writes: 0,
        stalled: false,
        shut: false,
        dropped: false,
        reader: None,
        writer: None,
    }));
    (Wire(Arc::clone(&inner)), Far(inner))
}

impl Far {
    pub(super) fn look(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(super) fn send(&self, bytes: &[u8]) {
        let mut inner = self.look();
        if !inner.ended && inner.broken.is_none() {
            inner.coming.extend(bytes);
            inner.sent.extend(bytes);
        }
        inner.wake();
    }

    pub(super) fn end(&self) {
        let mut inner = self.look();
        inner.ended = true;
        inner.wake();
    }

    /// Reads fail with `how` once all that was sent is read; writes fail at once.
    pub(super) fn break_off(&self, how: io::ErrorKind) {
        let mut inner = self.look();
        inner.broken = Some(how);
        inner.wake();
    }

    pub(super) fn stall(&self, stalled: bool) {
        let mut inner = self.look();
        inner.stalled = stalled;
        inner.wake();
    }
}

impl Inner {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }

    fn hesitates(&mut self, cx: &Context<'_>) -> bool {
        let pending = self.chaos.pending;
        let hesitates = self.random.random_bool(pending);
        if hesitates {
            cx.waker().wake_by_ref();
        }
        hesitates
    }

    fn some(&mut self, most: usize) -> usize {
        let most = most.min(self.chaos.most);
        self.random.random_range(1..=most)
    }

    /// Whether a write or flush must wait, or has failed.
    fn obstacle(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        assert!(!self.shut, "written to after its end");
        if self.broken.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.stalled {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.hesitates(cx) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn deliver(&mut self) {
        let bytes = std::mem::take(&mut self.unflushed);
        self.seen.extend(bytes);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock().unwrap();
        if inner.hesitates(cx) {
            return Poll::Pending;
        }
        if !inner.coming.is_empty() {
            let most = inner.coming.len().min(buffer.remaining());
            let count = inner.some(most);
            buffer.put_slice(&inner.coming.drain(..count).collect::<Vec<_>>());
            return Poll::Ready(Ok(()));
        }
        if let Some(how) = inner.broken {
            return Poll::Ready(Err(how.into()));
        }
        if inner.ended {
            return Poll::Ready(Ok(()));
        }
        inner.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!bytes.is_empty());
        let mut inner = self.0.lock().unwrap();
        std::task::ready!(inner.obstacle(cx))?;
        let count = inner.some(bytes.len());
        inner.writes += 1;
        inner.unflushed.extend(&bytes[..count]);
        if !inner.chaos.buffered || inner.unflushed.len() > 64 {
            inner.deliver();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock().unwrap();
        std::task::ready!(inner.obstacle(cx))?;
        inner.deliver();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock().unwrap();
        std::task::ready!(inner.obstacle(cx))?;
        inner.deliver();
        inner.shut = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.0.lock().unwrap().dropped = true;
    }
}
