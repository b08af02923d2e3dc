//! `check --explain URL`: one request through the very layers and tables that
//! serve, up to the moment before a backend is dialled.

use std::fmt::Write as _;
use std::future::ready;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, Uri, header};
use tower::Service;

use super::args::CheckArguments;
use crate::config::Balance;
use crate::drain;
use crate::exchange::headers::renew_hop_by_hop;
use crate::exchange::{Body, Client, Exchange, Http, Record, Refusal, Reply, Target, TlsFacts};
use crate::layers;
use crate::net::{ClientLink, Limiter, Peer};
use crate::proxy;
use crate::route::{self, PRECEDENCE};
use crate::state::{Prepared, Snapshot};
use crate::ws::handshake;

/// Where the explained client comes from unless `--client` says.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What would become of the request, as text.
pub(super) fn explain(
    arguments: &CheckArguments,
    url: &Uri,
    prepared: &Prepared,
) -> anyhow::Result<String> {
    let request = request(arguments, url)?;
    let trusted = prepared.config().trusted_proxies.clone().into();
    let innermost = Innermost {
        snapshot: prepared.snapshot(),
        text: Arc::default(),
    };
    let text = Arc::clone(&innermost.text);
    let mut service = layers::settle(trusted, innermost);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let answered = runtime.block_on(service.call(request));
    let mut text = std::mem::take(&mut *text.lock().unwrap_or_else(PoisonError::into_inner));
    if let Err(refusal) = answered {
        writeln!(
            text,
            "refused   {} ({}): {refusal}",
            refusal.status(),
            refusal.label()
        )?;
    }
    Ok(text)
}

/// The request as a client would send it.
fn request(arguments: &CheckArguments, url: &Uri) -> anyhow::Result<Request<Body>> {
    let secure = matches!(url.scheme_str(), Some("https" | "wss"));
    let upgrades = matches!(url.scheme_str(), Some("ws" | "wss"));
    let mut request = Request::new(Body::empty());
    *request.method_mut() = arguments.method.clone().unwrap_or_default();
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse()?;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(authority)?);
    if upgrades {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(
            header::UPGRADE,
            HeaderValue::from_static(handshake::WEBSOCKET),
        );
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static(handshake::VERSION),
        );
        // The example of RFC 6455 section 1.3.
        headers.insert(
            header::SEC_WEBSOCKET_KEY,
            HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="),
        );
    }
    for subprotocol in &arguments.subprotocols {
        headers.append(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_str(subprotocol)?,
        );
    }
    for (name, value) in &arguments.headers {
        headers.append(name.clone(), value.clone());
    }
    let default_port = if secure { 443 } else { 80 };
    let port = url.port_u16().unwrap_or(default_port);
    let ip = arguments.client.unwrap_or(CLIENT);
    let exchange = exchange(ip, port, secure, &request)?;
    request.extensions_mut().insert(exchange);
    Ok(request)
}

fn exchange(
    ip: IpAddr,
    port: u16,
    secure: bool,
    request: &Request<Body>,
) -> anyhow::Result<Exchange> {
    // A limit of one, for the one client.
    let permit = Limiter::new(1, None).admit(None)?;
    let (_, watch) = drain::channel();
    let client = Arc::new(Client {
        listener: "explained".into(),
        peer: Peer::Tcp(SocketAddr::new(ip, 0)),
        local_port: Some(port),
        tls: secure.then(TlsFacts::default),
        http: Http::One,
        _permit: permit,
        watch,
    });
    let path = request.uri().to_string();
    Ok(Exchange {
        record: Record::new(
            Arc::clone(&client),
            request.method().clone(),
            String::new(),
            path,
        ),
        link: Arc::new(ClientLink::default()),
        client_ip: client.peer.ip(),
        secure,
        client,
    })
}

/// Stands where the router and the proxy stand when it is for real.
#[derive(Clone)]
struct Innermost<'s> {
    snapshot: &'s Snapshot,
    text: Arc<Mutex<String>>,
}

