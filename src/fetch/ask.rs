//! One question: dialled, asked and answered on a connection of its own, within one
//! deadline and one bound of size.
//!
//! Redirects are not followed: the config says whom to ask, and nobody else does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::config::{BackendAddress, Url};
use crate::exchange::Body;
use crate::net::{ConnectFault, Resolver, connect};
use crate::tls;

/// Of the head of an answer, and its lines.
const MOST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 256;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
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

impl From<ConnectFault> for AskError {
    fn from(fault: ConnectFault) -> Self {
        match fault {
            ConnectFault::Failed(error) => Self::Connect(error),
            ConnectFault::Timeout => Self::Timeout,
        }
    }
}

/// Whom to ask, and with what patience.
#[derive(Debug)]
pub struct Question<'a> {
    pub url: &'a Url,
    /// `None` for plain HTTP.
    pub tls: Option<&'a Arc<ClientConfig>>,
    pub resolver: &'a Resolver,
    /// For all of it.
    pub timeout: Duration,
    /// Bytes of the answer.
    pub most: usize,
}

/// The body of the answer to `request`, which needs no target and no host, if its
/// status is 200.
///
/// # Errors
/// See [`AskError`].
pub async fn ask(question: &Question<'_>, request: Request<Body>) -> Result<Vec<u8>, AskError> {
    let deadline = Instant::now() + question.timeout;
    let answered = timeout_at(deadline, dial_and_send(question, request, deadline));
    answered.await.unwrap_or(Err(AskError::Timeout))
}

async fn dial_and_send(
    question: &Question<'_>,
    request: Request<Body>,
    deadline: Instant,
) -> Result<Vec<u8>, AskError> {
    let (url, most) = (question.url, question.most);
    let request = addressed(url, request);
    let found = question.resolver.addresses(&url.host, url.port).await;
    let socket = connect(&found.map_err(AskError::Resolve)?, deadline).await?;
    let Some(config) = question.tls else {
        return send(request, socket, most).await;
    };
    let address = BackendAddress::Tcp {
        host: url.host.clone(),
        port: url.port,
    };
    let name = tls::server_name(None, &address)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, socket);
    send(request, stream.await.map_err(AskError::Tls)?, most).await
}

async fn send(
    request: Request<Body>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    most: usize,
) -> Result<Vec<u8>, AskError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .max_header_size(MOST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await?;
    let answered = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(AskError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), most).collect().await;
        let body = body.map_err(|error| AskError::Body(error.to_string()))?;
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

fn addressed(url: &Url, mut request: Request<Body>) -> Request<Body> {
    // The config has checked it.
    *request.uri_mut() = url.target.parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(&url.authority) {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    request
}
