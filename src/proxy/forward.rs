//! One plain request to a backend and its answer back, both streamed.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, timeout_at};

use super::attempt::{Attempt, Purpose, Towards, connect};
use super::response_body::ResponseBody;
use super::sticky::affinity;
use super::{Route, report};
use crate::exchange::headers::{strip_answer, strip_hop_by_hop};
use crate::exchange::{Body, BodyError, ContinueGate, Exchange, Refusal};
use crate::net::{Alarm, ClientLink};

/// How long a request body is held back for a backend's `100 Continue`
/// (RFC 9110 section 10.1.1 asks for some such bound).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn forward(
    route: Arc<Route>,
    exchange: Exchange,
    mut request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let affinity = affinity(&route.upstream, &exchange, request.uri(), request.headers());
    strip_hop_by_hop(request.headers_mut());
    // Without a Host only HTTP/1.0 is valid towards the backend too.
    let client_version = request.version();
    if request.headers().contains_key(header::HOST) {
        *request.version_mut() = Version::HTTP_11;
    }
    pass_on_interim(&mut request, &exchange.link, client_version);
    let mut replay = replay(&request);
    let towards = Towards::of(&route, &exchange);
    let mut purpose = Purpose::Request;
    // One for all of it: reaching a backend, its answer, and both once more.
    let mut deadline = Deadline::new(&route, &exchange);
    loop {
        let attempt = connect(&towards, &affinity, purpose);
        let mut attempt = timeout_at(deadline.at, attempt)
            .await
            .map_err(|_| Refusal::BackendTimeout("response_timeout"))??;
        let backend = Arc::clone(attempt.lease.backend());
        let answer = respond(&route, &exchange, &mut attempt, request, &mut deadline);
        let answer = answer.await;
        let error = match answer
            .inspect_err(|refusal| report::refused(&route.metrics, &backend, refusal))?
        {
            Ok(response) => {
                report::answered(&route.metrics, &backend, response.status());
                return finish(&route, exchange.clone(), attempt, response);
            }
            Err(error) => error,
        };
        // A kept connection may have been closed by the backend at any moment:
        // worth one new one, if nothing was sent or sending twice does no harm.
        let (error, unsent) = split(error);
        let again = unsent.or_else(|| replay.take().filter(|_| was_closed(&error)));
        match again.filter(|_| attempt.connection.is_reused()) {
            Some(again) => request = again,
            None => {
                let refusal = refusal(&error);
                // What a kept connection does in the end says little.
                if !attempt.connection.is_reused() {
                    report::refused(&route.metrics, &backend, &refusal);
                }
                return Err(refusal);
            }
        }
        purpose = Purpose::RequestAnew;
    }
}

/// When the head of the answer must be there.
struct Deadline<'a> {
    at: Instant,
    timeout: Duration,
    exchange: &'a Exchange,
}

impl<'a> Deadline<'a> {
    fn new(route: &Route, exchange: &'a Exchange) -> Self {
        let timeout = route.settings.response_timeout;
        Self {
            at: Instant::now() + timeout,
            timeout,
            exchange,
        }
    }

    /// Whether it is over. While the request's body is arriving it moves on: it
    /// counts from the last part that came.
    fn is_over(&mut self) -> bool {
        if let Some(came) = self.exchange.record.entry().body_at {
            self.at = self.at.max(Instant::from_std(came) + self.timeout);
        }
        self.at <= Instant::now()
    }
}

/// Sends the request and waits for the head of the answer. The outer error ends
/// the exchange, the inner one may be worth another connection.
async fn respond(
    route: &Route,
    exchange: &Exchange,
    attempt: &mut Attempt,
    request: Request<Body>,
    deadline: &mut Deadline<'_>,
) -> Result<Result<Response<Incoming>, TrySendError<Request<Body>>>, Refusal> {
    let gate = request.extensions().get::<ContinueGate>().cloned();
    let finish = attempt.connection.finish_handle();
    let (response, patience) = attempt.connection.send_within(request);
    let mut response = pin!(response);
    patience.set(Some(deadline.at));
    let mut continues = Alarm::default();
    continues.set(gate.is_some().then(|| Instant::now() + CONTINUE_TIMEOUT));
    let mut left = false;
    loop {
        tokio::select! {
            biased;
            answer = &mut response => return Ok(answer),
            () = exchange.link.ended(), if !left => {
                // Pass it on, and bound what may follow it.
                left = true;
                finish.finish();
                let rest = Instant::now() + route.settings.clocks.half_close_timeout;
                patience.set(Some(rest.min(deadline.at)));
            }
            () = poll_fn(|cx| continues.poll(cx)) => {
                continues.set(None);
                if let Some(gate) = &gate {
                    gate.open();
                }
            }
            () = poll_fn(|cx| patience.poll(cx)) => {
                if deadline.is_over() {
                    return Err(Refusal::BackendTimeout("response_timeout"));
                }
                if left {
                    return Err(Refusal::BackendTimeout("half_close_timeout"));
                }
                patience.set(Some(deadline.at));
            }
        }
    }
}

