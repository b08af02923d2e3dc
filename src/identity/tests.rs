//! Good tokens of every kind of key, hostile ones, and users.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::{Jwt, KeySource, TokenSource};

const SECRET: &[u8] = b"thirty-two bytes, that is enough";

fn settings() -> Jwt {
    Jwt {
        keys: KeySource::File("keys".into()),
        from: vec![TokenSource::Header],
        algorithms: Vec::new(),
        issuer: vec!["us".to_owned()],
        audience: vec!["chat".to_owned()],
        leeway: Duration::from_secs(30),
        set_headers: Vec::new(),
        close_code: None,
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

fn good() -> Value {
    json!({"iss": "us", "aud": "chat", "sub": "ann", "exp": now() + 600})
}

fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn tokens_of(keys: &[Value], settings: &Jwt) -> Result<Tokens, IdentityError> {
    let (_dir, path) = file(&json!({ "keys": keys }).to_string());
    let keys = Keys::load(&path, &settings.algorithms)?;
    Ok(Tokens::new(settings, KeySet::Fixed(keys)))
}

/// A key for signing, and its public part as a set has it.
fn pair(algorithm: Algorithm, id: &str) -> (EncodingKey, Value) {
    let key = match algorithm {
        Algorithm::ES256 => {
            let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            EncodingKey::from_ec_der(&pair.serialize_der())
        }
        Algorithm::EdDSA => {
            let random = SystemRandom::new();
            let der = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
            let x = URL_SAFE_NO_PAD.encode(pair.public_key());
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": id, "x": x});
            return (EncodingKey::from_ed_der(der.as_ref()), jwk);
        }
        Algorithm::RS256 => {
            let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
            // The key itself, out of its wrapping (RFC 5958).
            let der = pair.serialize_der();
            let inner = (1..der.len()).find(|at| der[*at..].starts_with(&[0x30, 0x82]));
            EncodingKey::from_rsa_der(&der[inner.unwrap()..])
        }
        _ => EncodingKey::from_secret(SECRET),
    };
    let mut jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
    jwk.common.key_id = Some(id.to_owned());
    (key, serde_json::to_value(jwk).unwrap())
}

fn sign(algorithm: Algorithm, key: &EncodingKey, id: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = id.map(str::to_owned);
    encode(&header, claims, key).unwrap()
}

fn check(tokens: &Tokens, token: &str) -> Result<Claims, &'static str> {
    let KeySet::Fixed(keys) = &tokens.keys else {
        panic!("of a URL");
    };
    let looked = tokens.look(keys, token, SystemTime::now());
    looked.map_err(|flaw| flaw.why)
}

#[test]
fn tokens_of_every_kind_of_key_are_good() {
    let all = [
        Algorithm::HS256,
        Algorithm::ES256,
        Algorithm::EdDSA,
        Algorithm::RS256,
    ];
    let pairs = all.map(|it| pair(it, &format!("{it:?}")));
    let set: Vec<_> = pairs.iter().map(|(_, jwk)| jwk.clone()).collect();
    let tokens = tokens_of(&set, &settings()).unwrap();
    for (algorithm, (key, _)) in all.into_iter().zip(&pairs) {
        let name = format!("{algorithm:?}");
        for id in [Some(&*name), None] {
            let claims = check(&tokens, &sign(algorithm, key, id, &good()));
            let claims = claims.unwrap_or_else(|why| panic!("{name}, {id:?}: {why}"));
            assert_eq!(claims.text("sub").as_deref(), Some("ann"));
            assert!(claims.left > Duration::from_secs(590));
        }
        // Under the id of another key.
        let other = if name == "HS256" { "ES256" } else { "HS256" };
        assert!(check(&tokens, &sign(algorithm, key, Some(other), &good())).is_err());
        let unknown = sign(algorithm, key, Some("unknown"), &good());
        assert_eq!(
            check(&tokens, &unknown).unwrap_err(),
            "no key fits the token"
        );
    }
    // Of a key of the same kind that is not in the set.
    let (foreign, _) = pair(Algorithm::ES256, "");
    let token = sign(Algorithm::ES256, &foreign, Some("ES256"), &good());
    assert_eq!(
        check(&tokens, &token).unwrap_err(),
        "the token's signature is wrong"
    );
}

#[test]
fn a_public_key_is_no_secret_and_none_is_no_algorithm() {
    let (_, jwk) = pair(Algorithm::ES256, "k");
    let tokens = tokens_of(std::slice::from_ref(&jwk), &settings()).unwrap();
    for public in [jwk["x"].as_str().unwrap(), &jwk.to_string()] {
        let forged = EncodingKey::from_secret(public.as_bytes());
        let token = sign(Algorithm::HS256, &forged, Some("k"), &good());
        assert_eq!(check(&tokens, &token).unwrap_err(), "no key fits the token");
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "NONE", "", "HS256"] {
        let header = json!({"alg": alg, "typ": "JWT", "kid": "k"});
        for signature in ["", "AAAA"] {
            let token = format!("{}.{}.{signature}", part(&header), part(&good()));
            assert!(check(&tokens, &token).is_err(), "{alg:?}");
        }
    }
}

#[test]
fn claims_are_held_to_what_is_configured() {
    let (key, jwk) = pair(Algorithm::HS256, "k");
    let tokens = tokens_of(std::slice::from_ref(&jwk), &settings()).unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = good();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        check(&tokens, &sign(Algorithm::HS256, &key, Some("k"), &claims)).map(|it| it.left)
    };
    for (name, value) in [
        ("iss", Value::Null),
        ("iss", json!("them")),
        ("iss", json!(7)),
        ("aud", Value::Null),
        ("aud", json!("mail")),
        ("aud", json!(["mail", "news"])),
        ("exp", Value::Null),
        ("exp", json!("tomorrow")),
        ("exp", json!(-1)),
        ("exp", json!(0)),
        ("exp", json!(now() - 31)),
        ("nbf", json!(now() + 60)),
        ("nbf", json!("tomorrow")),
    ] {
        assert!(with(name, value.clone()).is_err(), "{name} {value}");
    }
    assert!(with("aud", json!(["mail", "chat"])).is_ok());
    assert!(with("nbf", json!(now() + 20)).is_ok());
    // What only leeway lets in ends with it.
    let left = with("exp", json!(now() - 10)).unwrap();
    assert!(left <= Duration::from_secs(20) && left > Duration::from_secs(15));
    assert!(with("exp", json!(4_000_000_000_u64)).is_ok());
    assert!(with("exp", json!(u64::MAX)).is_err());
    assert!(with("exp", json!(1e300)).is_err());
}

