//! What both sides of a tunnel are told when longhaul ends it, for each reason why.

use serde_json::json;

use crate::kit::{Echo, Opcode, Over, Proxy, RawBackend, Site, Wire, handshake, over_each, soon};

over_each!(
    on two threads:
    each_reason_has_its_text_and_the_code_that_is_said_for_it,
    the_reason_that_an_operator_gives_arrives,
    an_upstream_has_codes_of_its_own,
    none_for_one_reason_is_a_close_without_a_frame,
    an_edit_of_the_codes_holds_for_the_next_close,
    the_codes_of_its_own_clocks_a_tunnel_keeps,
    a_side_that_hangs_has_its_own_code_told_to_the_other,
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Stop,
    Drain,
    Removed,
    Unhealthy,
    Rebalance,
    Operator,
    MaxLifetime,
    IdleTimeout,
}

const REASONS: [(Why, u16, &str); 8] = [
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
const CODES: &str = "close_codes = { stop = 4001, drain = 4002, removed = 4003, unhealthy = 4004, \
                     rebalance = 4005, operator = 4006, max_lifetime = 4007, idle_timeout = 4008, \
                     ping_timeout = 4009 }";

/// What `[drain]`, the upstream's `drain` and the route say.
#[derive(Clone, Copy, Default)]
struct Said {
    all: &'static str,
    own: &'static str,
    route: &'static str,
}

/// Two backends, of which the second has nothing at first.
struct Place {
    raw: Option<RawBackend>,
    address: String,
    other: Echo,
}

impl Place {
    async fn new() -> Self {
        let raw = RawBackend::start().await;
        Self {
            address: raw.address().to_owned(),
            raw: Some(raw),
            other: Echo::start("other").await,
        }
    }

    /// `states`: of both; one without is not there.
    fn site(&self, said: Said, states: [Option<&str>; 2], upstream: &str) -> String {
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

    async fn start(&self, over: Over, said: Said) -> Proxy {
        let site = self.site(said, [Some("active"), Some("disabled")], "");
        Proxy::start(site).await.over(over)
    }

    /// A tunnel to the first backend, by both its ends.
    async fn open(&self, proxy: &Proxy) -> [Wire; 2] {
        let raw = self.raw.as_ref().expect("the backend");
        let log = proxy.log.tail();
        let mut client = proxy.connect().await;
        client.send(handshake("/", "h", "")).await;
        let mut server = raw.accept().await;
        server.request().await;
        server.switch("").await;
        assert_eq!(client.response_head().await.status, 101);
        // A client has its 101 a moment before that.
        log.wait("tunnel opened", &[]).await;
        [client, server]
    }

    /// Does what ends the tunnels.
    async fn end(&mut self, proxy: &Proxy, why: Why, said: Said) {
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

async fn close_all(proxy: &Proxy, body: serde_json::Value) {
    let (code, begun) = proxy.ask_admin("/tunnels/close", Some(body)).await;
    assert_eq!(code, 200, "{begun}");
}

/// Code and reason of the Close frame that comes next; `None` if the end comes without one.
async fn told_why(wire: &mut Wire, masked: bool) -> Option<(u16, String)> {
    if !soon("the end of a tunnel", wire.readable()).await {
        return None;
    }
    let frame = wire.frame().await;
    assert_eq!((frame.opcode, frame.masked), (Opcode::Close, masked));
    let reason = String::from_utf8(frame.payload[2..].to_vec());
    Some((frame.close_code().expect("a code"), reason.expect("UTF-8")))
}

async fn told(wire: &mut Wire, masked: bool) -> Option<u16> {
    told_why(wire, masked).await.map(|(code, _)| code)
}

/// What both sides of a tunnel are told that ends like that.
async fn ended_by(over: Over, why: Why, said: Said) -> [Option<(u16, String)>; 2] {
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
async fn ended(over: Over, why: Why, said: Said) -> [Option<u16>; 2] {
    let both = ended_by(over, why, said).await;
    both.map(|told| told.map(|(code, _)| code))
}

async fn each_reason_has_its_text_and_the_code_that_is_said_for_it(over: Over) {
    let said = Said {
        all: CODES,
        ..Said::default()
    };
    for (why, code, text) in REASONS {
        let told = Some((code, text.to_owned()));
        assert_eq!(
            ended_by(over, why, said).await,
            [told.clone(), told],
            "{why:?}"
        );
    }
    // And where only one is said, the others have the code of all.
    let said = Said {
        all: "close_code = 4000\nclose_codes = { stop = 4001 }",
        ..Said::default()
    };
    for (why, code) in [
        (Why::Stop, 4001),
        (Why::Drain, 4000),
        (Why::IdleTimeout, 1001),
    ] {
        assert_eq!(ended(over, why, said).await, [Some(code); 2], "{why:?}");
    }
}

async fn the_reason_that_an_operator_gives_arrives(over: Over) {
    let place = Place::new().await;
    let proxy = place.start(over, Said::default()).await;
    // As long as it may be, and with a character that is no byte.
    let longest = format!("{}é", "x".repeat(121));
    for reason in ["come back at noon", "", &longest] {
        let mut ends = place.open(&proxy).await;
        let body = json!({ "all": true, "code": 4321, "reason": reason });
        close_all(&proxy, body).await;
        for (end, masked) in ends.iter_mut().zip([false, true]) {
            let told = told_why(end, masked).await;
            assert_eq!(told, Some((4321, reason.to_owned())));
        }
    }
}

#[test]
fn the_reasons_are_in_the_documentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let text = std::fs::read_to_string(path).expect("the documentation");
    for (why, _, reason) in REASONS {
        assert!(text.contains(&format!("| `{reason}` |")), "{why:?}");
    }
}

async fn an_upstream_has_codes_of_its_own(over: Over) {
    let said = Said {
        all: CODES,
        own: ", close_codes = { drain = 4102, unhealthy = 4104, rebalance = 'none', \
              max_lifetime = 4107, idle_timeout = 4108 }",
        ..Said::default()
    };
    for (why, code) in [
        (Why::Stop, Some(4001)),
        (Why::Drain, Some(4102)),
        (Why::Removed, Some(4003)),
        (Why::Unhealthy, Some(4104)),
        (Why::Rebalance, None),
        (Why::MaxLifetime, Some(4107)),
        (Why::IdleTimeout, Some(4108)),
    ] {
        assert_eq!(ended(over, why, said).await, [code; 2], "{why:?}");
    }
}

async fn none_for_one_reason_is_a_close_without_a_frame(over: Over) {
    let said = Said {
        all: "close_codes = { operator = 'none', max_lifetime = 'none', idle_timeout = 'none' }",
        ..Said::default()
    };
    for (why, code) in [
        (Why::Operator, None),
        (Why::MaxLifetime, None),
        (Why::IdleTimeout, None),
        (Why::Drain, Some(1012)),
    ] {
        assert_eq!(ended(over, why, said).await, [code; 2], "{why:?}");
    }
}

async fn an_edit_of_the_codes_holds_for_the_next_close(over: Over) {
    let mut place = Place::new().await;
    let said = Said {
        all: CODES,
        ..Said::default()
    };
    let proxy = place.start(over, said).await;
    let mut ends = place.open(&proxy).await;
    let edited = Said {
        all: "close_codes = { drain = 4202 }",
        ..said
    };
    place.end(&proxy, Why::Drain, edited).await;
    for (end, masked) in ends.iter_mut().zip([false, true]) {
        assert_eq!(told(end, masked).await, Some(4202));
    }
    // One that may not be sent changes nothing.
    let wrong = Said {
        all: "close_codes = { stop = 1006 }",
        ..said
    };
    let states = [Some("active"), Some("disabled")];
    let event = proxy.refuse(place.site(wrong, states, "")).await;
    assert!(
        event.line.contains("a close code that may be sent"),
        "{}",
        event.line
    );
}

async fn the_codes_of_its_own_clocks_a_tunnel_keeps(over: Over) {
    let place = Place::new().await;
    let said = Said {
        all: CODES,
        route: "max_lifetime = '2s'\nmax_lifetime_jitter = 0.0",
        ..Said::default()
    };
    let proxy = place.start(over, said).await;
    let mut ends = place.open(&proxy).await;
    let edited = Said { all: "", ..said };
    let states = [Some("active"), Some("disabled")];
    proxy.reload(place.site(edited, states, "")).await;
    for (end, masked) in ends.iter_mut().zip([false, true]) {
        assert_eq!(told(end, masked).await, Some(4007));
    }
}

/// Until its Close comes, a side is sent pings, which it does not answer.
async fn told_after_pings(wire: &mut Wire) -> (Option<u16>, String) {
    loop {
        let frame = wire.frame().await;
        if frame.opcode != Opcode::Ping {
            let reason = String::from_utf8_lossy(&frame.payload[2..]);
            return (frame.close_code(), reason.into_owned());
        }
    }
}

async fn a_side_that_hangs_has_its_own_code_told_to_the_other(over: Over) {
    for (side, told) in [("client", 1), ("backend", 0)] {
        let place = Place::new().await;
        let route = match side {
            "client" => "ping_interval = '300ms'\nping_timeout = '400ms'\nping_side = 'client'",
            _ => "ping_interval = '300ms'\nping_timeout = '400ms'\nping_side = 'backend'",
        };
        let said = Said {
            all: CODES,
            route,
            ..Said::default()
        };
        let proxy = place.start(over, said).await;
        let mut ends = place.open(&proxy).await;
        let reason = "the other side does not answer".to_owned();
        let told = told_after_pings(&mut ends[told]).await;
        assert_eq!(told, (Some(4009), reason), "{side}");
    }
}
