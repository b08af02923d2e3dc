//! Keys of tokens from a URL: fetched, rotated, missing, hostile, and never lost.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::kit::{
    Authority, Echo, Event, Over, Proxy, RawBackend, Setup, Site, handshake, longhaul, nobody,
    over_each, soon,
};

over_each!(
    keys_are_rotated_under_live_tunnels,
    without_keys_nobody_is_let_in_until_there_are,
    nothing_that_a_server_may_say_takes_good_keys_away,
);

/// A key for signing, and its public part as a set has it.
struct Key {
    id: &'static str,
    key: EncodingKey,
    public: Value,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("its public part");
        jwk.common.key_id = Some(id.to_owned());
        let public = serde_json::to_value(jwk).expect("JSON");
        Self { id, key, public }
    }

    /// The header line of a token that is good for ten minutes.
    fn bearer(&self) -> String {
        self.bearer_as(self.id)
    }

    fn bearer_as(&self, id: &str) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(id.to_owned());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let exp = now.expect("a time after 1970").as_secs() + 600;
        let token = encode(&header, &json!({ "sub": "ann", "exp": exp }), &self.key);
        format!("Authorization: Bearer {}\r\n", token.expect("a token"))
    }
}

fn set(keys: &[&Key]) -> String {
    let keys: Vec<&Value> = keys.iter().map(|key| &key.public).collect();
    ok(json!({ "keys": keys }).to_string())
}