#[test]
fn what_is_critical_or_malformed_is_refused() {
    let (key, jwk) = pair(Algorithm::HS256, "k");
    let tokens = tokens_of(std::slice::from_ref(&jwk), &settings()).unwrap();
    let token = sign(Algorithm::HS256, &key, Some("k"), &good());
    assert!(check(&tokens, &token).is_ok());
    for at in 0..token.len() {
        assert!(check(&tokens, &token[..at]).is_err(), "cut at {at}");
    }
    assert!(check(&tokens, &format!("{token}.")).is_err());
    assert!(check(&tokens, &format!("{token}.{token}")).is_err());
    assert!(check(&tokens, &"a".repeat(100_000)).is_err());
    let (_, payload) = token.split_once('.').unwrap();
    let (payload, _) = payload.split_once('.').unwrap();
    let header = json!({"alg": "HS256", "crit": ["exp"], "kid": "k"});
    let message = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header.to_string()));
    let signed = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    let why = check(&tokens, &format!("{message}.{signed}")).unwrap_err();
    assert_eq!(why, "the token has an extension that must be understood");
}

#[test]
fn a_key_is_used_for_what_it_is_for() {
    let (_, mut jwk) = pair(Algorithm::ES256, "k");
    let only = |algorithms: &[&str]| Jwt {
        algorithms: algorithms.iter().map(|it| (*it).to_owned()).collect(),
        ..settings()
    };
    let is_none = |keys: &[Value], settings: &Jwt| {
        matches!(tokens_of(keys, settings), Err(IdentityError::NoKeys(_)))
    };
    let one = std::slice::from_ref(&jwk);
    assert!(tokens_of(one, &only(&["ES256", "RS256"])).is_ok());
    assert!(is_none(one, &only(&["RS256", "HS256"])));
    assert!(is_none(&[], &settings()));
    assert!(is_none(&[json!({"kty": "new"}), json!(7)], &settings()));
    jwk["use"] = json!("enc");
    assert!(is_none(&[jwk.clone()], &settings()));
    jwk["use"] = json!("sig");
    jwk["alg"] = json!("ES384");
    assert!(is_none(&[jwk], &settings()));
    let short = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(&SECRET[..31])});
    let weak = tokens_of(&[short], &settings()).unwrap_err();
    assert!(weak.to_string().contains("32 bytes"), "{weak}");
    let (_dir, path) = file("not JSON");
    assert!(matches!(
        Keys::load(&path, &[]),
        Err(IdentityError::NotKeys(..))
    ));
}

