//! Who the client is, and what the backend is told about it.
//!
//! Nothing a peer says is believed unless its address is listed in
//! `trusted_proxies`; then the chain is walked from the right to the first
//! address that is not listed (`told` reads what they say). `X-Forwarded-For`,
//! `-Proto`, `-Host`, `-Port` and `Forwarded` (RFC 7239) are rebuilt, never
//! appended to blindly; from untrusted peers every other `X-Forwarded-*` and
//! `X-Real-IP` goes too.

use std::fmt::Write;
use std::net::IpAddr;

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use ipnet::IpNet;

use super::told::{FOR, FORWARDED_HOST, PORT, PROTO, Told};
use crate::config::ForwardedHeader;
use crate::exchange::{Body, Exchange};

const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Bytes of a usual chain of addresses; a usual `Forwarded` has as many for the host.
const USUAL: usize = 64;
const COMMA: &str = ", ";

/// What a client is called whom a trusted proxy cannot name (RFC 7239 section 6.2;
/// Squid writes the same into the older header).
const UNKNOWN: &str = "unknown";

/// Finds out who the client is, and says so to the exchange and the backend.
/// Proxies at the `trusted` addresses are believed, in `header` alone if there is one.
pub(super) fn settle(
    request: &mut Request<Body>,
    trusted: &[IpNet],
    header: Option<ForwardedHeader>,
) {
    let Some(exchange) = request.extensions().get::<Exchange>() else {
        return;
    };
    let view = View::of(request.headers(), exchange, trusted, header);
    let told = [FOR, FORWARDED].map(|name| request.headers().contains_key(name));
    view.write(request.headers_mut());
    if let Some(exchange) = request.extensions_mut().get_mut::<Exchange>() {
        view.tell(exchange);
        exchange.speaks_for_others = !view.trusted_peer && told.contains(&true);
    }
}

/// What is true of the client, as far as longhaul can know.
#[derive(Debug, PartialEq, Eq)]
struct View {
    trusted_peer: bool,
    /// From the client, or whoever is nearest to one without a name, to the peer;
    /// empty if nobody has an address.
    chain: Vec<IpAddr>,
    /// A trusted proxy has not said who came to it.
    unnamed: bool,
    /// Trusted proxies say two things.
    disputed: bool,
    proto: &'static str,
    host: Option<HeaderValue>,
    port: Option<HeaderValue>,
}

impl View {
    fn of(
        headers: &HeaderMap,
        exchange: &Exchange,
        trusted: &[IpNet],
        header: Option<ForwardedHeader>,
    ) -> Self {
        let client = &exchange.client;
        let trusted_peer = super::is_trusted(client, trusted);
        let own_proto = if client.is_secure() { "https" } else { "http" };
        let mut view = Self {
            trusted_peer,
            chain: client.peer.ip().into_iter().collect(),
            unnamed: false,
            disputed: false,
            proto: own_proto,
            host: headers.get(HOST).cloned(),
            port: client.local.map(|local| HeaderValue::from(local.port())),
        };
        if !trusted_peer {
            return view;
        }
        let told = Told::new(headers, header);
        let walk = told.walk(client.peer.ip(), trusted);
        (view.chain, view.unnamed, view.disputed) = (walk.chain, walk.unnamed, walk.disputed);
        view.proto = told.proto().unwrap_or(own_proto);
        view.host = told.host().or(view.host);
        view.port = told.port().or(view.port);
        view
    }

    fn client_ip(&self) -> Option<IpAddr> {
        self.chain.first().copied()
    }

    /// What the exchange is to know.
    fn tell(&self, exchange: &mut Exchange) {
        let client = match self.client_ip() {
            _ if self.unnamed => Some(UNKNOWN.to_owned()),
            ip if ip == exchange.client.peer.ip() => None,
            ip => ip.map(|ip| ip.to_string()),
        };
        if client.is_some() {
            exchange.record.update(|entry| entry.forwarded_for = client);
        }
        exchange.client_ip = self.client_ip();
        exchange.is_placed = !self.unnamed && !self.disputed;
        exchange.secure = self.proto == "https";
    }

    fn write(&self, headers: &mut HeaderMap) {
        self.strip(headers);
        let chain = self.chain();
        if !chain.is_empty()
            && let Ok(value) = HeaderValue::from_str(&chain)
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

    /// As `X-Forwarded-For` has it.
    fn chain(&self) -> String {
        let mut text = String::with_capacity(USUAL);
        if self.unnamed {
            text.push_str(UNKNOWN);
        }
        for ip in &self.chain {
            if !text.is_empty() {
                text.push_str(COMMA);
            }
            write_address(*ip, &mut text);
        }
        text
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

    /// RFC 7239: one element for each hop; host and proto with the first. `chain` as
    /// in [`View::chain`].
    fn forwarded(&self, chain: &str) -> Option<HeaderValue> {
        let chain = if chain.is_empty() { UNKNOWN } else { chain };
        let mut text = String::with_capacity(2 * USUAL);
        for (index, ip) in chain.split(COMMA).enumerate() {
            if index > 0 {
                text.push_str(COMMA);
            }
            write_node(ip, &mut text);
            if index == 0 {
                self.write_origin(&mut text);
            }
        }
        HeaderValue::from_str(&text).ok()
    }

    fn write_origin(&self, text: &mut String) {
        let host = self.host.as_ref().and_then(|host| host.to_str().ok());
        if let Some(host) = host.filter(|host| !host.contains(['"', '\\'])) {
            text.extend([";host=\"", host, "\""]);
        }
        text.extend([";proto=", self.proto]);
    }
}

/// As it displays itself, but an address of IPv4 without what `fmt` takes for four
/// numbers, a thousand instructions for each request.
fn write_address(ip: IpAddr, text: &mut String) {
    match ip {
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push('.');
                }
                text.push_str(itoa::Buffer::new().format(octet));
            }
        }
        // A String takes whatever is written.
        IpAddr::V6(ip) => drop(write!(text, "{ip}")),
    }
}

