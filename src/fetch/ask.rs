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
        return send(request, socket, most, deadline).await;
    };
    let address = BackendAddress::Tcp {
        host: url.host.clone(),
        port: url.port,
    };
    let name = tls::server_name(None, &address)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, socket);
    let stream = stream.await.map_err(AskError::Tls)?;
    send(request, stream, most, deadline).await
}

async fn send(
    request: Request<Body>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    most: usize,
    deadline: Instant,
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
        // Whoever has said yes has not said nothing: there is a body that lacks its end.
        let body = timeout_at(deadline, Limited::new(response.into_body(), most).collect());
        let late = || AskError::Body("no end within timeout".to_owned());
        let body = body.await.map_err(|_| late())?;
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// What is said of an answer that begins so and then stands still, on a clock that
    /// jumps to the next deadline when nothing else happens.
    async fn said_of(begun: &str) -> AskError {
        let (near, mut far) = duplex(4096);
        let deadline = Instant::now() + Duration::from_secs(10);
        let request = Request::new(Body::full("question"));
        let asked = timeout_at(deadline, send(request, near, 4096, deadline));
        let answered = async {
            far.read_exact(&mut [0; 1]).await.unwrap();
            far.write_all(begun.as_bytes()).await.unwrap();
        };
        let (asked, ()) = tokio::join!(asked, answered);
        asked.unwrap_or(Err(AskError::Timeout)).unwrap_err()
    }

    /// Who asked for something to be taken may know from the head that it was.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_ends_is_told_from_none() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n";
        for begun in ["\r\n", "\r\nhalf"] {
            let error = said_of(&format!("{head}{begun}")).await;
            assert!(matches!(error, AskError::Body(_)), "{error}");
        }
        for begun in ["", head] {
            let error = said_of(begun).await;
            assert!(matches!(error, AskError::Timeout), "{error}");
        }
    }
}