fn of_url(keys: &[Value]) -> Result<Keys, IdentityError> {
    let document = json!({ "keys": keys }).to_string();
    Keys::of_url(document.as_bytes(), "https://a.test/")
}

#[test]
fn a_url_has_public_keys_alone() {
    let (_, good) = pair(Algorithm::ES256, "k");
    let (_, secret) = pair(Algorithm::HS256, "s");
    let mut private = good.clone();
    private["d"] = json!("AAAA");
    for leaked in [
        secret,
        private,
        json!({"kty": "oct"}),
        json!({"k": ""}),
        json!({"kty": "new", "d": null}),
    ] {
        let error = of_url(&[good.clone(), leaked]).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("key 2 of https://a.test/"), "{error}");
        assert!(!error.contains("AAAA"), "{error}");
    }
    // What is only of no use is in nobody's way.
    let mut broken = good.clone();
    broken["x"] = json!("!");
    let keys = of_url(&[broken, json!(7), json!({"kty": "new"}), good.clone()]).unwrap();
    assert_eq!(keys.count(), 1);
    let none = of_url(&[json!(7)]).unwrap_err();
    assert!(matches!(none, IdentityError::NoPublicKeys(_)));
    let many = of_url(&vec![good; 101]).unwrap_err();
    assert!(matches!(many, IdentityError::TooManyKeys(_, 100)));
    let no_set = Keys::of_url(b"[]", "https://a.test/").unwrap_err();
    assert!(matches!(no_set, IdentityError::NotKeys(..)));
}

#[test]
fn only_a_token_that_another_key_could_have_signed_has_keys_fetched() {
    let (key, jwk) = pair(Algorithm::ES256, "k");
    let (foreign, _) = pair(Algorithm::ES256, "");
    let (secret, _) = pair(Algorithm::HS256, "");
    let keys = of_url(&[jwk]).unwrap();
    let only = |algorithms: &[&str]| {
        let algorithms = algorithms.iter().map(|it| (*it).to_owned()).collect();
        let settings = Jwt {
            algorithms,
            ..settings()
        };
        Tokens::new(&settings, KeySet::Fetched(Arc::default(), Duration::ZERO))
    };
    let (any, other) = (only(&[]), only(&["RS256"]));
    let asks = |tokens: &Tokens, token: &str| {
        let looked = tokens.look(&keys, token, SystemTime::now());
        looked.unwrap_err().is_of_unknown_key
    };
    let signed = |id, claims: &Value| sign(Algorithm::ES256, &foreign, id, claims);
    assert!(asks(&any, &signed(Some("new"), &good())));
    assert!(asks(&any, &signed(None, &good())));
    assert!(!asks(&any, &signed(Some("k"), &good())));
    assert!(!asks(&other, &signed(Some("new"), &good())));
    let by_secret = sign(Algorithm::HS256, &secret, Some("new"), &good());
    assert!(!asks(&any, &by_secret));
    let mut over = good();
    over["exp"] = json!(1);
    assert!(!asks(&any, &sign(Algorithm::ES256, &key, None, &over)));
    assert!(!asks(&any, "a.b.c"));
    // What the set has and the route does not allow lets nobody in.
    let token = sign(Algorithm::ES256, &key, Some("k"), &good());
    assert!(any.look(&keys, &token, SystemTime::now()).is_ok());
    assert!(other.look(&keys, &token, SystemTime::now()).is_err());
}

#[test]
fn no_key_is_in_a_debug() {
    let (_, jwk) = pair(Algorithm::HS256, "k");
    let tokens = tokens_of(std::slice::from_ref(&jwk), &settings()).unwrap();
    let (secret, debug) = (jwk["k"].as_str().unwrap(), format!("{tokens:?}"));
    assert!(debug.contains("HS256"), "{debug}");
    let bytes = format!("{:?}", &SECRET[..4]);
    assert!(!debug.contains(secret) && !debug.contains(bytes.trim_matches(['[', ']'])));
    let (_dir, path) = file(&format!("ann:{}\n", hash("secret")));
    let users = Users::load(&path, &Arc::default(), None).unwrap();
    assert_eq!(format!("{users:?}"), "1 users");
}