impl Service<Request<Body>> for Innermost<'_> {
    type Response = Response<Body>;
    type Error = Refusal;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let told = tell(&mut text, self.snapshot, request);
        Box::pin(ready(told.map(|()| Response::new(Body::empty()))))
    }
}

fn tell(text: &mut String, snapshot: &Snapshot, mut request: Request<Body>) -> Result<(), Refusal> {
    tell_routes(text, snapshot, &request);
    let host = request
        .extensions()
        .get::<Target>()
        .map_or("", |target| target.host.as_str());
    let route = snapshot
        .table
        .lookup(&route::Request {
            host,
            path: request.uri().path(),
            method: request.method(),
            headers: request.headers(),
        })
        .map(|entry| Arc::clone(&entry.route))
        .ok_or(Refusal::NoRoute)?;
    line(text, "route", &route.name);
    let asked = proxy::asked_upgrade(&route, &request)?;
    if asked.as_deref() == Some(handshake::WEBSOCKET) {
        handshake::check_request(request.method(), request.version(), request.headers())?;
    }
    tell_backend(text, &route, &request);
    renew_hop_by_hop(request.headers_mut(), asked.as_deref());
    tell_head(text, &request);
    Ok(())
}

fn tell_routes(text: &mut String, snapshot: &Snapshot, request: &Request<Body>) {
    let host = request
        .extensions()
        .get::<Target>()
        .map_or("", |target| target.host.as_str());
    let looked_up = route::Request {
        host,
        path: request.uri().path(),
        method: request.method(),
        headers: request.headers(),
    };
    line(text, "routes", "the first that matches, in this order:");
    for considered in snapshot.table.explain(&looked_up) {
        let verdict = if considered.matches() {
            "matches".to_owned()
        } else {
            let misses: Vec<String> = considered.misses.iter().map(ToString::to_string).collect();
            format!("not for this: {}", misses.join(", "))
        };
        line(
            text,
            "",
            &format!("- {}: {verdict}", considered.target.route.name),
        );
    }
    line(text, "order", PRECEDENCE);
}

fn tell_backend(text: &mut String, route: &proxy::Route, request: &Request<Body>) {
    let Some(exchange) = request.extensions().get::<Exchange>() else {
        return;
    };
    let upstream = &route.upstream;
    let affinity = proxy::affinity(upstream, exchange, request.uri(), request.headers());
    let key = affinity
        .key
        .map(|key| format!(", key hash {key:016x}"))
        .unwrap_or_default();
    line(text, "sticky", &format!("{}{key}", affinity.source));
    line(text, "upstream", upstream.name());
    let Some(index) = affinity
        .backend
        .filter(|index| upstream.may_use(*index))
        .or_else(|| upstream.pick(affinity.key, &[]))
    else {
        line(text, "backend", "none can be tried");
        return;
    };
    let by_key = affinity.backend.is_some()
        || affinity.key.is_some() && upstream.settings().balance == Balance::Hash;
    let note = if by_key {
        ""
    } else {
        " (this time: the pick does not depend on a key)"
    };
    let backend = &upstream.backends()[index];
    line(
        text,
        "backend",
        &format!("{} at {}{note}", backend.name(), backend.address()),
    );
    if affinity.sets_cookie && affinity.backend != Some(index) {
        let (cookie, value) = (&upstream.settings().cookie, upstream.cookie_value(index));
        line(text, "cookie", &format!("set to {}={value}", cookie.name));
    }
}

fn tell_head(text: &mut String, request: &Request<Body>) {
    text.push_str("\nthe backend would get:\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{} {} HTTP/1.1", request.method(), request.uri());
    for (name, value) in request.headers() {
        let _ = writeln!(
            text,
            "{name}: {}",
            String::from_utf8_lossy(value.as_bytes())
        );
    }
}

fn line(text: &mut String, what: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{what:<9} {value}");
}
