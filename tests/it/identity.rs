//! Passwords and signed tokens: who comes in, who does not and why, and when a tunnel ends.

use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::kit::{Echo, Event, Over, Proxy, RawBackend, Setup, Site, handshake, over_each};

over_each!(
    a_password_lets_in_and_its_name_is_the_users,
    a_token_is_taken_from_where_it_may_be,
    each_kind_of_key_signs_tokens,
    a_claim_that_no_header_can_carry_lets_nobody_in,
    trailers_do_not_say_who_somebody_is,
    a_tunnel_ends_when_its_token_does,
    keys_and_users_are_changed_under_live_tunnels,
);

const SECRET: &str = "thirty-two bytes, that is enough";
const OTHER: &str = "another secret of enough bytes..";

fn users(of: &[(&str, &str)]) -> String {
    // The lowest cost: it is not the hash that is tested.
    let hash = |password: &str| bcrypt::hash(password, 4).expect("a hash");
    let line = |(name, password): &(&str, &str)| format!("{name}:{}\n", hash(password));
    of.iter().map(line).collect()
}

fn basic(name: &str, password: &str) -> String {
    let shown = STANDARD.encode(format!("{name}:{password}"));
    format!("Authorization: Basic {shown}\r\n")
}

fn keys(secrets: &[(&str, &str)]) -> String {
    let key = |(id, secret): &(&str, &str)| {
        let k = URL_SAFE_NO_PAD.encode(secret);
        json!({"kty": "oct", "alg": "HS256", "kid": id, "k": k})
    };
    let keys: Vec<Value> = secrets.iter().map(key).collect();
    json!({ "keys": keys }).to_string()
}

/// Good for so many seconds, signed by this secret under this id.
fn token_by(id: &str, secret: &str, seconds: u64) -> String {
    token_of("ann", id, secret, seconds)
}

fn token_of(subject: &str, id: &str, secret: &str, seconds: u64) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    signed(Algorithm::HS256, &key, subject, id, seconds)
}

fn signed(by: Algorithm, key: &EncodingKey, subject: &str, id: &str, seconds: u64) -> String {
    let mut header = Header::new(by);
    header.kid = Some(id.to_owned());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let exp = now.expect("a time after 1970").as_secs() + seconds;
    let claims = json!({"iss": "us", "aud": "chat", "sub": subject, "level": 3, "exp": exp});
    encode(&header, &claims, key).expect("a token")
}

fn token(seconds: u64) -> String {
    token_by("one", SECRET, seconds)
}

fn site(backend: &Echo, route: &str) -> Site {
    Site::of(&[backend.entry()]).route(route)
}

async fn started(backend: &Echo, over: Over, route: &str) -> Proxy {
    let setup = Setup::new();
    setup.write("users", users(&[("ann", "secret"), ("bob", "wo:rd")]));
    setup.write("keys.json", keys(&[("one", SECRET)]));
    setup.start(site(backend, route)).await.over(over)
}

/// The answer's status to a handshake with these lines.
async fn status(proxy: &Proxy, target: &str, lines: &str) -> u16 {
    let mut wire = proxy.connect().await;
    wire.send(handshake(target, "localhost", lines)).await;
    wire.response_head().await.status
}

const BASIC: &str = "basic_auth = { users = 'users', realm = 'the room', user_header = 'x-user' }";

async fn a_password_lets_in_and_its_name_is_the_users(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = started(&backend, over, BASIC).await;
    let mut wire = proxy.connect().await;
    wire.send(handshake("/", "localhost", "")).await;
    let head = wire.response_head().await;
    let challenge = "Basic realm=\"the room\", charset=\"UTF-8\"";
    assert_eq!(head.status, 401);
    assert_eq!(head.header("www-authenticate"), Some(challenge));
    proxy
        .log
        .wait("request", &[("refusal", "no_credentials")])
        .await;
    let twice = basic("ann", "secret").repeat(2);
    for lines in [
        basic("ann", "wo:rd"),
        basic("ann", ""),
        basic("mallory", "secret"),
        "Authorization: Basic !!!\r\n".to_owned(),
        format!("Authorization: Basic {}\r\n", STANDARD.encode("ann")),
        format!("Authorization: Basic {}\r\n", STANDARD.encode(b"ann:\xff")),
        twice,
    ] {
        let log = proxy.log.tail();
        assert_eq!(status(&proxy, "/", &lines).await, 401, "{lines}");
        let event = log.wait("request", &[("refusal", "bad_credentials")]).await;
        assert!(!event.line.contains("secret") && !event.line.contains("mallory"));
    }
    assert_eq!(backend.connections(), 0);
    // By its scheme, in any letters.
    for lines in [
        basic("ann", "secret"),
        basic("ann", "secret").replace("Basic", "bASIC"),
    ] {
        let lines = format!("X-User: root\r\nX_User: root\r\n{lines}");
        let mut ws = proxy.ws_with("/", &lines).await;
        ws.greeting().await;
        ws.echo("hello").await;
        let seen = backend.requests().pop().expect("a request");
        assert_eq!(seen.all("x-user"), ["ann"]);
        assert_eq!(seen.header("x_user"), None);
    }
    let answer = proxy.get_with("/", &basic("bob", "wo:rd")).await;
    assert_eq!(answer.head.status, 200);
    assert_eq!(proxy.get("/").await.head.status, 401);
}