proptest! {
    #[test]
    fn random_tokens_are_no_harm(text in "[A-Za-z0-9_.=-]{0,200}", bytes: Vec<u8>) {
        let set = [json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)})];
        let tokens = tokens_of(&set, &settings()).unwrap();
        let part = URL_SAFE_NO_PAD.encode(&bytes);
        prop_assert!(check(&tokens, &text).is_err());
        for token in [format!("{part}.{part}.{part}"), format!("eyJhbGciOiJIUzI1NiJ9.{part}.{part}")] {
            prop_assert!(check(&tokens, &token).is_err());
        }
    }
}

fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

#[tokio::test]
async fn users_are_known_by_their_passwords() {
    let text = format!(
        "# staff\nann:{}\n\nbob:{}\r\n",
        hash("secret"),
        hash("other:word")
    );
    let (_dir, path) = file(&text);
    let turns = Arc::default();
    let users = Users::load(&path, &turns, None).unwrap();
    for _ in 0..2 {
        assert_eq!(users.check("ann", "secret").await, Verdict::Right);
        assert_eq!(users.check("bob", "other:word").await, Verdict::Right);
        for (name, password) in [
            ("ann", "other:word"),
            ("ann", ""),
            ("ann", "Secret"),
            ("eve", "secret"),
            ("", "secret"),
            ("ann:", "secret"),
        ] {
            assert_eq!(users.check(name, password).await, Verdict::Wrong, "{name}");
        }
    }
    // What it knows outlives a reload that changes nothing, and no other.
    let same = Users::load(&path, &turns, Some(&users)).unwrap();
    assert!(Arc::ptr_eq(&same, &users));
    std::fs::write(&path, format!("ann:{}\n", hash("new"))).unwrap();
    let other = Users::load(&path, &turns, Some(&users)).unwrap();
    assert_eq!(other.check("ann", "secret").await, Verdict::Wrong);
    assert_eq!(other.check("ann", "new").await, Verdict::Right);
}

#[test]
fn a_users_file_is_good_as_a_whole_or_not() {
    let good = hash("a");
    let costly = good.replace("$04$", "$31$");
    for (text, line) in [
        ("ann".to_owned(), 1),
        (format!("ann:{good}\nbob:secret\n"), 2),
        (format!("ann:{good}\nbob:$apr1$x$y\n"), 2),
        (format!("ann:{good}\n\n:{good}\n"), 3),
        (format!("ann:{good}\nann:{good}\n"), 2),
        (format!("ann:{costly}\n"), 1),
    ] {
        let (_dir, path) = file(&text);
        let error = Users::load(&path, &Arc::default(), None).unwrap_err();
        let place = format!("file:{line}: ");
        assert!(error.to_string().contains(&place), "{error}");
        assert!(!error.to_string().contains(&good[10..]), "{error}");
    }
    let (_dir, path) = file("# nobody\n");
    let error = Users::load(&path, &Arc::default(), None).unwrap_err();
    assert!(matches!(error, IdentityError::NoUsers(_)));
    let (dir, _) = file("");
    let error = Users::load(dir.path(), &Arc::default(), None).unwrap_err();
    assert!(matches!(error, IdentityError::Read(..)));
}

#[tokio::test]
async fn turns_are_few_and_their_queue_is_bounded() {
    let turns = Turns::default();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    let work = || {
        let held = Arc::clone(&held);
        turns.take(move || held.lock().unwrap().recv().is_ok())
    };
    // More than may run and wait: the last is told so at once.
    let mut waiting = futures_util::stream::FuturesUnordered::new();
    for _ in 0..400 {
        waiting.push(work());
    }
    let first = futures_util::StreamExt::next(&mut waiting).await;
    assert_eq!(first, Some(None));
    drop(release);
    let rest: Vec<_> = futures_util::StreamExt::collect(waiting).await;
    let done = rest.iter().filter(|it| it.is_some()).count();
    assert!((256..=399).contains(&done), "{done}");
}
