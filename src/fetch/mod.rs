//! Fetches the keys of tokens from their URLs, again and again.
//!
//! One task for each URL. It fetches when the keys are as old as `refresh` says,
//! when a token names one that is not there, and soon again after a failure.
//! Requests never come here: they look at the keyring. How one is asked, [`ask()`],
//! is also how other questions of longhaul's own are.
//!
//! Invariant: what cannot be had, or is not what it should be, replaces nothing.

mod ask;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, header};
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::KeysUrl;
use crate::exchange::Body;
use crate::identity::{IdentityError, Keyring, Keys};
use crate::metrics::{Metrics, OfResult};
use crate::net::Resolver;
pub use ask::{AskError, Question, ask};

/// Of a document.
const MOST_BYTES: usize = 1024 * 1024;
/// After the first failure; doubled with each.
const AGAIN: Duration = Duration::from_secs(1);
/// What fails is tried again, at last so seldom.
const SELDOM: Duration = Duration::from_secs(60);
/// The share of a wait that is taken off at random, so that many longhauls do
/// not ask together.
const JITTER: f64 = 0.2;

/// A URL, and how it is fetched.
#[derive(Debug)]
pub struct KeyFetch {
    pub settings: KeysUrl,
    /// `None` for plain HTTP.
    pub tls: Option<Arc<ClientConfig>>,
    /// Outlives reloads that keep the URL.
    pub keyring: Arc<Keyring>,
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Keys(#[from] IdentityError),
}

/// A URL that is being fetched, until this is dropped.
#[derive(Debug)]
pub struct Fetching {
    of: watch::Sender<Arc<KeyFetch>>,
    task: JoinHandle<()>,
}

impl Fetching {
    /// Called within a runtime.
    pub fn start(of: Arc<KeyFetch>, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = watch::channel(of);
        let task = tokio::spawn(run(receiver, metrics));
        Self { of: sender, task }
    }

    /// Goes on as this says; nothing happens if it did so already.
    pub fn follow(&self, of: &Arc<KeyFetch>) {
        self.of.send_if_modified(|current| {
            let is_new = !Arc::ptr_eq(current, of);
            if is_new {
                *current = Arc::clone(of);
            }
            is_new
        });
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn request() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    let headers = request.headers_mut();
    let agent = concat!("longhaul/", env!("CARGO_PKG_VERSION"), " (keys)");
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    let kinds = HeaderValue::from_static("application/jwk-set+json, application/json");
    headers.insert(header::ACCEPT, kinds);
    request
}

async fn run(mut of: watch::Receiver<Arc<KeyFetch>>, metrics: Arc<Metrics>) {
    let mut fetcher = Fetcher::default();
    loop {
        let current = Arc::clone(&of.borrow_and_update());
        let due = fetcher.fetch(&current, &metrics).await;
        if !wait(due, &current, &mut of, fetcher.failures > 0).await {
            return;
        }
    }
}

/// Waits until it is time to fetch; `false` if nobody wants to know any more.
async fn wait(
    due: Instant,
    current: &KeyFetch,
    of: &mut watch::Receiver<Arc<KeyFetch>>,
    has_failed: bool,
) -> bool {
    loop {
        tokio::select! {
            () = sleep_until(due) => return true,
            () = current.keyring.wanted() => return true,
            changed = of.changed() => {
                if changed.is_err() {
                    return false;
                }
                // An edit may have mended what was wrong.
                if has_failed || of.borrow_and_update().settings != current.settings {
                    return true;
                }
            }
        }
    }
}

/// How fetching one URL goes.
#[derive(Debug, Default)]
struct Fetcher {
    resolver: Resolver,
    /// In a row.
    failures: u32,
    /// Why the last one failed.
    told: Option<String>,
    /// Of the document in force.
    hash: Option<u64>,
}

impl Fetcher {
    /// Fetches once; when to do so again.
    async fn fetch(&mut self, of: &KeyFetch, metrics: &Metrics) -> Instant {
        of.keyring.begin();
        let question = Question {
            url: &of.settings.url,
            tls: of.tls.as_ref(),
            resolver: &self.resolver,
            timeout: of.settings.timeout,
            most: MOST_BYTES,
        };
        let fetched = ask(&question, request()).await;
        let fetched = fetched.map_err(FetchError::from).and_then(|document| {
            let keys = Keys::of_url(&document, &of.settings.url.text)?;
            Ok((keys, xxh3_64(&document)))
        });
        let result = if fetched.is_ok() { "ok" } else { "failed" };
        metrics.key_fetches.get(&OfResult { result }).inc();
        let wait = match fetched {
            Ok((keys, hash)) => {
                self.tell(of, &keys, hash);
                of.keyring.end(Some(keys));
                self.failures = 0;
                self.told = None;
                of.settings.refresh
            }
            Err(error) => {
                of.keyring.end(None);
                self.tell_failure(of, &error);
                let doubled = 2_u32.saturating_pow(self.failures);
                self.failures = self.failures.saturating_add(1);
                AGAIN.saturating_mul(doubled).min(SELDOM)
            }
        };
        Instant::now() + wait.mul_f64(1.0 - JITTER * rand::random::<f64>())
    }

    fn tell(&mut self, of: &KeyFetch, keys: &Keys, hash: u64) {
        let url = &*of.settings.url.text;
        if self.hash.replace(hash) != Some(hash) {
            tracing::info!(url, keys = keys.count(), "keys fetched");
        } else if self.failures > 0 {
            tracing::info!(url, "keys can be fetched again");
        }
    }

    /// Once for each reason.
    fn tell_failure(&mut self, of: &KeyFetch, error: &FetchError) {
        let error = error.to_string();
        if self.told.as_ref() == Some(&error) {
            return;
        }
        let error = &**self.told.insert(error);
        let url = &*of.settings.url.text;
        match of.keyring.held() {
            Some(held) => {
                let keys = held.keys.count();
                let age = held.at.elapsed().unwrap_or_default().as_secs();
                tracing::warn!(
                    url,
                    error,
                    keys,
                    age,
                    "keys not fetched: those in force stand"
                );
            }
            None => tracing::error!(url, error, "keys not fetched: there are none yet"),
        }
    }
}
