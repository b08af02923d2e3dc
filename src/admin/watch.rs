//! `/watch`: the WebSocket on which the dashboard is told every second what is.
//!
//! It only tells; what a watcher does it asks for in requests of its own.
//!
//! Invariants: no more than [`MOST`] watch at once; one that does not take what it
//! is told, or gives no sign of life, is let go; one that is slow is told the
//! newest next and nothing of what it has missed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::access::Access;
use super::desk::Desk;
use super::fields::Wrong;
use super::person::Peer;
use crate::ws::handshake::{check_request, complete};

pub(super) const PATH: &str = "/watch";
/// What a watcher says it understands.
const SUBPROTOCOL: &str = "longhaul.watch";
/// Watchers at once.
pub(super) const MOST: usize = 16;
const EVERY: Duration = Duration::from_secs(1);
/// For a message to be taken.
const TAKING: Duration = Duration::from_secs(10);
/// Between pings; then too it is looked whether they still may watch.
const PING: Duration = Duration::from_secs(15);
/// Without a sign of life.
const SILENCE: Duration = Duration::from_secs(45);
/// Watchers have nothing to say.
const MOST_HEARD: usize = 1024;
const MOST_UNTAKEN: usize = 16 * 1024 * 1024;

/// Who watches, and by what right.
pub(super) struct Watcher {
    pub(super) desk: Arc<Desk>,
    pub(super) access: Arc<Access>,
    pub(super) peer: Peer,
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The watcher is to be let go.
struct Gone;

impl Watcher {
    /// Agrees to a handshake, and tells from then on in a task of its own.
    ///
    /// # Errors
    /// If it is none, or there are too many.
    pub(super) fn begin(
        self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Wrong> {
        let offer = check_request(request.method(), request.version(), request.headers());
        let offer = offer.map_err(|mistake| Wrong {
            status: mistake.status(),
            message: mistake.to_string(),
        })?;
        if !offer.subprotocols().any(|it| it == SUBPROTOCOL) {
            let message = format!("needed: the subprotocol {SUBPROTOCOL}");
            return Err(Wrong::bad(message));
        }
        let place = Arc::clone(&self.desk.watchers).try_acquire_owned();
        let place = place.map_err(|_| Wrong {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: format!("{MOST} watch, which is all that may at once"),
        })?;
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, _) = request.into_parts();
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        complete(&offer, response.headers_mut());
        let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        tokio::spawn(async move {
            if let Ok(Ok(upgraded)) = timeout(TAKING, upgrade).await {
                self.tell(upgraded, &head).await;
            }
            drop(place);
        });
        Ok(response)
    }

    async fn tell(self, upgraded: Upgraded, head: &Parts) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MOST_HEARD))
            .max_frame_size(Some(MOST_HEARD))
            .max_write_buffer_size(MOST_UNTAKEN);
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut pinged) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    if heard.elapsed() > SILENCE {
                        break;
                    }
                    let pings = pinged.elapsed() >= PING;
                    if pings {
                        pinged = Instant::now();
                    }
                    if self.tick(&mut socket, head, pings).await.is_err() {
                        break;
                    }
                }
                message = socket.next() => match message {
                    Some(Ok(message)) if !message.is_close() => heard = Instant::now(),
                    _ => break,
                },
            }
        }
    }

    async fn tick(&self, socket: &mut Socket, head: &Parts, pings: bool) -> Result<(), Gone> {
        if pings {
            if self.access.check(self.peer, head).is_err() {
                let close = CloseFrame {
                    code: CloseCode::Policy,
                    reason: Utf8Bytes::from_static("the token is good no longer"),
                };
                send(socket, Message::Close(Some(close))).await?;
                return Err(Gone);
            }
            send(socket, Message::Ping(Bytes::new())).await?;
        }
        let text = self.desk.live.now(&self.desk);
        let text = Utf8Bytes::try_from(text).map_err(|_| Gone)?;
        send(socket, Message::Text(text)).await
    }
}

/// Until it is taken.
async fn send(socket: &mut Socket, message: Message) -> Result<(), Gone> {
    match timeout(TAKING, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Gone),
    }
}
