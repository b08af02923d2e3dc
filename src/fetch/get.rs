//! One GET: dialled, asked and answered on a connection of its own, within one
//! deadline and one bound of size.
//!
//! Redirects are not followed: the config says where keys come from, and nobody
//! else does.

use std::io;
use std::sync::Arc;

use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::config::{BackendAddress, KeysUrl, Url};
use crate::exchange::Body;
use crate::net::{ConnectFault, Resolver, connect};
use crate::tls;

/// Of a document.
const MOST_BYTES: usize = 1024 * 1024;
/// Of the head of an answer, and its lines.
const MOST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 256;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    #[error("resolving the name failed: {0}")]
    Resolve(io::Error),
    #[error("connecting failed: {0}")]
    Connect(io::Error),
    #[error("the tls handshake failed: {0}")]
    Tls(io::Error),
    #[error("there is no name to verify: {0}")]
    ServerName(#[from] tls::ServerNameError),
    #[error("the answer is not HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the status is {0}")]
    Status(StatusCode),
    #[error("the body: {0}")]
    Body(String),
    #[error("no answer within timeout")]
    Timeout,
}

impl From<ConnectFault> for GetError {
    fn from(fault: ConnectFault) -> Self {
        match fault {
            ConnectFault::Failed(error) => Self::Connect(error),
            ConnectFault::Timeout => Self::Timeout,
        }
    }
}

/// The document that the URL has now.
///
/// # Errors
/// See [`GetError`].
pub(super) async fn get(
    settings: &KeysUrl,
    tls: Option<&Arc<ClientConfig>>,
    resolver: &Resolver,
) -> Result<Vec<u8>, GetError> {
    let deadline = Instant::now() + settings.timeout;
    let got = timeout_at(deadline, dial_and_ask(settings, tls, resolver, deadline));
    got.await.unwrap_or(Err(GetError::Timeout))
}

async fn dial_and_ask(
    settings: &KeysUrl,
    tls: Option<&Arc<ClientConfig>>,
    resolver: &Resolver,
    deadline: Instant,
) -> Result<Vec<u8>, GetError> {
    let url = &settings.url;
    let found = resolver.addresses(&url.host, url.port).await;
    let socket = connect(&found.map_err(GetError::Resolve)?, deadline).await?;
    let Some(config) = tls else {
        return ask(url, socket).await;
    };
    let address = BackendAddress::Tcp {
        host: url.host.clone(),
        port: url.port,
    };
    let name = tls::server_name(None, &address)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, socket);
    ask(url, stream.await.map_err(GetError::Tls)?).await
}

async fn ask(
    url: &Url,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
) -> Result<Vec<u8>, GetError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .max_header_size(MOST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await?;
    let answered = async {
        let response = sender.send_request(question(url)).await?;
        if response.status() != StatusCode::OK {
            return Err(GetError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MOST_BYTES)
            .collect()
            .await;
        let body = body.map_err(|error| GetError::Body(error.to_string()))?;
        Ok(body.to_bytes().to_vec())
    };
    tokio::pin!(answered);
    // Driven from here, so that it ends with the question.
    tokio::select! {
        biased;
        answer = &mut answered => answer,
        ended = connection => {
            ended?;
            answered.await
        }
    }
}

fn question(url: &Url) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    // The config has checked it.
    *request.uri_mut() = url.target.parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(&url.authority) {
        headers.insert(header::HOST, host);
    }
    let agent = concat!("longhaul/", env!("CARGO_PKG_VERSION"), " (keys)");
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    let kinds = HeaderValue::from_static("application/jwk-set+json, application/json");
    headers.insert(header::ACCEPT, kinds);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    request
}
