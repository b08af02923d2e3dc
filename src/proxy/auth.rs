//! Forward auth: whether a request may go to its backend is asked first.
//!
//! The question has the client's headers without those about the connection and
//! without a body; its answer decides, may set headers for the backend, and may
//! say until when what it grants lasts.
//!
//! Invariant: whatever goes wrong with the question, the request does not pass.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::attempt::{Attempt, Purpose, Towards, connect};
use super::sticky::affinity;
use super::{Authority, report};
use crate::exchange::headers::{strip_answer, strip_hop_by_hop, withdraw};
use crate::exchange::{Body, Denial, Exchange, Refusal};
use crate::metrics::Metrics;
use crate::tunnel::Expiry;

/// Until when what was granted lasts, in seconds since 1970.
const EXPIRES: HeaderName = HeaderName::from_static("x-longhaul-expires");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// Of an answer's body; a longer one is not passed on.
const MOST: usize = 64 * 1024;

/// Asks about the request, and makes it what the answer says. When what was
/// granted ends, if ever.
pub(super) async fn authorize(
    authority: &Authority,
    metrics: &Metrics,
    exchange: &Exchange,
    request: &mut Request<Body>,
) -> Result<Option<Expiry>, Refusal> {
    let question = question(authority, request);
    let asked = ask(authority, metrics, exchange, question);
    let asked = timeout(authority.settings.timeout, asked).await;
    let answer = asked.map_err(|_| failed("no answer within timeout"))??;
    let status = answer.status();
    if status.is_redirection() || status.is_client_error() {
        return Err(Refusal::AuthDenied(Box::new(Denial(answer))));
    }
    if !status.is_success() {
        return Err(failed(&format!("the status is {status}")));
    }
    let lasts = lasts(answer.headers())?;
    set_headers(authority, request, answer.headers());
    Ok(lasts.map(|after| Expiry {
        after,
        code: authority.settings.close_code,
    }))
}

fn failed(reason: &str) -> Refusal {
    Refusal::AuthFailed(reason.to_owned())
}

fn question(authority: &Authority, request: &Request<Body>) -> Request<Body> {
    let mut question = Request::new(Body::empty());
    *question.headers_mut() = request.headers().clone();
    let headers = question.headers_mut();
    strip_hop_by_hop(headers);
    for name in [
        header::CONTENT_LENGTH,
        header::EXPECT,
        header::TE,
        header::TRAILER,
        header::SEC_WEBSOCKET_KEY,
        header::SEC_WEBSOCKET_VERSION,
        header::SEC_WEBSOCKET_EXTENSIONS,
    ] {
        headers.remove(name);
    }
    if let Ok(method) = HeaderValue::from_str(request.method().as_str()) {
        headers.insert(ORIGINAL_METHOD, method);
    }
    let uri = request
        .uri()
        .path_and_query()
        .map_or("/", |uri| uri.as_str());
    if let Ok(uri) = HeaderValue::from_str(uri) {
        headers.insert(ORIGINAL_URI, uri);
    }
    *question.method_mut() = Method::GET;
    *question.version_mut() = Version::HTTP_11;
    // The config has checked it.
    *question.uri_mut() = authority.settings.path.parse().unwrap_or_default();
    question
}

/// The whole answer. A kept connection that has just been closed is worth
/// another one: asking twice does no harm.
async fn ask(
    authority: &Authority,
    metrics: &Metrics,
    exchange: &Exchange,
    question: Request<Body>,
) -> Result<Response<Vec<u8>>, Refusal> {
    let upstream = &authority.upstream;
    let (uri, headers) = (question.uri().clone(), question.headers().clone());
    let affinity = affinity(upstream, exchange, &uri, &headers);
    let towards = Towards {
        upstream,
        metrics,
        exchange,
        record: None,
    };
    let mut purpose = Purpose::Request;
    loop {
        let attempt = connect(&towards, &affinity, purpose).await;
        let mut attempt = attempt.map_err(|refusal| failed(&refusal.to_string()))?;
        let mut again = Request::new(Body::empty());
        again.headers_mut().clone_from(&headers);
        again.uri_mut().clone_from(&uri);
        match attempt.connection.send(again).await {
            Ok(response) => {
                report::answered(metrics, attempt.lease.backend(), response.status());
                return collect(authority, attempt, response).await;
            }
            Err(_) if attempt.connection.is_reused() => purpose = Purpose::RequestAnew,
            Err(error) => {
                let error = error.into_error();
                let refusal = Refusal::BackendProtocol(error.to_string());
                report::refused(metrics, attempt.lease.backend(), &refusal);
                return Err(failed(&error.to_string()));
            }
        }
    }
}

async fn collect(
    authority: &Authority,
    attempt: Attempt,
    response: Response<Incoming>,
) -> Result<Response<Vec<u8>>, Refusal> {
    let (mut head, body) = response.into_parts();
    let body = Limited::new(body, MOST).collect().await;
    let body = body.map_err(|error| failed(&format!("its body: {error}")))?;
    let most = authority.upstream.settings().max_idle_connections;
    attempt.connection.give_back(attempt.lease.backend(), most);
    strip_answer(&mut head.headers);
    head.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(head, body.to_bytes().to_vec()))
}

/// How long what is granted lasts from now; `None` is for ever.
fn lasts(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(written) = headers.get(EXPIRES) else {
        return Ok(None);
    };
    let seconds = written
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let at = seconds
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    let at = at.ok_or_else(|| failed("its x-longhaul-expires is no time in seconds since 1970"))?;
    match at.duration_since(SystemTime::now()) {
        Ok(left) if !left.is_zero() => Ok(Some(left)),
        _ => Err(Refusal::AuthExpired),
    }
}

/// What the answer says, and not what the client says.
fn set_headers(authority: &Authority, request: &mut Request<Body>, answer: &HeaderMap) {
    for name in &authority.settings.set_headers {
        withdraw(request, name);
        for value in answer.get_all(name) {
            request.headers_mut().append(name, value.clone());
        }
    }
}
