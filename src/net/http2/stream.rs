//! One stream, shared by whoever reads it, writes it and waits for its end.
//!
//! Received bytes leave `h2` as soon as the connection's task sees them and wait
//! here, close together; their flow-control credit is given back when they are
//! taken. So a stream that nobody reads costs its window and no more, whatever
//! the size of its frames (`h2` charges small unread frames to the connection
//! and ends it over them).
//!
//! Invariant: every wait of the two sides goes through the one waker that the
//! connection's task listens to, because `h2` keeps only one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use tokio::io::ReadBuf;

use super::Broken;
use super::chunk::Chunk;
use super::held::Held;
use super::ready::{Ready, Ticket};

/// Most bytes that one write hands to `h2`.
const MOST_AT_ONCE: usize = 16 * 1024;

/// A stream of an HTTP/2 connection. Dropping the last handle ends it: with
/// NO_ERROR if everything was sent, else with CANCEL.
#[derive(Debug)]
pub struct Stream {
    halves: Mutex<Halves>,
    ticket: Arc<Ticket>,
    /// The waker that `h2` is given: the ticket.
    waker: Waker,
}

#[derive(Debug)]
struct Halves {
    /// `None` once the stream was cut.
    recv: Option<RecvStream>,
    send: Sending,
    held: Held,
    /// The peer has sent everything.
    ended: bool,
    trailers: Option<Box<HeaderMap>>,
    /// What has come before it can still be taken.
    broken: Option<Broken>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
enum Sending {
    Head(SendResponse<Chunk>),
    Body(SendStream<Chunk>),
    /// The stream was cut.
    Nothing,
}

impl Stream {
    /// A request's stream, as `h2` hands it out.
    pub fn accepted(
        recv: RecvStream,
        respond: SendResponse<Chunk>,
        ready: &Arc<Ready>,
    ) -> Arc<Self> {
        Self::new(recv, Sending::Head(respond), ready)
    }

    fn new(recv: RecvStream, send: Sending, ready: &Arc<Ready>) -> Arc<Self> {
        let stream = Arc::new_cyclic(|this| {
            let ticket = Ticket::new(this.clone(), Arc::clone(ready));
            Self {
                halves: Mutex::new(Halves {
                    recv: Some(recv),
                    send,
                    held: Held::default(),
                    ended: false,
                    trailers: None,
                    broken: None,
                    reader: None,
                    writer: None,
                }),
                waker: Arc::clone(&ticket).into(),
                ticket,
            }
        });
        stream.look();
        stream
    }

    /// A stream of our own, once it was answered.
    pub fn answered(recv: RecvStream, send: SendStream<Chunk>, ready: &Arc<Ready>) -> Arc<Self> {
        Self::new(recv, Sending::Body(send), ready)
    }

