//! The record of one request: filled in by whoever learns something, printed
//! once where the exchange ends.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::{Method, StatusCode, Uri};

use super::{Client, Refusal, TlsFacts};
use crate::spans::Begun;

/// One access line: what every line of an exchange or a tunnel says, then what
/// this one adds. The first argument is a [`Line`].
macro_rules! access_line {
    ($line:expr, $message:literal, $($more:tt)*) => {{
        let line: $crate::exchange::Line<'_> = $line;
        tracing::info!(
            target: "access",
            id = line.id,
            listener = line.listener,
            client = %line.client,
            forwarded_for = line.words.forwarded_for(),
            http = line.http,
            tls = line.words.tls(),
            sni = line.words.sni(),
            client_subject = line.words.client_subject(),
            host = line.words.host,
            method = line.words.method,
            path = line.words.path,
            route = line.route,
            upstream = line.upstream,
            backend = line.backend,
            sticky = line.words.sticky(),
            $($more)*
            $message
        )
    }};
}

pub(crate) use access_line;

/// What access lines have in common.
pub struct Line<'a> {
    pub id: u64,
    pub listener: &'a str,
    pub client: &'a dyn Display,
    /// What the client speaks.
    pub http: &'a str,
    pub words: Words<'a>,
    pub route: Option<&'a str>,
    pub upstream: Option<&'a str>,
    pub backend: Option<&'a str>,
}

/// What is known of a client and its request; empty where nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words<'a> {
    /// The client's address through trusted proxies, if it differs from the peer.
    pub forwarded_for: &'a str,
    /// The version of TLS.
    pub tls: &'a str,
    pub sni: &'a str,
    pub client_subject: &'a str,
    pub host: &'a str,
    pub method: &'a str,
    /// Path and query, redacted as the log settings say.
    pub path: &'a str,
    /// Where the sticky key came from.
    pub sticky: &'a str,
}

macro_rules! optional {
    ($($word:ident),+) => {
        impl<'a> Words<'a> {
            $(pub(crate) fn $word(&self) -> Option<&'a str> {
                Some(self.$word).filter(|word| !word.is_empty())
            })+
        }
    };
}

optional!(forwarded_for, tls, sni, client_subject, sticky);

/// A shared handle to one [`Entry`].
#[derive(Clone, Debug)]
pub struct Record(Arc<Mutex<Entry>>);

/// What is known of one request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Unique within the process; a tunnel keeps the id of its request.
    pub id: u64,
    pub started: Instant,
    pub client: Arc<Client>,
    /// The client's address through trusted proxies, if it differs from the peer.
    pub forwarded_for: Option<String>,
    pub method: Method,
    pub host: String,
    /// Path and query, redacted as the log settings say.
    pub path: String,
    pub status: Option<StatusCode>,
    pub route: Option<Arc<str>>,
    pub upstream: Option<Arc<str>>,
    pub backend: Option<Arc<str>>,
    /// Where the sticky key came from, such as `cookie:sid`; `None` until picked.
    pub sticky: Option<Arc<str>>,
    /// The hash of the sticky key, never the key itself.
    pub key: Option<u64>,
    /// The label and the sentence of longhaul's own answer.
    pub refusal: Option<(&'static str, String)>,
    /// Why the answer's body ended early.
    pub cut: Option<String>,
    /// Body bytes from and to the client.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// When the last part of the request's body came.
    pub body_at: Option<Instant>,
    /// What `X-Request-Id` says, if longhaul vouches for it.
    pub request_id: Option<Box<str>>,
    /// The trace that `traceparent` names.
    pub trace_id: Option<Box<str>>,
    /// What has begun to be told of it to a collector of traces.
    pub span: Option<Box<Begun>>,
    /// Whether it asks for a tunnel.
    pub is_handshake: bool,
    /// Set when the exchange has become a tunnel, which logs for itself.
    pub is_tunnel: bool,
}

