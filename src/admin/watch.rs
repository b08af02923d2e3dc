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
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::access::Access;
use super::desk::Desk;
use super::fields::Wrong;
use super::person::Caller;
use crate::ws::handshake::{check_request, complete};

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
const MOST_HEARD: usize = 1 << 10;
const MOST_UNTAKEN: usize = 16 * 1024 * 1024;

/// Who watches, and by what right.
pub(super) struct Watcher {
    pub(super) desk: Arc<Desk>,
    pub(super) access: Arc<Access>,
    pub(super) caller: Caller,
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

type Socket<S> = WebSocketStream<S>;

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
                self.tell(TokioIo::new(upgraded), &head).await;
            }
            drop(place);
        });
        Ok(response)
    }

    async fn tell(self, stream: impl Stream, head: &Parts) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MOST_HEARD))
            .max_frame_size(Some(MOST_HEARD))
            .max_write_buffer_size(MOST_UNTAKEN);
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
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

    async fn tick(
        &self,
        socket: &mut Socket<impl Stream>,
        head: &Parts,
        pings: bool,
    ) -> Result<(), Gone> {
        if pings {
            if self.access.check(&self.caller, head).is_err() {
                let close = CloseFrame {
                    code: CloseCode::Policy,
                    reason: Utf8Bytes::from_static(
                        "the token or the certificate is good no longer",
                    ),
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
async fn send(socket: &mut Socket<impl Stream>, message: Message) -> Result<(), Gone> {
    match timeout(TAKING, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Gone),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::admin::endpoints::Endpoint;
    use crate::admin::person::Peer;
    use crate::config::Operators;
    use crate::state::State;

    fn watched(access: Access, headers: &[(&str, String)]) -> (DuplexStream, JoinHandle<()>) {
        // Less than one message.
        let (client, server) = duplex(64);
        let watcher = Watcher {
            desk: Desk::new(Arc::new(State::new()), None),
            access: Arc::new(access),
            caller: Caller::plain(Peer::User { uid: 1, gid: 1 }),
        };
        let mut request = Request::get(Endpoint::Watch.path());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let task = tokio::spawn(async move { watcher.tell(server, &head).await });
        (client, task)
    }

    fn open() -> Access {
        Access::Socket {
            operators: Operators::default(),
            own: 0,
        }
    }

    async fn client(stream: DuplexStream) -> Socket<DuplexStream> {
        WebSocketStream::from_raw_socket(stream, Role::Client, None).await
    }

    /// All on a clock that jumps to the next deadline when nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_take_what_it_is_told_is_let_go() {
        let begun = Instant::now();
        let (_client, task) = watched(open(), &[]);
        task.await.unwrap();
        assert!((TAKING..2 * TAKING).contains(&begun.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_slow_is_told_the_newest_and_nothing_it_has_missed() {
        let (stream, _task) = watched(open(), &[]);
        let mut socket = client(stream).await;
        for _ in 0..40 {
            let message = socket.next().await.unwrap().unwrap();
            if let Message::Text(text) = message {
                let told: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert!(told["upstreams"].is_array(), "{told}");
            }
            tokio::time::sleep(TAKING / 4).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_gives_no_sign_of_life_is_let_go() {
        let begun = Instant::now();
        let (mut stream, task) = watched(open(), &[]);
        // It takes everything, and answers no ping.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        task.await.unwrap();
        assert!((SILENCE..2 * SILENCE).contains(&begun.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_whose_token_is_good_no_longer_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let token = "0123456789abcdef";
        write_token(&file, token);
        let access = Access::of_token_file(file.clone());
        let shown = ("authorization", format!("Bearer {token}"));
        let (stream, _task) = watched(access, &[shown]);
        let mut socket = client(stream).await;
        let (mut texts, mut pings) = (0, 0);
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Close(Some(close)) => {
                    assert_eq!(close.code, CloseCode::Policy);
                    break;
                }
                Message::Ping(_) => {
                    pings += 1;
                    write_token(&file, "another-token-than-that");
                }
                _ => texts += 1,
            }
            assert!(texts < 100, "it is told for ever");
        }
        assert_eq!(pings, 1);
    }

    fn write_token(file: &std::path::Path, token: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(file, token).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}