/// RFC 7239 section 6: IPv6 in brackets and quotes.
fn write_node(ip: &str, text: &mut String) {
    match ip.contains(':') {
        true => text.extend(["for=\"[", ip, "]\""]),
        false => text.extend(["for=", ip]),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::exchange::{Client, Place, Record};
    use crate::net::{ClientLink, Limiter, Peer};

    fn view(peer: &str, trusted: &[&str], lines: &[(&'static str, &str)]) -> (View, HeaderMap) {
        view_by(None, peer, trusted, lines)
    }

    fn view_by(
        header: Option<ForwardedHeader>,
        peer: &str,
        trusted: &[&str],
        lines: &[(&'static str, &str)],
    ) -> (View, HeaderMap) {
        let client = Arc::new(Client {
            listener: "a".into(),
            peer: Peer::Tcp(peer.parse().unwrap()),
            local: Some("192.0.2.1:443".parse().unwrap()),
            proxied: None,
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
            is_placed: true,
            speaks_for_others: false,
            secure: false,
            certified: false,
        };
        let trusted: Vec<_> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let mut headers: HeaderMap = lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        let view = View::of(&headers, &exchange, &trusted, header);
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
        for told in [
            "192.0.2.7, unknown",
            "192.0.2.7, fe80::1%eth0",
            "192.0.2.7, unknown, 10.0.0.2",
            "192.0.2.7, \u{ff}",
        ] {
            let (view, headers) = view("10.0.0.1:1", &["10.0.0.0/8"], &[("x-forwarded-for", told)]);
            // Who is counted, and who is in no network for it.
            let nearest = told
                .strip_prefix("192.0.2.7, unknown, ")
                .unwrap_or("10.0.0.1");
            assert_eq!(view.client_ip(), Some(nearest.parse().unwrap()), "{told}");
            assert!(view.unnamed, "{told}");
            let backend = headers["x-forwarded-for"].to_str().unwrap();
            assert!(backend.starts_with("unknown, 10.0.0."), "{backend}");
            let backend = headers["forwarded"].to_str().unwrap();
            assert!(
                backend.starts_with("for=unknown;proto=http, for=10.0.0."),
                "{backend}"
            );
        }
        // Behind whoever is not trusted nothing is read.
        let told = "unknown, 192.0.2.7";
        let (view, _) = view("10.0.0.1:1", &["10.0.0.0/8"], &[("x-forwarded-for", told)]);
        assert!(!view.unnamed);
    }

    #[test]
    fn two_headers_that_name_two_clients_are_disputed() {
        let both = |older, newer| [("x-forwarded-for", older), ("forwarded", newer)];
        let judge = |header, lines: [_; 2]| {
            let (view, _) = view_by(header, "10.0.0.1:1", &["10.0.0.0/8"], &lines);
            (view.client_ip().unwrap().to_string(), view.disputed)
        };
        let [older, newer] = ["192.0.2.7", "192.0.2.8"];
        let lines = both("6.6.6.6, 192.0.2.7", "for=6.6.6.6, for=192.0.2.8");
        assert_eq!(judge(None, lines), (older.to_owned(), true));
        let header = Some(ForwardedHeader::XForwardedFor);
        assert_eq!(judge(header, lines), (older.to_owned(), false));
        let header = Some(ForwardedHeader::Forwarded);
        assert_eq!(judge(header, lines), (newer.to_owned(), false));
        for (newer, disputed) in [
            ("for=\"192.0.2.7:99\"", false),
            ("for=6.6.6.6, for=192.0.2.7, for=10.0.0.3", false),
            ("for=unknown", true),
            ("proto=https", true),
            ("", true),
        ] {
            let lines = both("192.0.2.7", newer);
            assert_eq!(judge(None, lines), (older.to_owned(), disputed), "{newer}");
        }
        assert_eq!(
            judge(None, both("", "for=192.0.2.8")),
            ("10.0.0.1".to_owned(), true)
        );
    }

    #[test]
    fn what_a_proxy_writes_is_read_and_nothing_else() {
        let lines = [
            ("host", "chat.example"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-port", "6"),
            (
                "forwarded",
                "for=192.0.2.7;proto=https;host=\"a.example:8443\"",
            ),
        ];
        let header = Some(ForwardedHeader::Forwarded);
        let (_, headers) = view_by(header, "10.0.0.1:1", &["10.0.0.0/8"], &lines);
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.7, 10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example:8443"),
            ("x-forwarded-port", "443"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        let header = Some(ForwardedHeader::XForwardedFor);
        let (_, headers) = view_by(header, "10.0.0.1:1", &["10.0.0.0/8"], &lines[4..]);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.1");
        assert_eq!(headers["x-forwarded-proto"], "http");
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