/// One that nobody has defined may be as long as a head.
fn short(method: Method) -> Method {
    let known = method.as_str().as_bytes();
    let cut = known.get(..MOST_METHOD).map(Method::from_bytes);
    cut.and_then(Result::ok).unwrap_or(method)
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Bytes of a host or a path that are kept for the log, whose queues are counted in
/// lines; the rest is cut off.
const MOST_TEXT: usize = 4096;
const MOST_METHOD: usize = 64;

impl Record {
    pub fn new(client: Arc<Client>, method: Method, mut host: String, mut path: String) -> Self {
        host.truncate(host.floor_char_boundary(MOST_TEXT));
        path.truncate(path.floor_char_boundary(MOST_TEXT));
        Self(Arc::new(Mutex::new(Entry {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            started: Instant::now(),
            client,
            forwarded_for: None,
            method: short(method),
            host,
            path,
            status: None,
            route: None,
            upstream: None,
            backend: None,
            sticky: None,
            key: None,
            refusal: None,
            cut: None,
            bytes_in: 0,
            bytes_out: 0,
            body_at: None,
            request_id: None,
            trace_id: None,
            span: None,
            is_handshake: false,
            is_tunnel: false,
        })))
    }

    /// Changes the entry.
    pub fn update(&self, change: impl FnOnce(&mut Entry)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A copy of the entry as it is now.
    pub fn entry(&self) -> Entry {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Entry {
    /// Longhaul itself gives the answer.
    pub fn refuse(&mut self, refusal: &Refusal) {
        self.status = Some(refusal.status());
        self.refusal = Some((refusal.label(), refusal.to_string()));
    }

    /// Whether an operator wants to see it whatever the others are like.
    pub fn went_badly(&self) -> bool {
        let failed = self.status.is_none_or(|status| status.is_server_error());
        failed || self.refusal.is_some() || self.cut.is_some()
    }

    /// What its lines have in common.
    pub fn line(&self) -> Line<'_> {
        Line {
            id: self.id,
            listener: &self.client.listener,
            client: &self.client.peer,
            http: self.client.http.label(),
            words: self.words(),
            route: self.route.as_deref(),
            upstream: self.upstream.as_deref(),
            backend: self.backend.as_deref(),
        }
    }

    pub fn words(&self) -> Words<'_> {
        let tls = self.client.tls.as_ref();
        Words {
            forwarded_for: self.forwarded_for.as_deref().unwrap_or_default(),
            tls: tls.map_or("", |tls| tls.version),
            sni: tls.and_then(|tls| tls.sni.as_deref()).unwrap_or_default(),
            client_subject: tls.and_then(TlsFacts::client_subject).unwrap_or_default(),
            host: &self.host,
            method: self.method.as_str(),
            path: &self.path,
            sticky: self.sticky.as_deref().unwrap_or_default(),
        }
    }

    /// Writes the access line of a request that has not become a tunnel.
    pub fn log_request(&self) {
        let refusal = self.refusal.as_ref().map(|(label, _)| *label);
        let reason = self.refusal.as_ref().map(|(_, reason)| reason.as_str());
        access_line!(
            self.line(),
            "request",
            status = self.status.map(|status| status.as_u16()),
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            duration_ms = self.started.elapsed().as_millis() as u64,
            request_id = self.request_id.as_deref(),
            trace_id = self.trace_id.as_deref(),
            refusal,
            reason,
            cut = self.cut,
        );
    }
}

/// Whose values of a query no log shows: tokens travel in query strings.
#[derive(Clone, Copy, Debug)]
pub enum Hidden<'a> {
    All,
    /// Those of these names.
    Named(&'a [String]),
}

impl Hidden<'_> {
    /// `None`: it has no name, and a bare token may be all there is.
    fn hides(self, name: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => {
                name.is_some_and(|name| names.iter().any(|it| it.eq_ignore_ascii_case(name)))
            }
        }
    }
}

/// Path and query for the log, with `*` for what is hidden of it.
pub fn loggable_path(uri: &Uri, hidden: Hidden<'_>) -> String {
    let shows_all = matches!(hidden, Hidden::Named([]));
    let Some(query) = uri.query().filter(|_| !shows_all) else {
        return uri
            .path_and_query()
            .map_or_else(|| uri.path().to_owned(), ToString::to_string);
    };
    let mut path = format!("{}?", uri.path());
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            path.push('&');
        }
        match pair.split_once('=') {
            Some((name, _)) if hidden.hides(Some(name)) => {
                path.push_str(name);
                path.push_str("=*");
            }
            None if !pair.is_empty() && hidden.hides(None) => path.push('*'),
            _ => path.push_str(pair),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_redacted() {
        let uri = Uri::from_static("/ws?token=secret&room=7&bare&&=x");
        let names = ["Token".to_owned(), "t".to_owned()];
        for (hidden, wanted) in [
            (Hidden::All, "/ws?token=*&room=*&*&&=*"),
            (Hidden::Named(&names), "/ws?token=*&room=7&bare&&=x"),
            (Hidden::Named(&[]), "/ws?token=secret&room=7&bare&&=x"),
        ] {
            assert_eq!(loggable_path(&uri, hidden), wanted);
        }
        assert_eq!(loggable_path(&Uri::from_static("/ws"), Hidden::All), "/ws");
    }
}