fn jwt(more: &str) -> String {
    format!(
        "jwt = {{ keys = 'keys.json', issuer = ['us'], audience = ['chat'], leeway = '0s', \
         set_headers = {{ x-user = 'sub', x-level = 'level', x-none = 'none' }}, {more} }}"
    )
}

async fn a_token_is_taken_from_where_it_may_be(over: Over) {
    let backend = Echo::start("a").await;
    let from = "from = ['header', 'cookie:sid', 'query:token', 'subprotocol:bearer.']";
    let setup = Setup::new();
    setup.write("keys.json", keys(&[("one", SECRET)]));
    // Which is not to show a token.
    let log = "[log]\nformat = 'json'\nquery_values = true";
    let site = site(&backend, &jwt(from)).more(log);
    let proxy = setup.start(site).await.over(over);
    let token = token(600);
    let claimed = "X-User: root\r\nX_User: root\r\nX-Level: 9\r\nX-None: 1\r\nX_none: 1\r\n";
    for (target, line) in [
        ("/", format!("Authorization: Bearer {token}\r\n")),
        ("/", format!("Cookie: a=b; sid={token}\r\n")),
        (&*format!("/?a=b&token={token}"), String::new()),
        (
            "/",
            format!("Sec-WebSocket-Protocol: chat, bearer.{token}\r\n"),
        ),
    ] {
        let lines = format!("{claimed}{line}");
        let mut wire = proxy.connect().await;
        wire.send(handshake(target, "localhost", &lines)).await;
        let head = wire.response_head().await;
        assert_eq!(head.status, 101, "{target} {line}");
        let seen = backend.requests().pop().expect("a request");
        assert_eq!(seen.all("x-user"), ["ann"]);
        assert_eq!(seen.all("x-level"), ["3"]);
        for name in ["x_user", "x-none", "x_none"] {
            assert_eq!(seen.header(name), None);
        }
        if line.contains("Protocol") {
            assert_eq!(seen.header("sec-websocket-protocol"), Some("chat"));
        }
    }
    // The first that is there counts, also if it is bad.
    let both = format!("Authorization: Bearer bad\r\nCookie: sid={token}\r\n");
    assert_eq!(status(&proxy, "/", &both).await, 401);
    assert_eq!(status(&proxy, "/?token=", "").await, 401);
    assert_eq!(status(&proxy, "/", "").await, 401);
    let forged = token_by("one", OTHER, 600);
    let target = format!("/?token={forged}");
    assert_eq!(status(&proxy, &target, "").await, 401);
    let event = proxy
        .log
        .wait("request", &[("reason", "the token's signature is wrong")])
        .await;
    assert_eq!(event.text("refusal"), "bad_credentials");
    let secret =
        |event: &Event| event.line.contains(&token[..20]) || event.line.contains(&forged[60..]);
    assert!(proxy.log.all(secret).is_empty());
}

/// A new key for this algorithm, which is also its id, and what a set has of it.
fn pair(algorithm: Algorithm) -> (EncodingKey, Value) {
    let kind = match algorithm {
        Algorithm::RS256 => &rcgen::PKCS_RSA_SHA256,
        Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        _ => &rcgen::PKCS_ED25519,
    };
    let pair = rcgen::KeyPair::generate_for(kind).expect("a key");
    let der = pair.serialize_der();
    let id = format!("{algorithm:?}");
    let key = match algorithm {
        // The key itself, out of its wrapping (RFC 5958).
        Algorithm::RS256 => {
            let inner = (1..der.len()).find(|at| der[*at..].starts_with(&[0x30, 0x82]));
            EncodingKey::from_rsa_der(&der[inner.expect("a key in it")..])
        }
        Algorithm::ES256 => EncodingKey::from_ec_der(&der),
        _ => {
            let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": id, "x": x});
            return (EncodingKey::from_ed_der(&der), jwk);
        }
    };
    let mut jwk = Jwk::from_encoding_key(&key, algorithm).expect("its public part");
    jwk.common.key_id = Some(id);
    (key, serde_json::to_value(jwk).expect("JSON"))
}

