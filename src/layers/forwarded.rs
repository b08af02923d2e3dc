//! Who the client is, and what the backend is told about it.
//!
//! Nothing a peer says is believed unless its address is listed in
//! `trusted_proxies`; then the chain is walked from the right to the first
//! address that is not listed. `X-Forwarded-For`, `-Proto`, `-Host`, `-Port`
//! and `Forwarded` (RFC 7239) are rebuilt, never appended to blindly; from
//! untrusted peers every other `X-Forwarded-*` and `X-Real-IP` goes too.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use ipnet::IpNet;
use tower::{Layer, Service};

use crate::exchange::{Body, Exchange, Refusal};
use crate::ws::handshake::tokens;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Bytes of a usual `Forwarded`.
const USUAL: usize = 64;

/// Longest chain of addresses that is read from a trusted peer.
const MAX_CHAIN: usize = 32;

#[derive(Clone, Debug)]
pub struct ForwardedLayer {
    pub trusted: Arc<[IpNet]>,
}

#[derive(Clone, Debug)]
pub struct ForwardedService<S> {
    inner: S,
    trusted: Arc<[IpNet]>,
}

impl<S> Layer<S> for ForwardedLayer {
    type Service = ForwardedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ForwardedService {
            inner,
            trusted: Arc::clone(&self.trusted),
        }
    }
}

impl<S> Service<Request<Body>> for ForwardedService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Refusal>,
{
    type Response = Response<Body>;
    type Error = Refusal;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let exchange = request.extensions().get::<Exchange>();
        let view = exchange.map(|exchange| View::of(request.headers(), exchange, &self.trusted));
        if let Some(view) = view {
            let told = [FOR, FORWARDED].map(|name| request.headers().contains_key(name));
            view.write(request.headers_mut());
            if let Some(exchange) = request.extensions_mut().get_mut::<Exchange>() {
                view.tell(exchange);
                exchange.speaks_for_others = !view.trusted_peer && told.contains(&true);
            }
        }
        self.inner.call(request)
    }
}

/// What is true of the client, as far as longhaul can know.
#[derive(Debug, PartialEq, Eq)]
struct View {
    trusted_peer: bool,
    /// From the client to the peer; empty if neither has an address.
    chain: Vec<IpAddr>,
    proto: &'static str,
    host: Option<HeaderValue>,
    port: Option<HeaderValue>,
}

impl View {
    fn of(headers: &HeaderMap, exchange: &Exchange, trusted: &[IpNet]) -> Self {
        let client = &exchange.client;
        let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip));
        let trusted_peer = super::is_trusted(client, trusted);
        let own_proto = if client.is_secure() { "https" } else { "http" };
        let mut view = Self {
            trusted_peer,
            chain: client.peer.ip().into_iter().collect(),
            proto: own_proto,
            host: headers.get(HOST).cloned(),
            port: client.local.map(|local| HeaderValue::from(local.port())),
        };
        if !trusted_peer {
            return view;
        }
        for hop in told_chain(headers) {
            let before_first = view.chain.first().is_none_or(|first| is_trusted(*first));
            if !before_first || view.chain.len() >= MAX_CHAIN {
                break;
            }
            view.chain.insert(0, hop);
        }
        view.proto = told_proto(headers).unwrap_or(own_proto);
        view.host = last(headers, &FORWARDED_HOST).or(view.host);
        view.port = last(headers, &PORT).or(view.port);
        view
    }

    fn client_ip(&self) -> Option<IpAddr> {
        self.chain.first().copied()
    }

    /// What the exchange is to know.
    fn tell(&self, exchange: &mut Exchange) {
        if self.client_ip() != exchange.client.peer.ip() {
            let client = self.client_ip().map(|ip| ip.to_string());
            exchange.record.update(|entry| entry.forwarded_for = client);
        }
        exchange.client_ip = self.client_ip();
        exchange.secure = self.proto == "https";
    }

    fn write(&self, headers: &mut HeaderMap) {
        self.strip(headers);
        let chain: Vec<String> = self.chain.iter().map(ToString::to_string).collect();
        if !chain.is_empty()
            && let Ok(value) = HeaderValue::try_from(chain.join(", "))
        {
            headers.insert(FOR, value);
        }
        headers.insert(PROTO, HeaderValue::from_static(self.proto));
        if let Some(host) = &self.host {
            headers.insert(FORWARDED_HOST, host.clone());
        }
        if let Some(port) = &self.port {
            headers.insert(PORT, port.clone());
        }
        if let Some(value) = self.forwarded(&chain) {
            headers.insert(FORWARDED, value);
        }
    }

    /// Takes off whatever the peer said that longhaul does not vouch for.
    fn strip(&self, headers: &mut HeaderMap) {
        let rebuilt = [FOR, PROTO, FORWARDED_HOST, PORT, FORWARDED];
        let gone: Vec<HeaderName> = headers
            .keys()
            .filter(|name| {
                let name = name.as_str();
                // Nothing else does, and most names do not.
                if !name.starts_with(['x', 'f']) {
                    return false;
                }
                // Some servers read `_` as `-` (RFC 3875 section 4.1.18).
                let folded = name.contains('_').then(|| name.replace('_', "-"));
                let name = folded.as_deref().unwrap_or(name);
                rebuilt.iter().any(|rebuilt| rebuilt == name)
                    || !self.trusted_peer && (name.starts_with("x-forwarded-") || REAL_IP == name)
            })
            .cloned()
            .collect();
        for name in gone {
            headers.remove(name);
        }
    }

    /// RFC 7239: one element for each hop; host and proto with the first. `chain`
    /// has the addresses as text.
    fn forwarded(&self, chain: &[String]) -> Option<HeaderValue> {
        let mut text = String::with_capacity(USUAL);
        for (index, ip) in chain.iter().enumerate() {
            if index > 0 {
                text.push_str(", ");
            }
            write_node(ip, &mut text);
            if index == 0 {
                self.write_origin(&mut text);
            }
        }
        if self.chain.is_empty() {
            text.push_str("for=unknown");
            self.write_origin(&mut text);
        }
        HeaderValue::try_from(text).ok()
    }

    fn write_origin(&self, text: &mut String) {
        let host = self.host.as_ref().and_then(|host| host.to_str().ok());
        if let Some(host) = host.filter(|host| !host.contains(['"', '\\'])) {
            text.extend([";host=\"", host, "\""]);
        }
        text.extend([";proto=", self.proto]);
    }
}

