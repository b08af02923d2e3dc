//! The task of one HTTP/2 connection: drives its frames, starts a task for each
//! request, and sees to its age, its pings and the stop.
//!
//! Invariant: when it ends, for whatever reason, every stream is told.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Request;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Http2;
use super::clocks::{Clocks, Due};
use super::exchange::{Terms, exchange};
use crate::drain::{Stage, Watch};
use crate::exchange::{Client, Refusal};
use crate::net::Transport;
use crate::net::http2::{Bounds, Calm, Chunk, Io, Ready, Stream};
use crate::server::connection::log_refusal;
use crate::server::entrance::Entrance;

pub(super) async fn serve(
    http: Http2,
    (transport, ahead): (Transport, Bytes),
    entrance: Entrance,
    (mut watch, mut listener): (Watch, Watch),
) {
    let limits = &http.limits;
    let calm = Arc::new(Calm::new(
        limits.max_control_frames,
        limits.max_early_resets,
    ));
    let bounds = Bounds {
        head: http.max_head,
        streams: limits.max_streams,
        window: limits.stream_window,
    };
    let io = Io::new(transport, ahead, bounds, Arc::clone(&calm));
    let handshake = tokio::select! {
        biased;
        () = watch.reached(Stage::Draining) => return,
        done = timeout(http.head_timeout, http.builder.handshake(io)) => done,
    };
    let Ok(shaken) = handshake else {
        let metrics = &entrance.context.state.metrics;
        return log_refusal(&entrance.client, metrics, &Refusal::RequestHeadTimeout);
    };
    let Ok(connection) = shaken else { return };
    let mut task = Task {
        frames: Frames::new(connection),
        clocks: Clocks::new(&http),
        terms: Arc::new(Terms {
            entrance,
            calm,
            patience: http.patience,
            max_headers: http.max_headers,
            elsewhere: Notify::new(),
        }),
    };
    let mut ending = watch.clone();
    tokio::select! {
        biased;
        () = ending.reached(Stage::Ending) => {}
        // The process stops, or an edit has removed the listener.
        () = task.run(async move { tokio::select! {
            () = watch.reached(Stage::Draining) => {}
            () = listener.reached(Stage::Draining) => {}
        } }) => {}
    }
}

/// For the last frames of a connection that is to end.
const GOODBYE: Duration = Duration::from_secs(1);

struct Task {
    frames: Frames,
    clocks: Clocks,
    terms: Arc<Terms>,
}

/// What `h2` hands out for each request.
type Arrival = (Request<RecvStream>, SendResponse<Chunk>);

impl Task {
    /// Serves until the connection has ended; `stop` resolves when it is to take
    /// no new streams.
    async fn run(&mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut pings = self.frames.pings();
        let mut stopped = false;
        loop {
            let (calm, elsewhere) = (&self.terms.calm, &self.terms.elsewhere);
            tokio::select! {
                biased;
                () = &mut stop, if !stopped => {
                    stopped = true;
                    self.leave();
                }
                () = elsewhere.notified() => self.leave(),
                reason = poll_fn(|cx| calm.poll_lost(cx)) => {
                    log_end(&self.terms.entrance.client, reason);
                    return self.frames.end(reason).await;
                }
                () = answered(pings.as_mut()) => self.clocks.answered(),
                () = self.clocks.tick() => match self.clocks.look(self.frames.has_streams()) {
                    None => {}
                    Some(Due::Leave) => self.leave(),
                    Some(Due::End) => return self.frames.end(Reason::NO_ERROR).await,
                    Some(Due::Ping) => ping(pings.as_mut()),
                },
                arrival = poll_fn(|cx| self.frames.poll_next(cx)) => match arrival {
                    Some(Ok(arrival)) => self.begin(arrival),
                    Some(Err(error)) => {
                        let client = self.terms.entrance.client.peer;
                        tracing::debug!(%client, %error, "http/2 connection ended");
                        return;
                    }
                    None => return,
                },
            }
        }
    }

    /// Tells the client to take its next request elsewhere; streams live on.
    fn leave(&mut self) {
        self.frames.leave();
        self.clocks.leave();
    }

    fn begin(&mut self, (request, respond): Arrival) {
        self.clocks.note_busy();
        let (head, body) = request.into_parts();
        let stream = Stream::accepted(body, respond, &self.frames.ready);
        let request = Request::from_parts(head, ());
        tokio::spawn(exchange(Arc::clone(&self.terms), request, stream));
    }
}

fn ping(pings: Option<&mut PingPong>) {
    if let Some(pings) = pings {
        // It fails only while an older one is on its way.
        let _ = pings.send_ping(Ping::opaque());
    }
}

async fn answered(pings: Option<&mut PingPong>) {
    match pings {
        // An error means that the connection has ended, and shows itself there.
        Some(pings) => match poll_fn(|cx| pings.poll_pong(cx)).await {
            Ok(_) => {}
            Err(_) => pending().await,
        },
        None => pending().await,
    }
}

fn log_end(client: &Client, reason: Reason) {
    tracing::info!(
        listener = &*client.listener,
        client = %client.peer,
        reason = reason.description(),
        "http/2 connection ended for what its client does"
    );
}

/// The connection and the notes of its streams.
struct Frames {
    /// Gone once it has ended.
    connection: Option<Connection<Io, Chunk>>,
    ready: Arc<Ready>,
    /// Whether its streams have had their turn since it last had its own.
    waited: bool,
}

impl Frames {
    fn new(connection: Connection<Io, Chunk>) -> Self {
        Self {
            connection: Some(connection),
            ready: Arc::default(),
            waited: false,
        }
    }

    fn pings(&mut self) -> Option<PingPong> {
        self.connection.as_mut().and_then(Connection::ping_pong)
    }

    fn has_streams(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(Connection::has_streams)
    }

    /// GOAWAY; streams that have begun live on.
    fn leave(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.graceful_shutdown();
        }
    }

    /// GOAWAY, and the end of everything.
    async fn end(&mut self, reason: Reason) {
        if let Some(connection) = &mut self.connection {
            connection.abrupt_shutdown(reason);
        }
        let ended = async { while let Some(Ok(_)) = poll_fn(|cx| self.poll_next(cx)).await {} };
        // Whether or not the client hears it.
        let _ = timeout(GOODBYE, ended).await;
    }

    /// Moves all streams on, and is ready with the next request.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Arrival, h2::Error>>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(None);
        };
        if !self.waited {
            // The runtime runs a task that was just woken before all others. So
            // the first stream with something to send would have it sent alone;
            // let the others add theirs, for one record and one write.
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        self.ready.begin();
        let arrival = connection.poll_accept(cx);
        self.ready.settle(cx.waker());
        arrival
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // It tells its streams, and they tell who waits for them.
        self.connection = None;
        self.ready.settle(Waker::noop());
    }
}
