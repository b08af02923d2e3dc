//! One request that asks to leave HTTP behind (RFC 9110 section 7.8, RFC 6455).
//!
//! Until the backend's 101 has been checked it is HTTP: any other answer goes
//! to the client as it is. A 101 is passed on only if it is the one asked for.

use std::sync::Arc;

use http::{Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout_at};

use super::attempt::{Attempt, Purpose, Towards, connect};
use super::forward::{answer, refusal};
use super::handoff::{BackendUpgrade, Handoff};
use super::sticky::{Affinity, affinity};
use super::{Route, report};
use crate::exchange::headers::{apply_connection, renew_hop_by_hop};
use crate::exchange::{Body, ClientUpgrade, Exchange, Refusal};
use crate::tunnel::Expiry;
use crate::upstream::{Answer, HandshakeError};
use crate::ws::handshake::{self, Offer, WEBSOCKET};

pub(super) async fn upgrade(
    route: Arc<Route>,
    exchange: Exchange,
    mut request: Request<Body>,
    protocol: String,
    expiry: Option<Expiry>,
) -> Result<Response<Body>, Refusal> {
    let deadline = Instant::now() + route.settings.clocks.handshake_timeout;
    let offer = offer(&request, &protocol)?;
    let affinity = affinity(&route.upstream, &exchange, request.uri(), request.headers());
    let limits = &route.settings.limits.tunnels;
    let permit = route
        .standing
        .permit(limits, exchange.client_ip, affinity.key)?;
    let client = request
        .extensions_mut()
        .remove::<ClientUpgrade>()
        .ok_or(Refusal::BadRequest("its connection cannot be upgraded"))?;
    renew_hop_by_hop(request.headers_mut(), Some(&protocol));
    let dialogue = dialogue(
        &route,
        &exchange,
        &affinity,
        request,
        offer.is_none(),
        deadline,
    );
    let (attempt, answered) = tokio::select! {
        biased;
        done = dialogue => done?,
        // A WebSocket client that cannot send any more cannot even close
        // (RFC 6455 section 7.1.2): it has left.
        () = exchange.link.ended(), if offer.is_some() => return Err(Refusal::ClientLeft),
    };
    let status = match &answered {
        Answer::Http1(response) => response.status(),
        Answer::Http2(answered) => answered.head.status(),
    };
    let switched = match &answered {
        Answer::Http1(_) => status == StatusCode::SWITCHING_PROTOCOLS,
        Answer::Http2(_) => status.is_success(),
    };
    report::answered(&route.metrics, attempt.lease.backend(), status);
    if !switched {
        if client.is_stream() && status.is_success() {
            return Err(Refusal::NotUpgraded(status));
        }
        return Ok(match answered {
            Answer::Http1(response) => answer(&route, &exchange, attempt, response, 0),
            Answer::Http2(answered) => {
                answer(&route, &exchange, attempt, answered.into_response(), 0)
            }
        });
    }
    let (backend, head) = switch(answered, &protocol, offer.as_ref())?;
    let answer = switching(&attempt, head, &protocol);
    exchange.record.update(|entry| entry.is_tunnel = true);
    let handoff = Handoff {
        route,
        exchange,
        lease: attempt.lease,
        permit,
        protocol,
        deadline,
        expiry,
    };
    // Boxed: tokio moves a task's future about ten times.
    tokio::spawn(Box::pin(handoff.run(client, backend)));
    Ok(answer)
}

/// Checks an answer that switches protocols; the backend's side of the tunnel,
/// and the head for the client.
fn switch(
    answered: Answer,
    protocol: &str,
    offer: Option<&Offer>,
) -> Result<(BackendUpgrade, Response<()>), Refusal> {
    match answered {
        Answer::Http1(mut response) => {
            check_switch(&response, protocol, offer)?;
            let backend = hyper::upgrade::on(&mut response);
            Ok((BackendUpgrade::Connection(backend), response.map(|_| ())))
        }
        Answer::Http2(mut answered) => {
            if let Some(offer) = offer {
                // What HTTP/2 leaves out, because the stream itself says it.
                handshake::complete(offer, answered.head.headers_mut());
                handshake::check_response(offer, answered.head.headers())?;
            }
            let head = std::mem::take(&mut answered.head);
            Ok((BackendUpgrade::Stream(answered.into_tunnel()), head))
        }
    }
}