/// RFC 7239 section 6: IPv6 in brackets and quotes.
fn write_node(ip: &str, text: &mut String) {
    match ip.contains(':') {
        true => text.extend(["for=\"[", ip, "]\""]),
        false => text.extend(["for=", ip]),
    }
}

/// The addresses a trusted peer names, nearest first, up to the first that is
/// no address.
fn told_chain(headers: &HeaderMap) -> Vec<IpAddr> {
    let mut hops: Vec<Option<IpAddr>> = if headers.contains_key(FOR) {
        tokens(headers, &FOR).map(address).collect()
    } else {
        tokens(headers, &FORWARDED)
            .map(|element| parameter(element, "for").and_then(address))
            .collect()
    };
    hops.reverse();
    hops.into_iter().map_while(|hop| hop).collect()
}

fn told_proto(headers: &HeaderMap) -> Option<&'static str> {
    let told = last(headers, &PROTO);
    let told = match &told {
        Some(value) => value.to_str().ok()?,
        None => tokens(headers, &FORWARDED)
            .last()
            .and_then(|e| parameter(e, "proto"))?,
    };
    match told.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some("https"),
        "http" | "ws" => Some("http"),
        _ => None,
    }
}

/// The last value of a list: the nearest proxy's word.
fn last(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    tokens(headers, name)
        .last()
        .and_then(|value| HeaderValue::from_str(value).ok())
}

/// An address as forwarded headers write it: with or without port, brackets
/// and quotes.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|ip: IpAddr| ip.to_canonical())
}

/// The value of one parameter of a `Forwarded` element.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Client, Place, Record};
    use crate::net::{ClientLink, Limiter, Peer};

    fn view(peer: &str, trusted: &[&str], lines: &[(&'static str, &str)]) -> (View, HeaderMap) {
        let client = Arc::new(Client {
            listener: "a".into(),
            peer: Peer::Tcp(peer.parse().unwrap()),
            local: Some("192.0.2.1:443".parse().unwrap()),
            origin: None,
            tls: None,
            http: crate::exchange::Http::One,
            place: Arc::new(Place {
                _permit: Limiter::new(1, None).admit(None).unwrap(),
                watch: crate::drain::channel().1,
            }),
        });
        let exchange = Exchange {
            link: Arc::new(ClientLink::default()),
            record: Record::new(
                Arc::clone(&client),
                http::Method::GET,
                String::new(),
                String::new(),
            ),
            client,
            client_ip: None,
            speaks_for_others: false,
            secure: false,
        };
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let mut headers: HeaderMap = lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        let view = View::of(&headers, &exchange, &trusted);
        view.write(&mut headers);
        (view, headers)
    }

    #[test]
    fn an_untrusted_peer_is_not_believed() {
        let spoof = [
            ("host", "chat.example"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-prefix", "/admin"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ];
        let (view, headers) = view("192.0.2.9:1234", &["10.0.0.0/8"], &spoof);
        assert_eq!(view.client_ip(), Some("192.0.2.9".parse().unwrap()));
        assert_eq!(headers["x-forwarded-for"], "192.0.2.9");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "chat.example");
        assert_eq!(headers["x-forwarded-port"], "443");
        assert_eq!(
            headers["forwarded"],
            "for=192.0.2.9;host=\"chat.example\";proto=http"
        );
        assert!(!headers.contains_key("x-real-ip"));
        assert!(!headers.contains_key("x-forwarded-prefix"));
    }

    #[test]
    fn the_chain_ends_at_the_first_untrusted_address() {
        let (view, headers) = view(
            "10.0.0.1:1",
            &["10.0.0.0/8"],
            &[
                ("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.0.0.2"),
                ("x-forwarded-proto", "wss"),
            ],
        );
        assert_eq!(view.client_ip(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7, 10.0.0.2, 10.0.0.1");
        assert_eq!(headers["x-forwarded-proto"], "https");
    }

    #[test]
    fn garbage_in_the_chain_hides_what_is_behind_it() {
        let (view, _) = view(
            "10.0.0.1:1",
            &["10.0.0.0/8"],
            &[("x-forwarded-for", "192.0.2.7, unknown")],
        );
        assert_eq!(view.client_ip(), Some("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn forwarded_is_read_where_the_older_header_is_absent() {
        let (view, headers) = view(
            "10.0.0.1:1",
            &["10.0.0.0/8"],
            &[("forwarded", "for=\"[2001:db8::7]:99\";proto=https;by=x")],
        );
        assert_eq!(view.client_ip(), Some("2001:db8::7".parse().unwrap()));
        assert_eq!(view.proto, "https");
        assert_eq!(
            headers["forwarded"],
            "for=\"[2001:db8::7]\";proto=https, for=10.0.0.1"
        );
    }
}