fn ok(body: impl AsRef<[u8]>) -> String {
    let body = String::from_utf8_lossy(body.as_ref()).into_owned();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Gives whoever asks the answer that the test has set.
struct KeyServer {
    address: String,
    answer: Arc<Mutex<String>>,
    asked: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl KeyServer {
    async fn start(answer: String) -> Self {
        Self::on(RawBackend::start().await, answer)
    }

    fn on(server: RawBackend, answer: String) -> Self {
        let address = server.address().to_owned();
        let answer = Arc::new(Mutex::new(answer));
        let (count, asked) = watch::channel(0);
        let own = Arc::clone(&answer);
        let task = tokio::spawn(async move {
            loop {
                let Ok(mut wire) = server.try_accept().await else {
                    continue;
                };
                let request = wire.request().await;
                assert_eq!((&*request.method, &*request.target), ("GET", "/jwks?v=1"));
                count.send_modify(|it| *it += 1);
                let answer = own.lock().expect("no panic").clone();
                // It may have read enough.
                let _ = wire.try_send(answer).await;
            }
        });
        Self {
            address,
            answer,
            asked,
            task,
        }
    }

    fn set(&self, answer: String) {
        *self.answer.lock().expect("no panic") = answer;
    }

    async fn asked(&self, times: usize) {
        let mut asked = self.asked.clone();
        let asked = asked.wait_for(|it| *it >= times);
        drop(soon(format!("{times} fetches"), asked).await);
    }

    fn site(&self, backend: &Echo, more: &str) -> Site {
        site(backend, &format!("http://{}", self.address), more)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn site(backend: &Echo, server: &str, more: &str) -> Site {
    let route = format!("jwt = {{ keys = '{server}/jwks?v=1', {more} }}");
    Site::of(&[backend.entry()]).route(&route)
}

async fn status(proxy: &Proxy, lines: &str) -> u16 {
    let mut wire = proxy.connect().await;
    wire.send(handshake("/", "localhost", lines)).await;
    wire.response_head().await.status
}

const FETCHES: &str = "longhaul_jwt_key_fetches_total";
const FAILED: &str = "longhaul_jwt_key_fetches_total{result=\"failed\"}";

async fn keys_are_rotated_under_live_tunnels(over: Over) {
    let backend = Echo::start("a").await;
    let (old, new) = (Key::new("old"), Key::new("new"));
    let server = KeyServer::start(set(&[&old])).await;
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let proxy = Proxy::start(server.site(&backend, "")).await.over(over);
    let mut living = proxy.ws_with("/", &old.bearer()).await;
    living.greeting().await;
    // One that is forged under a name that is known is no reason to ask again.
    assert_eq!(status(&proxy, &new.bearer_as("old")).await, 401);
    assert_eq!(proxy.metric(FETCHES).await, 1.0);
    // The first token of a new key has it fetched, and is waited for.
    server.set(set(&[&new]));
    assert_eq!(status(&proxy, &new.bearer()).await, 101);
    assert_eq!(proxy.metric(FETCHES).await, 2.0);
    proxy.log.wait("keys fetched", &[("keys", "1")]).await;
    // What the set no longer has lets nobody in, and ends nobody's tunnel. And
    // whoever sends what nobody has signed makes nobody ask for more.
    assert_eq!(status(&proxy, &old.bearer()).await, 401);
    for id in 0..30 {
        let unknown = new.bearer_as(&format!("unknown-{id}"));
        assert_eq!(status(&proxy, &unknown).await, 401);
    }
    assert_eq!(proxy.metric(FETCHES).await, 2.0);
    living.echo("as before").await;
    // A reload has the keys at once, and no reason to ask.
    proxy.reload(server.site(&backend, "leeway = '1s'")).await;
    assert_eq!(status(&proxy, &new.bearer()).await, 101);
    assert_eq!(proxy.metric(FETCHES).await, 2.0);
    assert_eq!(proxy.metric("longhaul_jwt_keys{").await, 1.0);
    assert_eq!(proxy.metric("longhaul_jwt_keys_last_fetch_ok{").await, 1.0);
    let at = proxy.metric("longhaul_jwt_keys_fetched_timestamp_seconds{");
    let since_start = at.await - start.expect("a time after 1970").as_secs_f64();
    assert!((0.0..60.0).contains(&since_start), "{since_start}");
    // They are fetched again all by themselves, too.
    server.set(set(&[&old]));
    proxy.reload(server.site(&backend, "refresh = '1s'")).await;
    server.asked(4).await;
    assert_eq!(status(&proxy, &old.bearer()).await, 101);
    living.echo("as before").await;
}

async fn without_keys_nobody_is_let_in_until_there_are(over: Over) {
    let backend = Echo::start("a").await;
    let key = Key::new("one");
    let site = |server: &str, more: &str| site(&backend, &format!("http://{server}"), more);
    let proxy = Proxy::start(site(&nobody().await, "")).await.over(over);
    assert_eq!(status(&proxy, &key.bearer()).await, 503);
    let refused = proxy.log.wait("request", &[("refusal", "no_keys")]).await;
    assert!(
        refused.text("reason").contains("fetched"),
        "{}",
        refused.line
    );
    let event = proxy.log.wait("keys not fetched: there are none yet", &[]);
    let event = event.await;
    assert!(event.text("error").contains("connecting"), "{}", event.line);
    // Who shows nothing is told so all the same.
    assert_eq!(status(&proxy, "").await, 401);
    // One that accepts and says nothing is waited for as long as the config says.
    let silent = RawBackend::start().await;
    let log = proxy.log.tail();
    proxy
        .reload(site(silent.address(), "timeout = '200ms'"))
        .await;
    let start = Instant::now();
    assert_eq!(status(&proxy, &key.bearer()).await, 503);
    assert!(start.elapsed() < Duration::from_secs(5));
    let event = log.wait("keys not fetched: there are none yet", &[]).await;
    assert_eq!(event.text("error"), "no answer within timeout");
    // And those who come while the first fetch is under way wait for it.
    let slow = RawBackend::start().await;
    proxy.reload(site(slow.address(), "")).await;
    let mut waiting = proxy.connect().await;
    waiting
        .send(handshake("/", "localhost", &key.bearer()))
        .await;
    let mut fetch = slow.accept().await;
    fetch.request().await;
    fetch.send(set(&[&key])).await;
    assert_eq!(waiting.response_head().await.status, 101);
    assert_eq!(status(&proxy, &key.bearer()).await, 101);
}

/// What no server of keys should say.
fn hostile(key: &Key) -> Vec<(&'static str, String)> {
    let with = |member: &str, value: &str| {
        let mut public = key.public.clone();
        public[member] = json!(value);
        ok(json!({ "keys": [key.public, public] }).to_string())
    };
    let many: Vec<&Value> = vec![&key.public; 101];
    let padding = " ".repeat(1024 * 1024);
    let endless = format!("{:x}\r\n{padding}\r\n", padding.len()).repeat(2);
    let no_content = "HTTP/1.1 302 Found\r\nLocation: /jwks\r\nContent-Length: 0\r\n\r\n";
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"keys\"";
    let oct = json!({"kty": "oct", "kid": key.id, "k": "c2VjcmV0"});
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    // The log tells each reason once, so that no two of one reason follow each other.
    vec![
        ("no JWK set", ok("<html>Please log in</html>")),
        ("no key that can be used", ok("{\"keys\": []}")),
        ("no JWK set", ok([0xff, 0, 0xfe])),
        ("the body", ok(format!("{{\"keys\": []}}{padding}"))),
        ("no JWK set", ok("{\"keys\": {}}")),
        ("no key that can be used", ok("{\"keys\": [7, {}, null]}")),
        ("no JWK set", ok("[".repeat(500_000))),
        ("the body", format!("{chunked}{endless}")),
        ("key 1 of", ok(json!({ "keys": [oct] }).to_string())),
        ("key 2 of", with("d", "AAAA")),
        (
            "more than 100 keys",
            ok(json!({ "keys": many }).to_string()),
        ),
        ("key 2 of", with("kty", "oct")),
        ("not HTTP", "what do you want?\r\n\r\n".to_owned()),
        ("302", no_content.to_owned()),
        ("not HTTP", String::new()),
        ("500", set(&[key]).replace("200 OK", "500 Oh")),
        ("the body", cut.to_owned()),
    ]
}

async fn nothing_that_a_server_may_say_takes_good_keys_away(over: Over) {
    let backend = Echo::start("a").await;
    let key = Key::new("one");
    let server = KeyServer::start(set(&[&key])).await;
    let proxy = Proxy::start(server.site(&backend, "")).await.over(over);
    assert_eq!(status(&proxy, &key.bearer()).await, 101);
    // Another interval is a reason to fetch, and a failure one to do so again.
    server.set("HTTP/1.1 404 Gone\r\n\r\n".to_owned());
    proxy.reload(server.site(&backend, "refresh = '10m'")).await;
    let ok = "longhaul_jwt_keys_last_fetch_ok{";
    for (what, answer) in hostile(&key) {
        let log = proxy.log.tail();
        server.set(answer);
        proxy.signal(Signal::HUP);
        let fails = |event: &Event| {
            event.message == "keys not fetched: those in force stand"
                && event.text("error").contains(what)
        };
        let event = log.wait_for(fails).await;
        assert_eq!((event.level.as_str(), event.number("keys")), ("WARN", 1));
        assert_eq!(proxy.metric(ok).await, 0.0);
        assert_eq!(status(&proxy, &key.bearer()).await, 101, "{what}");
    }
    assert!(proxy.metric(FAILED).await >= 17.0);
    // Nor does a token that names what is not there wait for long.
    assert_eq!(status(&proxy, &key.bearer_as("two")).await, 401);
}

/// Over HTTP/1.1 alone: it is the fetch whose TLS is tested.
#[tokio::test]
async fn the_server_of_the_keys_is_verified() {
    let backend = Echo::start("a").await;
    let (authority, other) = (Authority::new(), Authority::new());
    let key = Key::new("one");
    let pair = authority.pair(&["127.0.0.1"]);
    let tls = RawBackend::tls(authority.acceptor(&pair, None)).await;
    let server = KeyServer::on(tls, set(&[&key]));
    let url = format!("https://{}", server.address);
    let setup = Setup::new();
    setup.write("ca.pem", other.pem());
    let proxy = setup.start(site(&backend, &url, "ca = 'ca.pem'")).await;
    assert_eq!(status(&proxy, &key.bearer()).await, 503);
    let event = proxy.log.wait("keys not fetched: there are none yet", &[]);
    let event = event.await;
    let error = event.text("error");
    assert!(error.contains("the tls handshake failed"), "{error}");
    // The file that is mended is reason enough to try again.
    let log = proxy.log.tail();
    proxy.write("ca.pem", authority.pem());
    log.wait("keys fetched", &[]).await;
    assert_eq!(status(&proxy, &key.bearer()).await, 101);
    // One that is none changes nothing.
    let log = proxy.log.tail();
    proxy.write("ca.pem", "no certificate");
    log.wait("config rejected", &[]).await;
    assert_eq!(status(&proxy, &key.bearer()).await, 101);
    // And the right authority is none for another name.
    proxy.write("ca.pem", authority.pem());
    let url = url.replace("127.0.0.1", "localhost");
    let log = proxy.log.tail();
    proxy.reload(site(&backend, &url, "ca = 'ca.pem'")).await;
    let event = log.wait("keys not fetched: there are none yet", &[]).await;
    assert!(event.text("error").contains("localhost"), "{}", event.line);
}

#[tokio::test]
async fn a_check_asks_nobody() {
    let backend = Echo::start("a").await;
    let server = KeyServer::start(String::new()).await;
    let setup = Setup::new();
    let config = server.site(&backend, "").to_string();
    let file = setup.write("longhaul.toml", config);
    for more in [vec![], vec!["--explain", "http://localhost/"]] {
        let checked = longhaul().arg("check").args(more).arg(&file).output();
        let checked = checked.expect("to check");
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success(), "{checked:?}");
        let url = format!(
            "a token signed by a key of http://{}/jwks?v=1",
            server.address
        );
        assert!(said.contains(&url) || !said.contains("routes"), "{said}");
    }
    assert_eq!(*server.asked.borrow(), 0);
}