/// Reaches a backend and gets its answer. A handshake that the backend says it has
/// not looked at is sent once more, over another connection (RFC 9113 section 8.7).
async fn dialogue(
    route: &Route,
    exchange: &Exchange,
    affinity: &Affinity,
    mut request: Request<Body>,
    may_half_close: bool,
    deadline: Instant,
) -> Result<(Attempt, Answer), Refusal> {
    let towards = Towards::of(route, exchange);
    let purpose = match may_half_close {
        true => Purpose::Handshake,
        false => Purpose::WebSocket,
    };
    let may_be_http2 =
        purpose == Purpose::WebSocket && route.upstream.settings().websocket_over_http2;
    let mut again = may_be_http2.then(|| copy(&request));
    loop {
        let attempt = connect(&towards, affinity, purpose);
        let mut attempt = timeout_at(deadline, attempt).await.map_err(late)??;
        let answer = ask(route, exchange, &mut attempt, request, may_half_close);
        let answer = timeout_at(deadline, answer).await;
        let answer = answer.map_err(|elapsed| Unanswered::from(late(elapsed)));
        let unanswered = match answer.flatten() {
            Ok(answer) => {
                // The handshake is over, whatever the answer.
                drop(std::mem::take(&mut attempt.pass));
                return Ok((attempt, answer));
            }
            Err(unanswered) => unanswered,
        };
        match again.take().filter(|_| unanswered.is_unprocessed) {
            Some(again) => request = again,
            None => {
                report::refused(&route.metrics, attempt.lease.backend(), &unanswered.refusal);
                return Err(unanswered.refusal);
            }
        }
    }
}

/// A handshake, which has no body.
fn copy(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    // The spelling of the client's header names is among them.
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

/// Why a backend has given no answer.
struct Unanswered {
    refusal: Refusal,
    /// It says itself that it has not looked at the request.
    is_unprocessed: bool,
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            is_unprocessed: false,
        }
    }
}

impl From<HandshakeError> for Unanswered {
    fn from(error: HandshakeError) -> Self {
        Self {
            is_unprocessed: error.is_unprocessed(),
            refusal: match error {
                HandshakeError::Http1(error) => refusal(&error),
                HandshakeError::Http2(error) => Refusal::BackendProtocol(error.to_string()),
            },
        }
    }
}

/// Sends the request and waits for the head of the answer. Clients of some
/// protocols may end their stream and go on reading: then the backend is told,
/// and has `half_close_timeout` to answer.
async fn ask(
    route: &Route,
    exchange: &Exchange,
    attempt: &mut Attempt,
    request: Request<Body>,
    may_half_close: bool,
) -> Result<Answer, Unanswered> {
    let finish = attempt.connection.finish_handle();
    let answer = attempt.connection.shake_hands(request);
    let left = async {
        exchange.link.ended().await;
        // What came behind the request goes first, and it is not a request's:
        // it waits for the 101.
        if !exchange.link.is_ended_behind_bytes() {
            finish.finish();
        }
        sleep(route.settings.clocks.half_close_timeout).await;
    };
    tokio::select! {
        biased;
        answer = answer => Ok(answer?),
        () = left, if may_half_close => Err(Refusal::BackendTimeout("half_close_timeout").into()),
    }
}

fn late(_: Elapsed) -> Refusal {
    Refusal::BackendTimeout("handshake_timeout")
}

/// Checks the client's side of the handshake.
fn offer(request: &Request<Body>, protocol: &str) -> Result<Option<Offer>, Refusal> {
    if protocol == WEBSOCKET {
        let offer =
            handshake::check_request(request.method(), request.version(), request.headers())?;
        return Ok(Some(offer));
    }
    let headers = request.headers();
    if headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
    {
        return Err(Refusal::BadRequest(
            "an upgrade with a body is not passed on",
        ));
    }
    Ok(None)
}

/// Checks the backend's side.
fn check_switch(
    response: &Response<Incoming>,
    protocol: &str,
    offer: Option<&Offer>,
) -> Result<(), Refusal> {
    if response.version() != Version::HTTP_11 {
        // RFC 9110 section 7.8: an HTTP/1.0 peer knows no upgrades.
        return Err(Refusal::UnaskedUpgrade);
    }
    if let Some(offer) = offer {
        return Ok(handshake::check_response(offer, response.headers())?);
    }
    match handshake::upgrade_protocol(response.headers()) {
        handshake::Upgrade::One(switched) if switched == protocol => Ok(()),
        _ => Err(Refusal::UnaskedUpgrade),
    }
}

/// The 101 for the client.
fn switching(attempt: &Attempt, head: Response<()>, protocol: &str) -> Response<Body> {
    // The spelling of the backend's header names travels in the extensions.
    let mut response = head.map(|()| Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.version_mut() = Version::HTTP_11;
    apply_connection(response.headers_mut());
    renew_hop_by_hop(response.headers_mut(), Some(protocol));
    if let Some(cookie) = &attempt.cookie {
        response
            .headers_mut()
            .append(header::SET_COOKIE, cookie.clone());
    }
    response
}