async fn each_kind_of_key_signs_tokens(over: Over) {
    let backend = Echo::start("a").await;
    let algorithms = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let (signing, known): (Vec<_>, Vec<_>) = algorithms.map(pair).into_iter().unzip();
    let setup = Setup::new();
    setup.write("keys.json", json!({ "keys": known }).to_string());
    let proxy = setup.start(site(&backend, &jwt(""))).await.over(over);
    for (algorithm, key) in algorithms.into_iter().zip(&signing) {
        let (stranger, _) = pair(algorithm);
        for (key, wanted) in [(key, 101), (&stranger, 401)] {
            let token = signed(algorithm, key, "ann", &format!("{algorithm:?}"), 600);
            let line = format!("Authorization: Bearer {token}\r\n");
            assert_eq!(status(&proxy, "/", &line).await, wanted, "{algorithm:?}");
        }
    }
}

async fn a_claim_that_no_header_can_carry_lets_nobody_in(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = started(&backend, over, &jwt("")).await;
    for (subject, wanted) in [("J\u{fc}rgen", 101), ("ann\r\nX-Level: 9", 401)] {
        let token = token_of(subject, "one", SECRET, 600);
        let line = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(status(&proxy, "/", &line).await, wanted, "{subject}");
    }
    assert_eq!(backend.requests().len(), 1);
}

/// What longhaul says of a client stands in the head; a trailer of that name is the
/// client's own word.
async fn trailers_do_not_say_who_somebody_is(over: Over) {
    let backend = RawBackend::start().await;
    let setup = Setup::new();
    setup.write("keys.json", keys(&[("one", SECRET)]));
    let site = Site::one(backend.address()).route(&jwt(""));
    let proxy = setup.start(site).await.over(over);
    let mut client = proxy.connect().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
         Trailer: sum, x-user, x_level, x-none, x-forwarded-for\r\nAuthorization: Bearer {}\r\n\r\n",
        token(600)
    );
    client.send(head).await;
    let mut server = backend.accept().await;
    assert_eq!(server.request().await.all("x-user"), ["ann"]);
    let forged = "x-user: root\r\nx_level: 9\r\nx-none: 1\r\nx-forwarded-for: 1.1.1.1\r\n";
    client.send(format!("0\r\nsum: 6\r\n{forged}\r\n")).await;
    assert_eq!(server.chunk().await, None);
    assert_eq!(
        server.trailers().await,
        [("sum".to_owned(), "6".to_owned())]
    );
}

/// Over HTTP/1.1 alone: HTTP/2 has no `Connection`.
#[tokio::test]
async fn connection_does_not_take_off_who_somebody_is() {
    let backend = Echo::start("a").await;
    let proxy = started(&backend, Over::Http1, BASIC).await;
    let lines = basic("ann", "secret") + "Connection: X-User\r\nX-User: root\r\n";
    for upgrade in [true, false] {
        let status = match upgrade {
            true => status(&proxy, "/", &lines).await,
            false => proxy.get_with("/", &lines).await.head.status,
        };
        assert_eq!(status, if upgrade { 101 } else { 200 });
        let seen = backend.requests().pop().expect("a request");
        assert_eq!(seen.all("x-user"), ["ann"]);
    }
}

async fn a_tunnel_ends_when_its_token_does(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = started(&backend, over, &jwt("close_code = 4401")).await;
    let start = Instant::now();
    let lines = format!("Authorization: Bearer {}\r\n", token(2));
    let mut ws = proxy.ws_with("/", &lines).await;
    ws.greeting().await;
    ws.echo("still good").await;
    assert_eq!(ws.closed().await, Some(4401));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    let closed = proxy.log.wait("tunnel closed", &[]).await;
    assert_eq!(closed.text("cause"), "expired");
    // The same once more is none.
    assert_eq!(status(&proxy, "/", &lines).await, 401);
    let reason = [("reason", "the token has expired")];
    proxy.log.wait("request", &reason).await;
    // And by default it is a breach of policy.
    proxy.reload(site(&backend, &jwt(""))).await;
    let lines = format!("Authorization: Bearer {}\r\n", token(2));
    let mut ws = proxy.ws_with("/", &lines).await;
    ws.greeting().await;
    assert_eq!(ws.closed().await, Some(1008));
}

