//! A CA that speaks ACME (RFC 8555), strict with its client and as wrong towards
//! it as a test wants.
//!
//! It verifies every signature, nonce and URL, comes itself to see the proofs, at
//! the addresses that the test gives it instead of ports 80 and 443, and counts
//! what it was asked. What a client must not do fails the test by a refusal that
//! the client's log shows.

mod jws;
mod proof;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::message::Request;
use super::raw::RawBackend;
use super::tls::Authority;
use super::wire::Wire;
use jws::{Key, Signed};

/// How the CA behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    Good,
    /// New orders are refused with this status, and `Retry-After` in seconds.
    Refuses(u16, Option<u64>),
    /// New orders of this name meet a limit, for so many seconds.
    Limits(&'static str, u64),
    /// Whatever it is asked, it has no time for so many seconds.
    Busy(u64),
    /// The directory is this text.
    Garbage(String),
    /// Nothing is answered.
    Silent,
    /// Certificates are for another key.
    WrongKey,
    /// It has forgotten every account.
    Forgetful,
}

/// Where it comes to look for proofs.
#[derive(Clone, Debug, Default)]
struct Targets {
    http: Option<String>,
    tls: Option<String>,
}

pub struct Ca {
    url: String,
    /// Of its own TLS, and of what it issues.
    pub authority: Arc<Authority>,
    desk: Arc<Desk>,
    accepting: JoinHandle<()>,
}

struct Desk {
    base: String,
    authority: Arc<Authority>,
    books: Mutex<Books>,
    mood: watch::Sender<Mood>,
    targets: watch::Sender<Targets>,
}

#[derive(Default)]
struct Books {
    nonces: HashSet<String>,
    counter: usize,
    accounts: Vec<Key>,
    contacts: Vec<Value>,
    orders: Vec<Order>,
    requests: usize,
    /// Of the certificates to come: before and behind now.
    validity: Option<(Duration, Duration)>,
    /// How far its clock is before that of everybody else.
    ahead: Duration,
}

struct Order {
    name: String,
    status: &'static str,
    authorization: &'static str,
    challenge: HashMap<&'static str, Value>,
    token: String,
    chain: Option<String>,
}

impl Ca {
    pub async fn start() -> Self {
        let authority = Arc::new(Authority::new());
        let own = authority.pair(&["localhost"]);
        let socket = RawBackend::tls(authority.acceptor(&own, None)).await;
        let port = socket.address().rsplit_once(':').expect("a port").1;
        let base = format!("https://localhost:{port}");
        let desk = Arc::new(Desk {
            base: base.clone(),
            authority: Arc::clone(&authority),
            books: Mutex::default(),
            mood: watch::Sender::new(Mood::Good),
            targets: watch::Sender::default(),
        });
        let serving = Arc::clone(&desk);
        let accepting = tokio::spawn(async move {
            loop {
                // A client that gives up in the handshake is no matter.
                if let Ok(wire) = socket.accept_forever().await {
                    tokio::spawn(Arc::clone(&serving).serve(wire));
                }
            }
        });
        Self {
            url: format!("{base}/dir"),
            authority,
            desk,
            accepting,
        }
    }

    /// Of its directory.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `[acme]` with this CA, whose certificate is in `ca.pem`.
    pub fn section(&self, storage: &str, more: &str) -> String {
        format!(
            "\n[acme]\ndirectory = \"{}\"\nca = \"ca.pem\"\nagree_to_terms = true\n\
             storage = \"{storage}\"\n{more}\n",
            self.url
        )
    }

    pub fn behaves(&self, mood: Mood) {
        self.desk.mood.send_replace(mood);
    }

    /// Where a plain listener is; the CA waits with http-01 until it is told.
    pub fn looks_at_http(&self, address: &str) {
        let address = Some(address.to_owned());
        self.desk.targets.send_modify(|it| it.http = address);
    }

