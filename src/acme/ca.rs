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
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
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
/// The longest that a CA's `Retry-After` is obeyed for one order.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// The same for all: whatever names are due meanwhile, nobody else asks for them.
const LONGEST_WAIT_OF_ALL: Duration = Duration::from_secs(60 * 60);

tokio::task_local! {
    /// Of the order that this task makes. All orders have one client, which the
    /// protocol's crate hides, and which could not tell them apart.
    static ORDER: NotBefore;
}

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

/// When the CA wants to be asked again, if it has said so; of one order, or of
/// all. The calendar may step meanwhile, so it does not go by that.
#[derive(Clone, Debug, Default)]
pub(super) struct NotBefore(Arc<Mutex<Option<Instant>>>);

impl NotBefore {
    pub(super) fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_off(&self, wait: Duration) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Instant::now().checked_add(wait);
    }

    /// Does `work`, which is one order, and has the limits that it meets on the
    /// way hold up itself alone.
    pub(super) async fn of_order<T>(&self, work: impl Future<Output = T>) -> T {
        ORDER.scope(self.clone(), work).await
    }
}

/// 429 and 503 say how long (RFC 9110 section 10.2.3); in seconds, as CAs do.
fn asked_wait(answer: &http::response::Parts) -> Option<Duration> {
    let asks = matches!(
        answer.status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    let seconds = answer.headers.get(RETRY_AFTER).filter(|_| asks)?;
    let seconds = seconds.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
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
        let method = request.method().clone();
        let response = self.send(request).await?;
        let (mut parts, body) = response.into_parts();
        self.note(&method, &parts);
        bound_wait(&mut parts.headers);
        if url == *self.directory && !is_directory(&body) {
            return Err(CallError::NotADirectory(url));
        }
        Ok(Response::from_parts(parts, Full::new(body)).into())
    }

    /// A limit says when "the current request may succeed again", and of that one
    /// alone (RFC 8555 section 6.6): so of one for an order, all of which are POST,
    /// no other name knows. What refuses accounts, nonces or everybody is of all.
    fn note(&self, method: &Method, answer: &http::response::Parts) {
        let Some(wait) = asked_wait(answer) else {
            return;
        };
        let is_limit = answer.status == StatusCode::TOO_MANY_REQUESTS;
        let order = ORDER.try_with(NotBefore::clone).ok();
        match order.filter(|_| is_limit && *method == Method::POST) {
            Some(order) => order.put_off(wait.min(LONGEST_WAIT)),
            None => self.not_before.put_off(wait.min(LONGEST_WAIT_OF_ALL)),
        }
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
    use rustls::RootCertStore;

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

    /// Whole seconds that an answer has all and this order wait.
    async fn noted(status: u16, after: &str, method: Method, is_order: bool) -> [Option<u64>; 2] {
        let (all, own) = (NotBefore::default(), NotBefore::default());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let ca = Ca::new(Arc::new(tls), "https://a/dir", all.clone());
        let answer = Response::builder()
            .status(status)
            .header(RETRY_AFTER, after)
            .body(());
        let (answer, ()) = answer.unwrap().into_parts();
        match is_order {
            true => own.of_order(async { ca.note(&method, &answer) }).await,
            false => ca.note(&method, &answer),
        }
        [all, own].map(|it| {
            let left = it.get()?.duration_since(Instant::now());
            Some(left.as_secs_f64().round() as u64)
        })
    }

    #[tokio::test]
    async fn a_limit_of_an_order_holds_up_that_order_alone_and_a_day_at_most() {
        for (after, wait) in [("120", 120), (" 7 ", 7), ("99999999999", 86_400)] {
            let found = noted(429, after, Method::POST, true).await;
            assert_eq!(found, [None, Some(wait)], "{after:?}");
        }
        for (status, after) in [(200, "9"), (403, "9"), (429, "soon"), (503, "-1")] {
            let found = noted(status, after, Method::POST, true).await;
            assert_eq!(found, [None, None], "{status} {after:?}");
        }
    }

    #[tokio::test]
    async fn what_is_of_everybody_holds_up_all_and_an_hour_at_most() {
        for (status, method, is_order) in [
            // An account, or the directory.
            (429, Method::POST, false),
            (429, Method::GET, false),
            // A nonce for an order.
            (429, Method::HEAD, true),
            (503, Method::POST, true),
        ] {
            for (after, wait) in [("120", 120), ("99999999999", 3600)] {
                let found = noted(status, after, method.clone(), is_order).await;
                assert_eq!(found, [Some(wait), None], "{status} {method} {is_order}");
            }
        }
    }
}