async fn keys_and_users_are_changed_under_live_tunnels(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = started(&backend, over, &jwt("")).await;
    let bearer = |token: String| format!("Authorization: Bearer {token}\r\n");
    let old = bearer(token_by("one", SECRET, 600));
    let new = bearer(token_by("two", OTHER, 600));
    let mut living = proxy.ws_with("/", &old).await;
    living.greeting().await;
    assert_eq!(status(&proxy, "/", &new).await, 401);
    let log = proxy.log.tail();
    proxy.write("keys.json", keys(&[("one", SECRET), ("two", OTHER)]));
    log.wait("config reloaded", &[]).await;
    assert_eq!(status(&proxy, "/", &old).await, 101);
    assert_eq!(status(&proxy, "/", &new).await, 101);
    // A file that is none leaves those in force.
    let log = proxy.log.tail();
    proxy.write("keys.json", "{\"keys\": [");
    let event = log.wait("config rejected", &[]).await;
    assert!(
        event.text("findings").contains("no JWK set"),
        "{}",
        event.line
    );
    assert_eq!(status(&proxy, "/", &new).await, 101);
    let log = proxy.log.tail();
    proxy.write("keys.json", keys(&[("two", OTHER)]));
    log.wait("config reloaded", &[]).await;
    assert_eq!(status(&proxy, "/", &old).await, 401);
    assert_eq!(status(&proxy, "/", &new).await, 101);
    living.echo("as before").await;

    proxy.reload(site(&backend, BASIC)).await;
    assert_eq!(status(&proxy, "/", &basic("ann", "secret")).await, 101);
    let log = proxy.log.tail();
    proxy.write("users", users(&[("ann", "changed")]));
    log.wait("config reloaded", &[]).await;
    assert_eq!(status(&proxy, "/", &basic("ann", "secret")).await, 401);
    assert_eq!(status(&proxy, "/", &basic("ann", "changed")).await, 101);
    living.echo("as before").await;
}

#[tokio::test]
async fn a_config_with_files_that_are_none_does_not_start() {
    let backend = Echo::start("a").await;
    let proxy = started(&backend, Over::Http1, BASIC).await;
    proxy.write("users2", "ann:plain\n");
    for (route, found) in [
        (
            BASIC.replace("'users'", "'users2'"),
            "users2:1: the hash is none of bcrypt",
        ),
        (
            BASIC.replace("'users'", "'nothing'"),
            "nothing cannot be read",
        ),
        (jwt("").replace("keys.json", "users2"), "no JWK set"),
        (
            jwt("algorithms = ['RS256']"),
            "no key that `algorithms` can use",
        ),
    ] {
        let event = proxy.refuse(site(&backend, &route)).await;
        assert!(event.text("findings").contains(found), "{}", event.line);
    }
    let answer = proxy.get_with("/", &basic("ann", "secret")).await;
    assert_eq!(answer.head.status, 200);
}

#[tokio::test]
async fn passwords_beside_each_other_do_not_hold_up_the_rest() {
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    // A hash that takes a while.
    let slow = bcrypt::hash("secret", 10).expect("a hash");
    setup.write("users", format!("ann:{slow}\n"));
    let open = "[[routes]]\npath = '/open'\nupstream = 'app'";
    let proxy = setup.start(site(&backend, BASIC).more(open)).await;
    let mut guesses = Vec::new();
    for guess in 0..20 {
        let mut wire = proxy.connect().await;
        let lines = basic("ann", &format!("guess {guess}"));
        wire.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"))
            .await;
        guesses.push(wire);
    }
    // Meanwhile others are served.
    assert_eq!(proxy.get("/open").await.head.status, 200);
    for mut wire in guesses {
        let status = wire.response().await.head.status;
        assert!(matches!(status, 401 | 503), "{status}");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_token_in_the_query_is_in_no_line_before_its_route_is_known() {
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    setup.write("keys.json", keys(&[("one", SECRET)]));
    let more = "[listeners.plain]\naddress = '127.0.0.1:0'\nredirect_to_https = true\n\
                [log]\nformat = 'json'\nquery_values = true";
    let site = site(&backend, &jwt("from = ['query:token']")).more(more);
    let proxy = setup.start(site).await;
    for (listener, target, status) in [
        ("plain", "/a?room=7&token=s3cr3t", 308),
        ("main", "/a/../b?room=7&token=s3cr3t", 400),
        ("main", "/a?room=7&token=s3cr3t", 401),
    ] {
        let mut wire = proxy.connect_to(listener).await;
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        assert_eq!(wire.response_head().await.status, status, "{target}");
        let status = status.to_string();
        let event = proxy.log.wait("request", &[("status", &status)]).await;
        assert!(event.text("path").ends_with("&token=*"), "{}", event.line);
    }
    let found = proxy.log.all(|event| event.line.contains("s3cr3t"));
    assert!(found.is_empty(), "{found:?}");
}
