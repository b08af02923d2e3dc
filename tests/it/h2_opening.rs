//! How an HTTP/2 connection begins, and how long that may take.

use std::time::{Duration, Instant};

use crate::kit::h2::{Code, Frame, Kind, PREFACE, Raw};
use crate::kit::{Authority, Echo, Proxy, Setup, Site, TlsClient, Wire};

/// A listener with this limit and far longer ones beside it, plain or with TLS,
/// and a connection that is to be HTTP/2.
struct Door {
    proxy: Proxy,
    client: Option<TlsClient>,
}

const LONG: &str = "first_byte_timeout = '1h'\nrequest_head_timeout = '1h'\n\
                    keepalive_timeout = '1h'\n";

impl Door {
    async fn open(tls: bool, limit: &str) -> Self {
        let key = limit.split(' ').next().expect("a key");
        let limits: String = LONG
            .lines()
            .filter(|line| !line.starts_with(key))
            .fold(format!("[limits]\n{limit}\n"), |text, line| {
                text + line + "\n"
            });
        let backend = Echo::start("a").await;
        let authority = Authority::new();
        let setup = Setup::with_pair(&authority.pair(&["localhost"]));
        let site = Site::one(backend.address()).more(&limits);
        let site = if tls { site.tls() } else { site };
        Self {
            proxy: setup.start(site).await,
            client: tls.then(|| authority.client().alpn(&["h2"])),
        }
    }

    async fn connect(&self) -> Wire {
        match &self.client {
            None => self.proxy.connect().await,
            Some(client) => self.proxy.tls(client, "localhost").await,
        }
    }

    /// Says this much and no more; waits until the connection is cut, and for the
    /// line that says why.
    async fn is_cut(&self, said: &[u8], refusal: &str) {
        let start = Instant::now();
        let mut wire = self.connect().await;
        wire.send(said).await;
        wire.rest_and_end().await;
        let took = start.elapsed();
        assert!(
            took > Duration::from_millis(250) && took < Duration::from_secs(3),
            "{said:?}: {took:?}"
        );
        let facts = [("client", &*wire.local_address()), ("refusal", refusal)];
        self.proxy.log.wait("request", &facts).await;
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_in_time() {
    for tls in [false, true] {
        let door = Door::open(tls, "first_byte_timeout = '300ms'").await;
        door.is_cut(b"", "first_byte_timeout").await;
    }
}

#[tokio::test]
async fn half_a_preface_is_cut_in_time() {
    for tls in [false, true] {
        let door = Door::open(tls, "request_head_timeout = '300ms'").await;
        for length in [1, 3, 16, PREFACE.len() - 1] {
            door.is_cut(&PREFACE[..length], "request_head_timeout")
                .await;
        }
    }
}

/// The SETTINGS that belong to the preface (RFC 9113 section 3.4): without them
/// there is no request to come.
#[tokio::test]
async fn a_preface_without_settings_is_cut_in_time() {
    for tls in [false, true] {
        let door = Door::open(tls, "keepalive_timeout = '300ms'").await;
        let settings = Frame::settings(&[(4, 65_535)]).bytes();
        for length in [0, 5, settings.len() - 1] {
            let start = Instant::now();
            let mut raw = Raw::new(door.connect().await);
            raw.wire.send([PREFACE, &settings[..length]].concat()).await;
            while raw.next_frame().await.is_some() {}
            assert!(start.elapsed() < Duration::from_secs(3), "{length}");
        }
    }
}

/// By ALPN it is HTTP/2, whatever comes (RFC 9113 section 3.4).
#[tokio::test]
async fn after_alpn_anything_but_the_preface_is_a_mistake_of_the_connection() {
    let door = Door::open(true, "keepalive_timeout = '1h'").await;
    for said in [
        &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let mut raw = Raw::new(door.connect().await);
        raw.wire.send(said).await;
        let mut last = None;
        while let Some(frame) = raw.next_frame().await {
            last = Some(frame);
        }
        // GOAWAY may be left out, and what is said may be no HTTP at all.
        if let Some(frame) = last.filter(|frame| frame.kind == Kind::GOAWAY) {
            assert_eq!(frame.number(4), Code::PROTOCOL_ERROR);
        }
    }
    let mut raw = Raw::new(door.connect().await);
    raw.wire.send(PREFACE).await;
    raw.send(Frame::settings(&[])).await;
    assert_eq!(raw.frame().await.kind, Kind::SETTINGS);
}
