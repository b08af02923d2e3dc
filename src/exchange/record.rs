//! The record of one request: filled in by whoever learns something, printed
//! once where the exchange ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::{Method, StatusCode, Uri};

use super::{Client, Refusal};

/// One access line: what every line of an exchange or a tunnel says, then what
/// this one adds.
macro_rules! access_line {
    ($entry:expr, $message:literal, $($more:tt)*) => {
        tracing::info!(
            target: "access",
            id = $entry.id,
            listener = &*$entry.client.listener,
            client = %$entry.client.peer,
            forwarded_for = $entry.forwarded_for,
            http = $entry.client.http.label(),
            tls = $entry.client.tls.as_ref().map(|tls| tls.version),
            sni = $entry.client.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
            client_subject =
                $entry.client.tls.as_ref().and_then(|tls| tls.client_subject.as_deref()),
            host = $entry.host,
            method = %$entry.method,
            path = $entry.path,
            route = $entry.route.as_deref(),
            upstream = $entry.upstream.as_deref(),
            backend = $entry.backend.as_deref(),
            sticky = $entry.sticky,
            $($more)*
            $message
        )
    };
}

pub(crate) use access_line;

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
    pub sticky: Option<String>,
    /// The label and the sentence of longhaul's own answer.
    pub refusal: Option<(&'static str, String)>,
    /// Why the answer's body ended early.
    pub cut: Option<String>,
    /// Body bytes from and to the client.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Set when the exchange has become a tunnel, which logs for itself.
    pub is_tunnel: bool,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Record {
    pub fn new(client: Arc<Client>, method: Method, host: String, path: String) -> Self {
        Self(Arc::new(Mutex::new(Entry {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            started: Instant::now(),
            client,
            forwarded_for: None,
            method,
            host,
            path,
            status: None,
            route: None,
            upstream: None,
            backend: None,
            sticky: None,
            refusal: None,
            cut: None,
            bytes_in: 0,
            bytes_out: 0,
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

    /// Writes the access line of a request that has not become a tunnel.
    pub fn log_request(&self) {
        let refusal = self.refusal.as_ref().map(|(label, _)| *label);
        let reason = self.refusal.as_ref().map(|(_, reason)| reason.as_str());
        access_line!(
            self,
            "request",
            status = self.status.map(|status| status.as_u16()),
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            duration_ms = self.started.elapsed().as_millis() as u64,
            refusal,
            reason,
            cut = self.cut,
        );
    }
}

/// Path and query for the log; the values of the query replaced by `*` unless
/// `query_values` (tokens travel in query strings).
pub fn loggable_path(uri: &Uri, query_values: bool) -> String {
    let Some(query) = uri.query().filter(|_| !query_values) else {
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
            Some((name, _)) => {
                path.push_str(name);
                path.push_str("=*");
            }
            // Without a name a bare token may be all there is.
            None if pair.is_empty() => {}
            None => path.push('*'),
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
        assert_eq!(loggable_path(&uri, false), "/ws?token=*&room=*&*&&=*");
        assert_eq!(
            loggable_path(&uri, true),
            "/ws?token=secret&room=7&bare&&=x"
        );
        assert_eq!(loggable_path(&Uri::from_static("/ws"), false), "/ws");
    }
}
