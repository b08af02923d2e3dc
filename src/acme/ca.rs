//! HTTP to the CA: one connection for each request, verified, with a deadline
//! and a bound for what is answered.
//!
//! It knows nothing of the protocol but what keeps it safe from the other side:
//! no URL but `https` (RFC 8555 section 6.1), and no directory without the URLs
//! that the protocol's crate takes for granted.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::net::{ConnectFault, Resolver, connect};

/// For one request, from the name's lookup to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of that, for all addresses of the CA together.
const CONNECTING: Duration = Duration::from_secs(15);
/// Of an answer, in bytes: a chain is some KiB.
const MOST_ANSWER: usize = 256 * 1024;
/// The longest that a CA's `Retry-After` is obeyed.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Why the CA did not answer.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0} is no https URL")]
    NotHttps(Uri),
    #[error("resolving {0} failed: {1}")]
    Resolve(String, io::Error),
    #[error("connecting to {0} failed: {1}")]
    Connect(String, io::Error),
    #[error("the tls handshake with {0} failed: {1}")]
    Tls(String, io::Error),
    #[error("the request failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is broken or larger than 256 KiB: {0}")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer did not come within 30 s")]
    Timeout,
    #[error("what {0} answers is no directory of a CA")]
    NotADirectory(Uri),
}

/// The CA as a client reaches it.
#[derive(Clone, Debug)]
pub(super) struct Ca {
    tls: Arc<ClientConfig>,
    directory: String,
    resolver: Arc<Resolver>,
    not_before: NotBefore,
}

/// When the CA wants to be asked again, if it has said so.
#[derive(Clone, Debug, Default)]
pub(super) struct NotBefore(Arc<Mutex<Option<SystemTime>>>);

impl NotBefore {
    pub(super) fn get(&self) -> Option<SystemTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// 429 and 503 say when (RFC 9110 section 10.2.3); in seconds, as CAs do.
    fn note(&self, answer: &http::response::Parts) {
        let asks = matches!(
            answer.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        let seconds = answer.headers.get(RETRY_AFTER);
        let seconds = seconds.and_then(|it| it.to_str().ok()?.trim().parse().ok());
        if let Some(seconds) = seconds.filter(|_| asks) {
            let wait = Duration::from_secs(seconds).min(LONGEST_WAIT);
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *held = SystemTime::now().checked_add(wait);
        }
    }
}

/// The crate adds what is said here to the time that it is, which must not overflow.
fn bound_wait(headers: &mut HeaderMap) {
    let said = headers.get(RETRY_AFTER).and_then(|it| it.to_str().ok());
    let seconds = said.and_then(|it| it.trim().parse::<u64>().ok());
    if seconds.is_some_and(|seconds| seconds > LONGEST_WAIT.as_secs()) {
        headers.insert(RETRY_AFTER, HeaderValue::from(LONGEST_WAIT.as_secs()));
    }
}

impl Ca {
    pub(super) fn new(tls: Arc<ClientConfig>, directory: &str, not_before: NotBefore) -> Self {
        Self {
            tls,
            directory: directory.to_owned(),
            resolver: Arc::default(),
            not_before,
        }
    }

    async fn call(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, CallError> {
        let url = request.uri().clone();
        let response = self.send(request).await?;
        let (mut parts, body) = response.into_parts();
        self.not_before.note(&parts);
        bound_wait(&mut parts.headers);
        if url == *self.directory && !is_directory(&body) {
            return Err(CallError::NotADirectory(url));
        }
        Ok(Response::from_parts(parts, Full::new(body)).into())
    }

    async fn send(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Bytes>, CallError> {
        let url = request.uri().clone();
        let (Some("https"), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(CallError::NotHttps(url));
        };
        let bad = |_| CallError::NotHttps(url.clone());
        let host = HeaderValue::from_str(authority.as_str()).map_err(bad)?;
        request.headers_mut().insert(HOST, host);
        let close = HeaderValue::from_static("close");
        request.headers_mut().insert(CONNECTION, close);
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = Uri::try_from(path).unwrap_or_default();
        let stream = self.dial(&url, authority.host()).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with this call, whatever the CA does.
        let mut driven = JoinSet::new();
        driven.spawn(connection);
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await;
        let body = body.map_err(CallError::Answer)?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    async fn dial(&self, url: &Uri, host: &str) -> Result<TlsStream<TcpStream>, CallError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned());
        let name = name.map_err(|_| CallError::NotHttps(url.clone()))?;
        let port = url.port_u16().unwrap_or(443);
        let resolved = self.resolver.addresses(bare, port).await;
        let addresses = resolved.map_err(|error| CallError::Resolve(host.to_owned(), error))?;
        let stream = connect(&addresses, Instant::now() + CONNECTING).await;
        let stream = stream.map_err(|fault| CallError::of_connecting(host, fault))?;
        let tls = TlsConnector::from(Arc::clone(&self.tls));
        let connected = tls.connect(name, stream).await;
        connected.map_err(|error| CallError::Tls(host.to_owned(), error))
    }
}

impl CallError {
    fn of_connecting(host: &str, fault: ConnectFault) -> Self {
        let error = match fault {
            ConnectFault::Failed(error) => error,
            ConnectFault::Timeout => io::ErrorKind::TimedOut.into(),
        };
        Self::Connect(host.to_owned(), error)
    }
}

/// The boxes are the protocol crate's.
impl HttpClient for Ca {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let ca = self.clone();
        Box::pin(async move {
            let called = timeout(PATIENCE, ca.call(request)).await;
            let called = called.unwrap_or(Err(CallError::Timeout));
            called.map_err(|error| instant_acme::Error::Other(Box::new(error)))
        })
    }
}

/// Whether the URLs are there that are asked first (RFC 8555 section 7.1.1); the
/// protocol crate would panic at one that is no URL.
fn is_directory(body: &[u8]) -> bool {
    let Ok(directory) = serde_json::from_slice::<serde_json::Value>(body) else {
        return false;
    };
    ["newNonce", "newAccount", "newOrder"].iter().all(|key| {
        let url = directory[key].as_str();
        let url = url.and_then(|url| url.parse::<Uri>().ok());
        url.is_some_and(|url| url.scheme_str() == Some("https") && url.host().is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_the_urls_that_are_asked_first() {
        let of = |nonce: &str| {
            let text = format!(
                r#"{{"newNonce":"{nonce}","newAccount":"https://a/b","newOrder":"https://a/c"}}"#
            );
            is_directory(text.as_bytes())
        };
        assert!(of("https://a/nonce"));
        for wrong in ["http://a/nonce", "", "no url", "/nonce", "https://"] {
            assert!(!of(wrong), "{wrong:?}");
        }
        for wrong in [&b""[..], b"<html>", b"[]", b"{}", b"\xff"] {
            assert!(!is_directory(wrong));
        }
    }

    #[test]
    fn a_ca_says_when_it_wants_to_be_asked_again() {
        let noted = |status: u16, after: &str| {
            let answer = Response::builder()
                .status(status)
                .header(RETRY_AFTER, after)
                .body(());
            let not_before = NotBefore::default();
            not_before.note(&answer.unwrap().into_parts().0);
            let left = not_before.get()?.duration_since(SystemTime::now()).ok()?;
            Some(left.as_secs_f64().round() as u64)
        };
        assert_eq!(noted(429, "120"), Some(120));
        assert_eq!(noted(503, " 7 "), Some(7));
        assert_eq!(noted(429, "99999999999"), Some(86_400));
        for (status, after) in [(200, "9"), (429, "soon"), (503, "-1")] {
            assert_eq!(noted(status, after), None);
        }
    }
}
