//! A tunnel, what ends it, and what both its sides are told.

use serde_json::json;

use crate::kit::{Echo, Opcode, Over, Proxy, RawBackend, Site, Wire, soon};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Stop,
    Drain,
    Removed,
    Unhealthy,
    Rebalance,
    Operator,
    MaxLifetime,
    IdleTimeout,
}

pub const REASONS: [(Why, u16, &str); 8] = [
    (Why::Stop, 4001, "server is stopping"),
    (Why::Drain, 4002, "backend is draining"),
    (Why::Removed, 4003, "backend was removed"),
    (Why::Unhealthy, 4004, "backend is unhealthy"),
    (Why::Rebalance, 4005, "connections are being rebalanced"),
    (Why::Operator, 4006, "closed by an operator"),
    (Why::MaxLifetime, 4007, "maximum lifetime reached"),
    (Why::IdleTimeout, 4008, "idle for too long"),
];

/// A code for each.
pub const CODES: &str = "close_codes = { stop = 4001, drain = 4002, removed = 4003, unhealthy = 4004, \
                     rebalance = 4005, operator = 4006, max_lifetime = 4007, idle_timeout = 4008, \
                     ping_timeout = 4009 }";

/// What `[drain]`, the upstream's `drain` and the route say.
#[derive(Clone, Copy, Default)]
pub struct Said {
    pub all: &'static str,
    pub own: &'static str,
    pub route: &'static str,
}

/// Two backends, of which the second has nothing at first.
pub struct Place {
    raw: Option<RawBackend>,
    address: String,
    other: Echo,
}

impl Place {
    pub async fn new() -> Self {
        let raw = RawBackend::start().await;
        Self {
            address: raw.address().to_owned(),
            raw: Some(raw),
            other: Echo::start("other").await,
        }
    }

    /// `states`: of both; one without is not there.
    pub fn site(&self, said: Said, states: [Option<&str>; 2], upstream: &str) -> String {
        let addresses = [("raw", &*self.address), self.other.entry()];
        let entry = |((name, address), state): ((&str, &str), Option<&str>)| {
            let state = state?;
            Some(format!(
                "{{ name = '{name}', address = '{address}', state = '{state}' }}"
            ))
        };
        let entries: Vec<_> = addresses
            .into_iter()
            .zip(states)
            .filter_map(entry)
            .collect();
        let text = Site::of(&[])
            .route(said.route)
            .upstream("on_removed = 'drain'\non_unhealthy = 'drain'")
            .upstream("balance = 'least_connections'")
            .upstream(&format!("drain = {{ window = '0s'{} }}", said.own))
            .upstream(upstream)
            .more(&format!("[drain]\nwindow = '0s'\n{}\n", said.all))
            .to_string();
        text.replace(
            "backends = []",
            &format!("backends = [{}]", entries.join(", ")),
        )
    }

    pub async fn start(&self, over: Over, said: Said) -> Proxy {
        let site = self.site(said, [Some("active"), Some("disabled")], "");
        Proxy::start(site).await.over(over)
    }

    /// A tunnel to the first backend, by both its ends.
    pub async fn open(&self, proxy: &Proxy) -> [Wire; 2] {
        let raw = self.raw.as_ref().expect("the backend");
        let log = proxy.log.tail();
        let (client, server) = proxy.tunnel(raw).await;
        // A client has its 101 a moment before that.
        log.wait("tunnel opened", &[]).await;
        [client, server]
    }

    /// Does what ends the tunnels.
    pub async fn end(&mut self, proxy: &Proxy, why: Why, said: Said) {
        let both = [Some("active"), Some("active")];
        match why {
            Why::Stop => proxy.terminate(),
            Why::Drain => {
                let states = [Some("draining"), Some("active")];
                proxy.reload(self.site(said, states, "")).await;
            }
            Why::Removed => {
                proxy
                    .reload(self.site(said, [None, Some("active")], ""))
                    .await;
            }
            Why::Unhealthy => {
                let health = "health = { type = 'tcp', interval = '50ms', fall = 1 }";
                proxy.reload(self.site(said, both, health)).await;
                // The tunnel's socket stays, and nobody listens any more.
                self.raw = None;
            }
            Why::Rebalance => {
                proxy.reload(self.site(said, both, "")).await;
                let body = json!({ "upstream": "app", "to": 0.0 });
                let (code, begun) = proxy.ask_admin("/rebalance", Some(body)).await;
                assert_eq!((code, &begun["closing"]), (200, &json!(1)), "{begun}");
            }
            Why::Operator => close_all(proxy, json!({ "all": true })).await,
            // A clock does.
            Why::MaxLifetime | Why::IdleTimeout => {}
        }
    }
}

pub async fn close_all(proxy: &Proxy, body: serde_json::Value) {
    let (code, begun) = proxy.ask_admin("/tunnels/close", Some(body)).await;
    assert_eq!(code, 200, "{begun}");
}

/// Code and reason of the Close frame that comes next; `None` if the end comes without one.
pub async fn told_why(wire: &mut Wire, masked: bool) -> Option<(u16, String)> {
    if !soon("the end of a tunnel", wire.readable()).await {
        return None;
    }
    let frame = wire.frame().await;
    assert_eq!((frame.opcode, frame.masked), (Opcode::Close, masked));
    let reason = String::from_utf8(frame.payload[2..].to_vec());
    Some((frame.close_code().expect("a code"), reason.expect("UTF-8")))
}

pub async fn told(wire: &mut Wire, masked: bool) -> Option<u16> {
    told_why(wire, masked).await.map(|(code, _)| code)
}

/// What both sides of a tunnel are told that ends like that.
pub async fn ended_by(over: Over, why: Why, said: Said) -> [Option<(u16, String)>; 2] {
    let mut place = Place::new().await;
    let route = match why {
        Why::MaxLifetime => "max_lifetime = '300ms'\nmax_lifetime_jitter = 0.0",
        Why::IdleTimeout => "idle_timeout = '300ms'",
        _ => "",
    };
    let said = Said { route, ..said };
    let proxy = place.start(over, said).await;
    let [mut client, mut server] = place.open(&proxy).await;
    // One of two is in excess, and that is the older one.
    let _another = match why {
        Why::Rebalance => Some(place.open(&proxy).await),
        _ => None,
    };
    place.end(&proxy, why, said).await;
    [
        told_why(&mut client, false).await,
        told_why(&mut server, true).await,
    ]
}

/// The codes alone.
pub async fn ended(over: Over, why: Why, said: Said) -> [Option<u16>; 2] {
    let both = ended_by(over, why, said).await;
    both.map(|told| told.map(|(code, _)| code))
}