    /// Where a TLS listener is; the CA waits with tls-alpn-01 until it is told.
    pub fn looks_at_tls(&self, address: &str) {
        let address = Some(address.to_owned());
        self.desk.targets.send_modify(|it| it.tls = address);
    }

    /// Waits with every proof until it is told again.
    pub fn looks_nowhere(&self) {
        self.desk.targets.send_replace(Targets::default());
    }

    /// Certificates are valid from so long before now to so long after it.
    pub fn issues_for(&self, before: Duration, after: Duration) {
        self.desk.books().validity = Some((before, after));
    }

    /// Its clock is so far before ours.
    pub fn is_ahead(&self, by: Duration) {
        self.desk.books().ahead = by;
    }

    /// The names of all orders, in their order.
    pub fn orders(&self) -> Vec<String> {
        let books = self.desk.books();
        books
            .orders
            .iter()
            .map(|order| order.name.clone())
            .collect()
    }

    pub fn accounts(&self) -> usize {
        self.desk.books().accounts.len()
    }

    /// What the last account said.
    pub fn contact(&self) -> Value {
        self.desk
            .books()
            .contacts
            .last()
            .cloned()
            .unwrap_or_default()
    }

    /// All that it was asked.
    pub fn requests(&self) -> usize {
        self.desk.books().requests
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Status, headers, body.
type Answer = (u16, Vec<(&'static str, String)>, String);

/// A refusal of the protocol (RFC 8555 section 6.7).
fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let body = json!({
        "type": format!("urn:ietf:params:acme:error:{kind}"),
        "detail": detail,
        "status": status,
    });
    (status, Vec::new(), body.to_string())
}

/// One that is to be asked again in so many seconds.
fn later((status, mut headers, body): Answer, seconds: Option<u64>) -> Answer {
    headers.extend(seconds.map(|seconds| ("Retry-After", seconds.to_string())));
    (status, headers, body)
}

impl Desk {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("no panic before")
    }

    async fn serve(self: Arc<Self>, mut wire: Wire) {
        while let Some(request) = wire.next_request().await {
            let (body, _) = wire.body(request.length()).await;
            self.books().requests += 1;
            let mood = self.mood.borrow().clone();
            if mood == Mood::Silent {
                // However long the client waits.
                return std::future::pending().await;
            }
            let (status, headers, text) = Arc::clone(&self).answer(&request, &body, &mood);
            let nonce = self.books().nonce();
            let mut head = format!("HTTP/1.1 {status} Any\r\nReplay-Nonce: {nonce}\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str(&format!("Content-Length: {}\r\n\r\n", text.len()));
            if request.method != "HEAD" {
                head.push_str(&text);
            }
            if wire.try_send(head).await.is_err() {
                return;
            }
        }
    }

    fn answer(self: Arc<Self>, request: &Request, body: &[u8], mood: &Mood) -> Answer {
        if let Mood::Busy(seconds) = mood {
            return later(problem(503, "serverInternal", "no time"), Some(*seconds));
        }
        match (&*request.method, &*request.target) {
            ("GET", "/dir") => match mood {
                Mood::Garbage(text) => (200, Vec::new(), text.clone()),
                _ => (200, Vec::new(), self.directory().to_string()),
            },
            ("HEAD", "/nonce") => (200, Vec::new(), String::new()),
            ("POST", target) => self.post(request, target, body, mood),
            _ => problem(405, "malformed", "no such request"),
        }
    }

    fn directory(&self) -> Value {
        json!({
            "newNonce": format!("{}/nonce", self.base),
            "newAccount": format!("{}/account", self.base),
            "newOrder": format!("{}/order", self.base),
            "meta": { "termsOfService": "https://ca.test/terms" },
        })
    }

    fn post(self: Arc<Self>, request: &Request, target: &str, body: &[u8], mood: &Mood) -> Answer {
        if request.header("content-type") != Some("application/jose+json") {
            return problem(415, "malformed", "no jose+json");
        }
        let url = format!("{}{target}", self.base);
        let signed = {
            let mut books = self.books();
            let accounts = match mood {
                Mood::Forgetful => Vec::new(),
                _ => books.accounts.clone(),
            };
            match Signed::verify(body, &url, &mut books.nonces, &accounts, &self.base) {
                Ok(signed) => signed,
                Err((kind, detail)) => return problem(400, kind, detail),
            }
        };
        let parts: Vec<&str> = target.trim_start_matches('/').split('/').collect();
        match (&parts[..], mood) {
            (["account"], _) => self.account(signed),
            (["order"], Mood::Refuses(status, after)) => later(
                problem(*status, "rateLimited", "too many of everything"),
                *after,
            ),
            (["order"], Mood::Limits(name, after))
                if signed.payload["identifiers"][0]["value"] == *name =>
            {
                later(
                    problem(429, "rateLimited", "too many of this name"),
                    Some(*after),
                )
            }
            (["order"], _) => self.order(&signed),
            ([kind, rest @ ..], _) => {
                let index = rest.first().and_then(|at| at.parse::<usize>().ok());
                match index.filter(|at| *at < self.books().orders.len()) {
                    Some(at) => self.about(kind, at, rest.get(1).copied(), &signed, mood),
                    None => problem(404, "malformed", "no such thing"),
                }
            }
            ([], _) => problem(404, "malformed", "no such thing"),
        }
    }

    fn account(&self, signed: Signed) -> Answer {
        if signed.payload["termsOfServiceAgreed"] != true {
            return problem(403, "userActionRequired", "agree to the terms");
        }
        let mut books = self.books();
        books.accounts.push(signed.key);
        books.contacts.push(signed.payload["contact"].clone());
        let id = format!("{}/account/{}", self.base, books.accounts.len() - 1);
        let body = json!({ "status": "valid" }).to_string();
        (201, vec![("Location", id)], body)
    }

    fn order(&self, signed: &Signed) -> Answer {
        let identifiers = &signed.payload["identifiers"];
        let Some(name) = identifiers[0]["value"].as_str().filter(|_| {
            identifiers[0]["type"] == "dns"
                && identifiers.as_array().is_some_and(|it| it.len() == 1)
        }) else {
            return problem(400, "malformed", "one name, please");
        };
        let mut books = self.books();
        let token = books.nonce();
        books.orders.push(Order {
            name: name.to_owned(),
            status: "pending",
            authorization: "pending",
            challenge: HashMap::new(),
            token,
            chain: None,
        });
        let at = books.orders.len() - 1;
        let location = format!("{}/of/{at}", self.base);
        let body = self.shown(at, &books.orders[at]).to_string();
        (201, vec![("Location", location)], body)
    }

    fn shown(&self, at: usize, order: &Order) -> Value {
        let base = &self.base;
        let mut shown = json!({
            "status": order.status,
            "identifiers": [{ "type": "dns", "value": order.name }],
            "authorizations": [format!("{base}/authorization/{at}")],
            "finalize": format!("{base}/finalize/{at}"),
        });
        if order.chain.is_some() {
            shown["certificate"] = format!("{base}/certificate/{at}").into();
        }
        shown
    }

    fn about(
        self: Arc<Self>,
        kind: &str,
        at: usize,
        challenge: Option<&str>,
        signed: &Signed,
        mood: &Mood,
    ) -> Answer {
        if kind == "challenge" {
            return self.begin(at, challenge.unwrap_or_default(), signed);
        }
        if kind == "finalize" {
            return self.finalize(at, signed, mood);
        }
        if signed.payload != Value::Null {
            return problem(400, "malformed", "POST-as-GET has no payload");
        }
        let books = self.books();
        let order = &books.orders[at];
        let body = match kind {
            "of" => self.shown(at, order).to_string(),
            "authorization" => self.authorization(at, order).to_string(),
            "certificate" => order.chain.clone().unwrap_or_default(),
            _ => return problem(404, "malformed", "no such thing"),
        };
        (200, Vec::new(), body)
    }

    fn authorization(&self, at: usize, order: &Order) -> Value {
        let challenges: Vec<Value> = ["http-01", "tls-alpn-01", "dns-01"]
            .iter()
            .map(|kind| self.challenge(at, kind, order))
            .collect();
        json!({
            "status": order.authorization,
            "identifier": { "type": "dns", "value": order.name },
            "challenges": challenges,
        })
    }

    fn challenge(&self, at: usize, kind: &str, order: &Order) -> Value {
        let mut shown = json!({
            "type": kind,
            "url": format!("{}/challenge/{at}/{kind}", self.base),
            "token": order.token,
            "status": "pending",
        });
        if let Some(error) = order.challenge.get(kind) {
            shown["status"] = "invalid".into();
            shown["error"] = error.clone();
        }
        shown
    }

    /// The client says that its proof can be seen.
    fn begin(self: Arc<Self>, at: usize, kind: &str, signed: &Signed) -> Answer {
        if signed.payload != json!({}) {
            return problem(400, "malformed", "an empty object, please");
        }
        let known = ["http-01", "tls-alpn-01"]
            .into_iter()
            .find(|it| *it == kind);
        let Some(kind) = known else {
            return problem(400, "malformed", "no such challenge");
        };
        let (name, token) = {
            let books = self.books();
            let order = &books.orders[at];
            (order.name.clone(), order.token.clone())
        };
        let authorization = format!("{token}.{}", signed.key.thumbprint());
        let desk = Arc::clone(&self);
        tokio::spawn(async move {
            let mut targets = desk.targets.subscribe();
            let seen = match kind {
                "http-01" => {
                    let told = targets.wait_for(|it| it.http.is_some()).await;
                    let address = told.expect("targets").http.clone().expect("one");
                    proof::by_http(&address, &name, &token, &authorization).await
                }
                _ => {
                    let told = targets.wait_for(|it| it.tls.is_some()).await;
                    let address = told.expect("targets").tls.clone().expect("one");
                    proof::by_tls(&address, &name, &authorization).await
                }
            };
            let mut books = desk.books();
            let order = &mut books.orders[at];
            let is_seen = seen.is_ok();
            if let Err(detail) = seen {
                let kind_of = "urn:ietf:params:acme:error:unauthorized";
                let error = json!({ "type": kind_of, "detail": detail, "status": 403 });
                order.challenge.insert(kind, error);
            }
            order.authorization = if is_seen { "valid" } else { "invalid" };
            order.status = if is_seen { "ready" } else { "invalid" };
        });
        let books = self.books();
        let body = self.challenge(at, kind, &books.orders[at]).to_string();
        (200, Vec::new(), body)
    }

    fn finalize(&self, at: usize, signed: &Signed, mood: &Mood) -> Answer {
        let mut books = self.books();
        if books.orders[at].status != "ready" {
            return problem(403, "orderNotReady", "prove it first");
        }
        let csr = signed.payload["csr"].as_str().unwrap_or_default();
        let csr = BASE64.decode(csr).unwrap_or_default();
        let (validity, now) = (books.validity, SystemTime::now() + books.ahead);
        let order = &mut books.orders[at];
        let issued =
            self.authority
                .issue(&csr, &order.name, (validity, now), *mood == Mood::WrongKey);
        match issued {
            Ok(chain) => {
                order.chain = Some(chain);
                order.status = "valid";
                (200, Vec::new(), self.shown(at, order).to_string())
            }
            Err(detail) => problem(400, "badCSR", &detail),
        }
    }
}

impl Books {
    fn nonce(&mut self) -> String {
        self.counter += 1;
        let nonce = BASE64.encode(format!("nonce or token {:08}", self.counter));
        self.nonces.insert(nonce.clone());
        nonce
    }
}