    /// Takes what has come out of `h2`, and wakes who waits for it.
    pub(super) fn look(&self) {
        let mut halves = self.halves();
        halves.receive(&self.waker);
        let waiting = [halves.reader.take(), halves.writer.take()];
        drop(halves);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    // Receiving.

    /// Whether the peer has sent everything.
    pub fn is_ended(&self) -> bool {
        self.halves().ended
    }

    /// Whether the peer has sent everything and all of it has been taken.
    pub fn is_drained(&self) -> bool {
        let halves = self.halves();
        halves.ended && halves.held.is_empty() && halves.trailers.is_none()
    }

    /// Some of what has come; `None` at the end.
    pub fn poll_take(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let mut halves = self.halves();
        Poll::Ready(Some(match ready!(halves.poll_held(cx)) {
            None => return Poll::Ready(None),
            Some(Err(broken)) => Err(broken),
            Some(Ok(())) => {
                let bytes = halves.held.take();
                halves.release(bytes.len());
                Ok(bytes)
            }
        }))
    }

    /// Fills `space` with what has come; leaves it as it is at the end.
    pub fn poll_fill(&self, cx: &Context<'_>, space: &mut ReadBuf<'_>) -> Poll<Result<(), Broken>> {
        let mut halves = self.halves();
        if let Some(more) = ready!(halves.poll_held(cx)) {
            more?;
            let count = halves.held.fill(space);
            halves.release(count);
        }
        Poll::Ready(Ok(()))
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&self) -> Option<HeaderMap> {
        self.halves().trailers.take().map(|trailers| *trailers)
    }

    /// Ready when the stream is broken, whatever may still be taken.
    pub fn poll_broken(&self, cx: &Context<'_>) -> Poll<Broken> {
        let mut halves = self.halves();
        if let Some(broken) = halves.broken {
            return Poll::Ready(broken);
        }
        halves.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until the peer has sent everything, or the stream is broken. To be
    /// called while nobody reads.
    pub async fn ended(&self) {
        std::future::poll_fn(|cx| {
            let mut halves = self.halves();
            if halves.ended || halves.broken.is_some() {
                return Poll::Ready(());
            }
            halves.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits for [`Stream::poll_broken`].
    pub async fn broken(&self) -> Broken {
        std::future::poll_fn(|cx| self.poll_broken(cx)).await
    }

    // Sending.

    /// Sends an interim response (RFC 9110 section 15.2), if there is still one
    /// to be had.
    pub fn inform(&self, head: Response<()>) {
        if let Sending::Head(respond) = &mut self.halves().send {
            // Interim responses are optional; a stream that is gone says so
            // elsewhere.
            let _ = respond.send_informational(head);
        }
    }

    /// Sends the response's head; `last`: nothing follows it.
    ///
    /// # Errors
    /// If the stream is broken, or the head was sent before.
    pub fn respond(&self, head: Response<()>, last: bool) -> Result<(), Broken> {
        let mut halves = self.halves();
        if let Sending::Head(respond) = &mut halves.send {
            let body = respond.send_response(head, last)?;
            halves.send = Sending::Body(body);
        }
        Ok(())
    }

    /// Sends as many of `wanted` bytes as the peer's window and the bound of
    /// what may wait here allow; `make` is asked for them.
    pub fn poll_send(
        &self,
        cx: &Context<'_>,
        wanted: usize,
        make: impl FnOnce(usize) -> Bytes,
    ) -> Poll<Result<usize, Broken>> {
        let mut halves = self.halves();
        if let Some(broken) = halves.broken {
            return Poll::Ready(Err(broken));
        }
        let Sending::Body(body) = &mut halves.send else {
            return Poll::Ready(Err(Broken::Reset(Reason::INTERNAL_ERROR)));
        };
        let wanted = wanted.min(MOST_AT_ONCE);
        body.reserve_capacity(wanted);
        while body.capacity() == 0 {
            // It speaks of changes only, hence the loop around it.
            match body.poll_capacity(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(Some(more)) => more?,
                Poll::Ready(None) => return Poll::Ready(Err(Broken::Reset(Reason::STREAM_CLOSED))),
                Poll::Pending => {
                    halves.writer = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            };
        }
        let count = body.capacity().min(wanted);
        body.send_data(Chunk::new(make(count), &self.ticket), false)?;
        Poll::Ready(Ok(count))
    }

    /// Ends our side (END_STREAM).
    ///
    /// # Errors
    /// If the stream is broken.
    pub fn finish(&self, trailers: Option<HeaderMap>) -> Result<(), Broken> {
        let mut halves = self.halves();
        if let Sending::Body(body) = &mut halves.send {
            match trailers {
                Some(trailers) => body.send_trailers(trailers)?,
                None => body.send_data(Chunk::new(Bytes::new(), &self.ticket), true)?,
            }
        }
        Ok(())
    }

    /// Resets the stream; what waits to be sent is dropped.
    pub fn reset(&self, reason: Reason) {
        match &mut self.halves().send {
            Sending::Head(respond) => respond.send_reset(reason),
            Sending::Body(body) => body.send_reset(reason),
            Sending::Nothing => {}
        }
    }

    /// Ready when everything has been given to the connection, or the stream is
    /// broken.
    pub fn poll_sent(&self, cx: &Context<'_>) -> Poll<()> {
        let mut halves = self.halves();
        if halves.broken.is_some() || !self.ticket.awaits_sending() {
            return Poll::Ready(());
        }
        halves.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits for [`Stream::poll_sent`].
    pub async fn sent(&self) {
        std::future::poll_fn(|cx| self.poll_sent(cx)).await;
    }

    /// Resets the stream with CANCEL, and drops what waits to be sent.
    pub fn cut(&self) {
        let mut halves = self.halves();
        let recv = halves.recv.take();
        let send = std::mem::replace(&mut halves.send, Sending::Nothing);
        halves.broken.get_or_insert(Broken::Reset(Reason::CANCEL));
        drop(halves);
        // `h2` does it when nothing refers to the stream any more.
        drop((recv, send));
        self.look();
    }

    fn halves(&self) -> MutexGuard<'_, Halves> {
        // Every field is set whole, so they are whole after any panic.
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Halves {
    /// Takes everything out of `h2` that is there, and asks it to say when
    /// there is more.
    fn receive(&mut self, waker: &Waker) {
        let cx = &mut Context::from_waker(waker);
        let Some(recv) = &mut self.recv else { return };
        while !self.ended && self.broken.is_none() {
            match recv.poll_data(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(bytes))) => self.held.put(&bytes),
                Poll::Ready(Some(Err(error))) => self.broken = Some(error.into()),
                Poll::Ready(None) => match recv.poll_trailers(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(trailers)) => {
                        self.ended = true;
                        self.trailers = trailers.map(Box::new);
                    }
                    Poll::Ready(Err(error)) => self.broken = Some(error.into()),
                },
            }
        }
        if self.broken.is_none() {
            // The one thing that comes after the end.
            let reset = match &mut self.send {
                Sending::Head(respond) => respond.poll_reset(cx),
                Sending::Body(body) => body.poll_reset(cx),
                Sending::Nothing => return,
            };
            self.broken = match reset {
                Poll::Pending => None,
                Poll::Ready(Ok(reason)) => Some(Broken::Reset(reason)),
                Poll::Ready(Err(error)) => Some(error.into()),
            };
        }
    }

    /// Ready when something is held, or with `None` at the end.
    fn poll_held(&mut self, cx: &Context<'_>) -> Poll<Option<Result<(), Broken>>> {
        if !self.held.is_empty() {
            return Poll::Ready(Some(Ok(())));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(broken) = self.broken {
            return Poll::Ready(Some(Err(broken)));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Gives the peer its credit back.
    fn release(&mut self, count: usize) {
        if let Some(recv) = &mut self.recv {
            // It fails only for more than was received.
            let _ = recv.flow_control().release_capacity(count);
        }
    }
}