fn finish(
    route: &Route,
    exchange: Exchange,
    attempt: Attempt,
    response: Response<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::UnaskedUpgrade);
    }
    let most = route.upstream.settings().max_idle_connections;
    Ok(answer(route, &exchange, attempt, response, most))
}

/// The backend's answer as the client gets it. `max_idle` 0: the connection is
/// not used again.
pub(super) fn answer<B>(
    route: &Route,
    exchange: &Exchange,
    attempt: Attempt,
    mut response: Response<B>,
    max_idle: usize,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    BodyError: From<B::Error>,
{
    if response.headers().contains_key(header::TRANSFER_ENCODING) {
        // The coding decides (RFC 9112 section 6.3), and it ends here: a length
        // beside it would cut the body off.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let rest = (attempt.connection, attempt.lease, max_idle);
    let mut response = response
        .map(|incoming| ResponseBody::wrap(incoming, exchange.clone(), &route.settings, rest));
    strip_answer(response.headers_mut());
    if let Some(cookie) = attempt.cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    *response.version_mut() = Version::HTTP_11;
    response
}

/// Sends the backend's interim responses on to the client (RFC 9110 section
/// 15.2), except 100, which opens the gate of a body that waits for it.
fn pass_on_interim(request: &mut Request<Body>, link: &Arc<ClientLink>, version: Version) {
    let gate = request.extensions().get::<ContinueGate>().cloned();
    let link = Arc::clone(link);
    hyper::ext::on_informational(request, move |interim| {
        if interim.status() == StatusCode::CONTINUE {
            if let Some(gate) = &gate {
                gate.open();
            }
        } else if version >= Version::HTTP_11 {
            let mut headers = interim.headers().clone();
            strip_answer(&mut headers);
            // RFC 9110 section 8.6: not in a response without content.
            headers.remove(header::CONTENT_LENGTH);
            link.push_interim(interim.status(), headers);
        }
    });
}

/// A copy of a request that may be sent twice: idempotent (RFC 9110 section
/// 9.2.2) and without a body.
fn replay(request: &Request<Body>) -> Option<Request<Body>> {
    use http_body::Body as _;
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    if !idempotent || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

fn split(mut error: TrySendError<Request<Body>>) -> (hyper::Error, Option<Request<Body>>) {
    let unsent = error.take_message();
    (error.into_error(), unsent)
}

/// Whether the connection ended without a byte of an answer.
fn was_closed(error: &hyper::Error) -> bool {
    error.is_closed() || error.is_canceled() || error.is_incomplete_message() || is_reset(error)
}

fn is_reset(error: &hyper::Error) -> bool {
    cause::<std::io::Error>(error).is_some_and(|io| {
        matches!(
            io.kind(),
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        )
    })
}

pub(super) fn refusal(error: &hyper::Error) -> Refusal {
    match cause::<BodyError>(error) {
        Some(BodyError::ClientLeft) => Refusal::ClientLeft,
        Some(BodyError::Stalled) => Refusal::RequestBodyTimeout,
        Some(body) => Refusal::RequestBody(body.to_string()),
        None => match std::error::Error::source(error) {
            Some(source) => Refusal::BackendProtocol(format!("{error}: {source}")),
            None => Refusal::BackendProtocol(error.to_string()),
        },
    }
}

fn cause<E: std::error::Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        if let Some(found) = source.downcast_ref::<E>() {
            return Some(found);
        }
        next = source.source();
    }
    None
}
