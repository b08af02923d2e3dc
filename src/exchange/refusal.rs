//! Every answer that longhaul itself gives instead of a backend, in one table:
//! one variant, one status, one label.

use http::{HeaderValue, Response, StatusCode, header};

use super::Body;
use crate::net;
use crate::proxy_protocol;
use crate::ws::handshake;

/// The answer of an auth upstream that denies a request.
#[derive(Debug)]
pub struct Denial(pub Response<Vec<u8>>);

/// What a client is asked to show: the value of `WWW-Authenticate` (RFC 9110
/// section 11.6.1).
#[derive(Clone, Debug)]
pub struct Challenge(pub String);

/// On an answer, as an extension: the client's next request is to come by another
/// connection. Over HTTP/1.1 `Connection` says it.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere;

/// Why longhaul answers a request itself.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("no route matches the request")]
    NoRoute,
    #[error("the request's host is missing, repeated or malformed")]
    BadHost,
    #[error("the path has dot segments or encoded separators")]
    BadPath,
    #[error("the request cannot be passed on: {0}")]
    BadRequest(&'static str),
    #[error("{0}")]
    Handshake(#[from] handshake::Mistake),
    #[error("this route does not pass on the upgrade to {0}")]
    UpgradeNotAllowed(String),
    /// It may come again on another connection.
    #[error("the connection has no client certificate that is accepted now")]
    NoClientCertificate,
    #[error("the route is not for this network")]
    NetworkDenied,
    /// With the origin.
    #[error("the route is not for pages of {0}")]
    OriginNotAllowed(String),
    // Of these seven, with the seconds to wait before the next try.
    #[error("the route has as many handshakes as it may have in this time")]
    HandshakeRate(u64),
    #[error("the client has made as many handshakes as it may in this time")]
    HandshakeRatePerClient(u64),
    #[error("the route has as many requests as it may have in this time")]
    RequestRate(u64),
    #[error("the client has sent as many requests as it may in this time")]
    RequestRatePerClient(u64),
    #[error("the route has as many tunnels as it may have")]
    MaxTunnels(u64),
    #[error("the client has as many tunnels as it may have")]
    MaxTunnelsPerClient(u64),
    #[error("the sticky key has as many tunnels as it may have")]
    MaxTunnelsPerStickyKey(u64),
    #[error("CONNECT is not passed on")]
    Connect,
    #[error("the upstream has no backend that can be tried")]
    NoBackend,
    #[error("no backend could be reached: {0}")]
    Dial(String),
    /// With the seconds to wait before the next try.
    #[error("every backend has as many tunnels or handshakes as it may have")]
    BackendsFull(u64),
    #[error("the backend did not answer in time ({0})")]
    BackendTimeout(&'static str),
    #[error("the backend's answer is not HTTP: {0}")]
    BackendProtocol(String),
    #[error("the backend switched protocols without being asked")]
    UnaskedUpgrade,
    /// Over HTTP/2, where the client would take it for an open tunnel.
    #[error("the backend answered {} instead of switching protocols", .0.as_u16())]
    NotUpgraded(StatusCode),
    #[error("the backend's handshake is wrong: {0}")]
    BackendHandshake(#[from] handshake::BadAnswer),
    #[error("the request body is malformed: {0}")]
    RequestBody(String),
    #[error("no part of the request body came within request_body_timeout")]
    RequestBodyTimeout,
    /// With the answer that the client gets.
    #[error("the auth upstream denies it with {}", .0.0.status())]
    AuthDenied(Box<Denial>),
    #[error("the auth upstream could not be asked: {0}")]
    AuthFailed(String),
    #[error("what the auth upstream grants has already ended")]
    AuthExpired,
    /// Before there is a request, and without an answer.
    #[error("PROXY headers are not accepted from this address")]
    UntrustedProxy,
    #[error("the PROXY header did not come within its timeout")]
    ProxyHeaderTimeout,
    #[error("{0}")]
    BadProxyHeader(#[from] proxy_protocol::Mistake),
    #[error("the proxy left within its PROXY header")]
    ProxyLeft,
    #[error("a PROXY header came, and the listener has no `proxy_protocol` that asks for it")]
    UnaskedProxyHeader,
    /// What the client is asked for.
    #[error("the request does not say who it is from")]
    NoCredentials(Challenge),
    #[error("{1}")]
    BadCredentials(Challenge, &'static str),
    #[error("too many passwords wait to be checked")]
    CredentialsBusy,
    #[error("the keys to check the token by have not been fetched yet")]
    NoKeys,
    #[error("the client left before the answer")]
    ClientLeft,
    #[error("a side left between the 101 and the tunnel")]
    NeverOpened,
    #[error("longhaul is stopping")]
    Stopping,
    /// A stream of an HTTP/2 connection counts as a connection.
    #[error("there is no place for another stream: {0}")]
    Full(net::Refused),
    /// Answered below HTTP, or by hyper with the status given.
    #[error("the request head is not acceptable: {1}")]
    BadHead(StatusCode, String),
    #[error("nothing came within first_byte_timeout")]
    FirstByteTimeout,
    #[error("the request head did not come within request_head_timeout")]
    RequestHeadTimeout,
}

impl Refusal {
    /// The status of the answer. 499 is never sent: the client has gone.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::BadHost
            | Self::BadPath
            | Self::BadRequest(_)
            | Self::RequestBody(_)
            | Self::BadProxyHeader(_)
            | Self::UnaskedProxyHeader => StatusCode::BAD_REQUEST,
            Self::RequestBodyTimeout
            | Self::FirstByteTimeout
            | Self::RequestHeadTimeout
            | Self::ProxyHeaderTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UntrustedProxy => StatusCode::FORBIDDEN,
            // RFC 9110 section 15.5.20: another connection would do.
            Self::NoClientCertificate => StatusCode::MISDIRECTED_REQUEST,
            Self::BadHead(status, _) => *status,
            Self::NeverOpened => StatusCode::SWITCHING_PROTOCOLS,
            Self::Handshake(mistake) => mistake.status(),
            Self::UpgradeNotAllowed(_) | Self::Connect => StatusCode::NOT_IMPLEMENTED,
            Self::NoBackend
            | Self::BackendsFull(_)
            | Self::AuthFailed(_)
            | Self::CredentialsBusy
            | Self::NoKeys
            | Self::Stopping
            | Self::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Dial(_)
            | Self::BackendProtocol(_)
            | Self::UnaskedUpgrade
            | Self::NotUpgraded(_)
            | Self::BackendHandshake(_) => StatusCode::BAD_GATEWAY,
            Self::BackendTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::NetworkDenied | Self::OriginNotAllowed(_) => StatusCode::FORBIDDEN,
            Self::HandshakeRate(_)
            | Self::HandshakeRatePerClient(_)
            | Self::RequestRate(_)
            | Self::RequestRatePerClient(_)
            | Self::MaxTunnels(_)
            | Self::MaxTunnelsPerClient(_)
            | Self::MaxTunnelsPerStickyKey(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::AuthDenied(denial) => denial.0.status(),
            Self::AuthExpired | Self::NoCredentials(_) | Self::BadCredentials(..) => {
                StatusCode::UNAUTHORIZED
            }
            Self::ClientLeft | Self::ProxyLeft => CLIENT_CLOSED_REQUEST,
        }
    }

    /// The word for this refusal in log and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::BadHost => "bad_host",
            Self::BadPath => "bad_path",
            Self::BadRequest(_) => "bad_request",
            Self::Handshake(_) => "bad_handshake",
            Self::UpgradeNotAllowed(_) => "upgrade_not_allowed",
            Self::NoClientCertificate => "no_client_certificate",
            Self::NetworkDenied => "network_denied",
            Self::OriginNotAllowed(_) => "origin_not_allowed",
            Self::HandshakeRate(_) => "handshake_rate",
            Self::HandshakeRatePerClient(_) => "handshake_rate_per_client",
            Self::RequestRate(_) => "request_rate",
            Self::RequestRatePerClient(_) => "request_rate_per_client",
            Self::MaxTunnels(_) => "max_tunnels",
            Self::MaxTunnelsPerClient(_) => "max_tunnels_per_client",
            Self::MaxTunnelsPerStickyKey(_) => "max_tunnels_per_sticky_key",
            Self::Connect => "connect",
            Self::NoBackend => "no_backend",
            Self::Dial(_) => "dial_failed",
            Self::BackendsFull(_) => "backends_full",
            Self::BackendTimeout(_) => "backend_timeout",
            Self::BackendProtocol(_) => "backend_protocol",
            Self::UnaskedUpgrade => "unasked_upgrade",
            Self::NotUpgraded(_) => "not_upgraded",
            Self::BackendHandshake(_) => "backend_handshake",
            Self::RequestBody(_) => "request_body",
            Self::RequestBodyTimeout => "request_body_timeout",
            Self::AuthDenied(_) => "auth_denied",
            Self::AuthFailed(_) => "auth_failed",
            Self::AuthExpired => "auth_expired",
            Self::UntrustedProxy => "untrusted_proxy",
            Self::ProxyHeaderTimeout => "proxy_header_timeout",
            Self::BadProxyHeader(_) => "bad_proxy_header",
            Self::ProxyLeft => "proxy_left",
            Self::UnaskedProxyHeader => "unasked_proxy_header",
            Self::NoCredentials(_) => "no_credentials",
            Self::BadCredentials(..) => "bad_credentials",
            Self::CredentialsBusy => "credentials_busy",
            Self::NoKeys => "no_keys",
            Self::ClientLeft => "client_left",
            Self::NeverOpened => "never_opened",
            Self::Stopping => "stopping",
            Self::Full(refused) => refused.label(),
            Self::BadHead(..) => "bad_head",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::RequestHeadTimeout => "request_head_timeout",
        }
    }

    /// The answer as the client sees it: a status and one line of reason.
    pub fn into_response(self) -> Response<Body> {
        if let Self::AuthDenied(denial) = self {
            return denial.0.map(Body::full);
        }
        let mut response = Response::new(Body::full(format!("{self}\n")));
        *response.status_mut() = self.status();
        if let Self::NoClientCertificate = self {
            response.extensions_mut().insert(Elsewhere);
        }
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if self.status() == StatusCode::UPGRADE_REQUIRED {
            // Which protocol and version would do (RFC 9110 section 15.5.22,
            // RFC 6455 section 4.4).
            let (protocol, version) = (handshake::WEBSOCKET, handshake::VERSION);
            headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
            headers.insert(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static(version),
            );
        }
        if let Self::NoCredentials(wanted) | Self::BadCredentials(wanted, _) = &self
            && let Ok(wanted) = HeaderValue::from_str(&wanted.0)
        {
            headers.insert(header::WWW_AUTHENTICATE, wanted);
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if !self.keeps_connection() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Seconds until it is worth another try.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::BackendsFull(seconds)
            | Self::HandshakeRate(seconds)
            | Self::HandshakeRatePerClient(seconds)
            | Self::RequestRate(seconds)
            | Self::RequestRatePerClient(seconds)
            | Self::MaxTunnels(seconds)
            | Self::MaxTunnelsPerClient(seconds)
            | Self::MaxTunnelsPerStickyKey(seconds) => Some(*seconds),
            _ => None,
        }
    }

    /// Whether another request may follow on the same connection. Upgrades that
    /// were refused are closed by [`crate::layers::record`].
    fn keeps_connection(&self) -> bool {
        !matches!(
            self,
            Self::Handshake(_)
                | Self::Connect
                | Self::RequestBody(_)
                | Self::RequestBodyTimeout
                | Self::BadRequest(_)
                | Self::NoClientCertificate
                | Self::Stopping
        )
    }
}

/// The status that proxies log for clients that went away (nginx's number).
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};
