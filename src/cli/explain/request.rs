//! The explained request, as a client would send it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request, Uri};

use super::door::Door;
use crate::cli::args::CheckArguments;
use crate::drain;
use crate::exchange::{Body, Client, Exchange, Http, Place, Record, TlsFacts};
use crate::net::{ClientLink, Limiter, Peer};
use crate::ws::handshake;

/// Where the explained client comes from unless `--client` says.
pub(super) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How the client spells its header names, line by line. hyper keeps the same,
/// and writes names without a spelling in lower case.
#[derive(Clone, Debug, Default)]
pub(super) struct Spelling(HashMap<HeaderName, Vec<String>>);

impl Spelling {
    /// The name of the line that is the `index`th of this name.
    pub(super) fn of<'a>(&'a self, name: &'a HeaderName, index: usize) -> &'a str {
        let spelled = self.0.get(name).and_then(|lines| lines.get(index));
        spelled.map_or(name.as_str(), String::as_str)
    }
}

pub(super) fn request(
    arguments: &CheckArguments,
    url: &Uri,
    door: &Door,
) -> anyhow::Result<Request<Body>> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = arguments.method.clone().unwrap_or_default();
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse()?;
    let mut spelling = Spelling::default();
    for (name, value) in lines(arguments, url)? {
        let header: HeaderName = name.parse()?;
        request.headers_mut().append(header.clone(), value);
        spelling.0.entry(header).or_default().push(name);
    }
    let ip = arguments.client.unwrap_or(CLIENT);
    let exchange = exchange(ip, door, &request)?;
    request.extensions_mut().insert(exchange);
    request.extensions_mut().insert(spelling);
    Ok(request)
}

/// The header lines, in their order.
fn lines(arguments: &CheckArguments, url: &Uri) -> anyhow::Result<Vec<(String, HeaderValue)>> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let mut lines = vec![("Host".to_owned(), HeaderValue::from_str(authority)?)];
    if matches!(url.scheme_str(), Some("ws" | "wss")) {
        let upgrade = [
            ("Upgrade", handshake::WEBSOCKET),
            ("Connection", "Upgrade"),
            // The example of RFC 6455 section 1.3.
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", handshake::VERSION),
        ];
        let line = |(name, value): (&str, _)| (name.to_owned(), HeaderValue::from_static(value));
        lines.extend(upgrade.map(line));
    }
    for subprotocol in &arguments.subprotocols {
        let value = HeaderValue::from_str(subprotocol)?;
        lines.push(("Sec-WebSocket-Protocol".to_owned(), value));
    }
    lines.extend(arguments.headers.iter().cloned());
    Ok(lines)
}

fn exchange(ip: IpAddr, door: &Door, request: &Request<Body>) -> anyhow::Result<Exchange> {
    // A limit of one, for the one client.
    let permit = Limiter::new(1, None).admit(None)?;
    let (_, watch) = drain::channel();
    let client = Arc::new(Client {
        listener: door.name().into(),
        peer: Peer::Tcp(SocketAddr::new(ip, 0)),
        local: door.port.map(|port| SocketAddr::new(ip, port)),
        origin: None,
        tls: door.secure.then(TlsFacts::default),
        http: Http::One,
        place: Arc::new(Place {
            _permit: permit,
            watch,
        }),
    });
    let (method, path) = (request.method().clone(), request.uri().to_string());
    Ok(Exchange {
        record: Record::new(Arc::clone(&client), method, String::new(), path),
        link: Arc::new(ClientLink::default()),
        client_ip: client.peer.ip(),
        is_placed: true,
        speaks_for_others: false,
        secure: door.secure,
        certified: false,
        client,
    })
}
