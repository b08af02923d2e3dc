//! One probe of one backend: dialled as tunnels are, TLS included, on a
//! connection of its own, and over within `timeout`.
//!
//! It counts as no use of the backend and takes nothing from its pool.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use tokio::time::timeout;

use super::answer::{self, Heard};
use crate::config::{self, BackendAddress, Probe, ProbeRequest};
use crate::exchange::Body;
use crate::proxy_protocol::Header;
use crate::upstream::{Backend, ConnectError, Connection, DialError, Dialer};
use crate::ws::handshake::{self, BadAnswer, Mistake, WEBSOCKET};

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("no answer within timeout")]
    Timeout,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the answer is not HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the probe's own handshake is wrong: {0}")]
    Request(#[from] Mistake),
    #[error("the status is {0}")]
    Status(StatusCode),
    #[error("the backend's handshake is wrong: {0}")]
    Handshake(#[from] BadAnswer),
    #[error("the body does not contain the text")]
    Body,
    #[error("the ping was not answered: {0}")]
    Ping(#[source] std::io::Error),
}

impl From<DialError> for ProbeError {
    fn from(error: DialError) -> Self {
        Self::Connect(error.into())
    }
}

impl ProbeError {
    /// The word of the metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Timeout | Self::Connect(ConnectError::Dial(DialError::Timeout)) => "timeout",
            Self::Connect(_) => "connect",
            Self::Http(_) | Self::Request(_) => "protocol",
            Self::Status(_) => "status",
            Self::Handshake(_) => "handshake",
            Self::Body => "body",
            Self::Ping(_) => "ping",
        }
    }
}

/// Probes once.
///
/// # Errors
/// Why the backend is not as it should be.
pub(super) async fn probe(
    dialer: &Arc<Dialer>,
    backend: &Backend,
    settings: &config::Health,
) -> Result<(), ProbeError> {
    let heard = timeout(settings.timeout, ask(dialer, backend, &settings.probe));
    let heard = heard.await.map_err(|_| ProbeError::Timeout)??;
    // The verdict stands; what follows is manners.
    answer::part(heard).await;
    Ok(())
}

async fn ask(dialer: &Arc<Dialer>, backend: &Backend, probe: &Probe) -> Result<Heard, ProbeError> {
    match probe {
        Probe::Tcp => {
            drop(dialer.dial(backend, &Header::Local).await?);
            Ok(Heard::Enough)
        }
        Probe::Http { request, body } => {
            let mut connection = match dialer.http2 {
                true => Connection::shared(dialer, backend).await?,
                false => Connection::open(dialer, backend, &Header::Local).await?,
            };
            let sent = connection.send(plain(request, backend.address())).await;
            let response = sent.map_err(|error| ProbeError::Http(error.into_error()))?;
            let status = response.status();
            if !is_good(request, status, StatusCode::is_success(&status)) {
                return Err(ProbeError::Status(status));
            }
            match body {
                Some(text) => answer::expect_in_body(response, text).await?,
                None => drop(response),
            }
            Ok(Heard::Enough)
        }
        Probe::WebSocket { request, ping } => {
            let mut connection = Connection::open(dialer, backend, &Header::Local).await?;
            shake_hands(&mut connection, request, backend.address(), *ping).await
        }
    }
}

async fn shake_hands(
    connection: &mut Connection,
    settings: &ProbeRequest,
    address: &BackendAddress,
    ping: bool,
) -> Result<Heard, ProbeError> {
    let request = upgrading(settings, address);
    let (method, version) = (request.method(), request.version());
    let offer = handshake::check_request(method, version, request.headers())?;
    let sent = connection.send(request).await;
    let mut response = sent.map_err(|error| ProbeError::Http(error.into_error()))?;
    let status = response.status();
    let switched = status == StatusCode::SWITCHING_PROTOCOLS;
    if !is_good(settings, status, switched) {
        return Err(ProbeError::Status(status));
    }
    if !switched {
        return Ok(Heard::Enough);
    }
    handshake::check_response(&offer, response.headers())?;
    let mut tunnel = hyper::upgrade::on(&mut response).await?;
    if ping {
        let asked = answer::ping(&mut tunnel).await;
        asked.map_err(ProbeError::Ping)?;
    }
    Ok(Heard::Tunnel(tunnel))
}

fn is_good(settings: &ProbeRequest, status: StatusCode, usual: bool) -> bool {
    match settings.status.is_empty() {
        true => usual,
        false => settings.status.contains(&status.as_u16()),
    }
}

fn plain(settings: &ProbeRequest, address: &BackendAddress) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    // The config has checked it.
    *request.uri_mut() = settings.path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::try_from(host(address)) {
        headers.insert(header::HOST, host);
    }
    let agent = concat!("longhaul/", env!("CARGO_PKG_VERSION"), " (probe)");
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    for (name, value) in &settings.headers {
        headers.insert(name, value.clone());
    }
    request
}

fn upgrading(settings: &ProbeRequest, address: &BackendAddress) -> Request<Body> {
    let mut request = plain(settings, address);
    let headers: &mut HeaderMap = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    let version = HeaderValue::from_static(handshake::VERSION);
    headers.insert(header::SEC_WEBSOCKET_VERSION, version);
    if let Ok(key) = HeaderValue::from_bytes(&handshake::key(rand::random())) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    request
}

fn host(address: &BackendAddress) -> String {
    match address {
        BackendAddress::Tcp { .. } => address.to_string(),
        BackendAddress::Unix(_) => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fresh_and_well_formed() {
        let settings = ProbeRequest {
            path: "/ws?a=1".to_owned(),
            headers: vec![(header::HOST, HeaderValue::from_static("chat.example"))],
            status: Vec::new(),
        };
        let address = BackendAddress::Tcp {
            host: "::1".to_owned(),
            port: 7,
        };
        let request = upgrading(&settings, &address);
        assert_eq!(request.uri(), "/ws?a=1");
        assert_eq!(request.headers()[header::HOST], "chat.example");
        let (method, version) = (request.method(), request.version());
        handshake::check_request(method, version, request.headers()).unwrap();
        let other = upgrading(&settings, &address);
        let key = header::SEC_WEBSOCKET_KEY;
        assert_ne!(request.headers()[&key], other.headers()[&key]);
    }
}
