//! The task of one request on an HTTP/2 stream, to the end of its answer; a
//! tunnel leaves here.
//!
//! Invariant: when the client resets the stream or its connection ends, the
//! exchange is dropped at once, and with it what it holds of a backend.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use tokio::sync::{Notify, oneshot};

use super::request::{Kind, normalise};
use super::response::{send, send_head};
use crate::exchange::{Body, ClientUpgrade, Elsewhere, Refusal};
use crate::net::http2::{Calm, Place, Stream, StreamBody, Tunnel, VERDICT};
use crate::net::{ClientLink, Permit};
use crate::server::connection::log_refusal;
use crate::server::entrance::Entrance;

/// What the exchanges of one connection share.
pub(super) struct Terms {
    pub(super) entrance: Entrance,
    pub(super) calm: Arc<Calm>,
    pub(super) patience: Duration,
    pub(super) max_headers: usize,
    /// When the client is to come by another connection.
    pub(super) elsewhere: Notify,
}

pub(super) async fn exchange(terms: Arc<Terms>, mut request: Request<()>, stream: Arc<Stream>) {
    let permit = match terms.admit(&request) {
        Ok(permit) => permit,
        Err(refusal) => return terms.refuse(&stream, refusal).await,
    };
    let kind = normalise(&mut request);
    let link = Arc::new(ClientLink::of_stream(Arc::clone(&stream)));
    match kind {
        Kind::Plain => {
            let length = length(request.headers());
            let body = StreamBody::new(Arc::clone(&stream), length);
            let request = request.map(|()| body);
            if let Some(response) = terms.answer(request, &stream, &link).await {
                send(&stream, response, terms.patience).await;
            }
        }
        Kind::Tunnel => {
            let (open, upgrade) = ClientUpgrade::of_stream();
            request.extensions_mut().insert(upgrade);
            let request = request.map(|()| StreamBody::none());
            if let Some(response) = terms.answer(request, &stream, &link).await {
                terms.join(&stream, response, open, permit).await;
            }
        }
    }
}

impl Terms {
    /// A place for the stream, which may come to hold a connection of its own.
    fn admit(&self, request: &Request<()>) -> Result<Permit, Refusal> {
        match request.headers().get(VERDICT).map(HeaderValue::as_bytes) {
            None => {}
            Some(b"431") => return Err(too_large("the header block is too large")),
            Some(_) => {
                let what = "a field is not allowed in HTTP/2";
                return Err(Refusal::BadHead(StatusCode::BAD_REQUEST, what.into()));
            }
        }
        if request.headers().len() > self.max_headers {
            return Err(too_large("too many header lines"));
        }
        let ip = self.entrance.client.peer.ip();
        let limiter = &self.entrance.context.limiter;
        limiter.admit(ip).map_err(Refusal::Full)
    }

    async fn refuse(&self, stream: &Arc<Stream>, refusal: Refusal) {
        let metrics = &self.entrance.context.state.metrics;
        log_refusal(&self.entrance.client, metrics, &refusal);
        send(stream, refusal.into_response(), self.patience).await;
    }

    /// The answer; `None` if the client left before it.
    async fn answer(
        &self,
        request: Request<StreamBody>,
        stream: &Stream,
        link: &Arc<ClientLink>,
    ) -> Option<Response<Body>> {
        let to_be_tunnel = request.extensions().get::<ClientUpgrade>().is_some();
        let mut answer = pin!(self.entrance.call(request, link));
        let mut told = !to_be_tunnel;
        loop {
            tokio::select! {
                biased;
                _ = stream.broken() => {
                    self.calm.early_reset();
                    return None;
                }
                // No end of a request, which is whole: an end of the tunnel.
                () = stream.ended(), if !told => {
                    told = true;
                    link.end();
                }
                Ok(response) = &mut answer => {
                    if response.extensions().get::<Elsewhere>().is_some() {
                        self.elsewhere.notify_one();
                    }
                    return Some(response);
                }
            }
        }
    }

    /// Sends the answer to an extended CONNECT, and opens the tunnel if it is
    /// one.
    async fn join(
        &self,
        stream: &Arc<Stream>,
        mut response: Response<Body>,
        open: oneshot::Sender<Tunnel>,
        permit: Permit,
    ) {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return send(stream, response, self.patience).await;
        }
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
        let (head, _) = response.into_parts();
        if send_head(stream, head, false).is_ok() {
            let stream = Arc::clone(stream);
            // Nobody waits for it if the tunnel took too long to open.
            let _ = open.send(Tunnel::new(stream, self.patience, Place::Client(permit)));
        }
    }
}

fn too_large(what: &str) -> Refusal {
    Refusal::BadHead(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, what.into())
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
}
