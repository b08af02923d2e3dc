//! The keys of one URL: those in force, and who waits for others.
//!
//! It fetches nothing: whoever does says when a fetch begins and what came of it.
//!
//! Invariant: what strangers send has keys fetched early once in [`EARLY`] at
//! most, and a fetch that fails takes nothing away.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::keys::Keys;

/// Between two fetches that tokens of unknown keys ask for.
const EARLY: Duration = Duration::from_secs(10);

/// Shared by every route and every generation that names the URL.
#[derive(Debug, Default)]
pub struct Keyring {
    // Only `load_full` and `store`: see `state`.
    held: ArcSwapOption<Held>,
    fetches: watch::Sender<Fetches>,
    early: Mutex<Early>,
    wanted: Notify,
}

/// What the last good fetch brought.
#[derive(Debug)]
pub struct Held {
    pub keys: Keys,
    pub at: SystemTime,
}

/// How many there have been.
#[derive(Clone, Copy, Debug, Default)]
struct Fetches {
    begun: u64,
    ended: u64,
    last_ok: bool,
}

#[derive(Debug, Default)]
struct Early {
    asked: Option<Instant>,
    /// The fetch that was asked for, by its number.
    fetch: u64,
}

impl Keyring {
    /// The keys in force; only at the start, while the first fetch is under way,
    /// is that waited for.
    pub(super) async fn keys(&self, patience: Duration) -> Option<Arc<Held>> {
        if let Some(held) = self.held() {
            return Some(held);
        }
        let mut fetches = self.fetches.subscribe();
        let first = fetches.wait_for(|it| it.ended > 0);
        // Those who have waited in vain look once more all the same.
        drop(timeout(patience, first).await);
        self.held()
    }

    /// Asks for a fetch because a token names a key that is not held, and waits
    /// for its end; `None` if there was one for that reason just now, or if it
    /// fails.
    pub(super) async fn renewed(&self, patience: Duration) -> Option<Arc<Held>> {
        let fetch = self.early_fetch()?;
        let mut fetches = self.fetches.subscribe();
        let ended = fetches.wait_for(|it| it.ended >= fetch);
        match timeout(patience, ended).await {
            Ok(Ok(it)) if it.last_ok => {}
            _ => return None,
        }
        self.held()
    }

    /// The number of the early fetch to wait for: of the one under way, or of a
    /// new one if it is time for that.
    fn early_fetch(&self) -> Option<u64> {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        let fetches = *self.fetches.borrow();
        if fetches.ended < early.fetch {
            return Some(early.fetch);
        }
        let now = Instant::now();
        if early.asked.is_some_and(|asked| now < asked + EARLY) {
            return None;
        }
        // One that has begun already may have been answered before the key was
        // there.
        *early = Early {
            asked: Some(now),
            fetch: fetches.begun + 1,
        };
        self.wanted.notify_one();
        Some(early.fetch)
    }

    /// Until somebody wants the keys to be fetched early.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// A fetch begins.
    pub fn begin(&self) {
        self.fetches.send_modify(|it| it.begun += 1);
    }

    /// The fetch has ended; `None`: without keys.
    pub fn end(&self, keys: Option<Keys>) {
        let last_ok = keys.is_some();
        if let Some(keys) = keys {
            let at = SystemTime::now();
            self.held.store(Some(Arc::new(Held { keys, at })));
        }
        self.fetches.send_modify(|it| {
            it.ended = it.begun;
            it.last_ok = last_ok;
        });
    }

    pub fn held(&self) -> Option<Arc<Held>> {
        self.held.load_full()
    }

    /// Whether the last fetch that has ended brought keys.
    pub fn is_last_ok(&self) -> bool {
        self.fetches.borrow().last_ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn keys() -> Option<Keys> {
        Some(Keys { keys: Vec::new() })
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_fetch_is_waited_for_and_no_later_one() {
        let ring = Arc::new(Keyring::default());
        let start = Instant::now();
        let waiting = {
            let ring = Arc::clone(&ring);
            tokio::spawn(async move { ring.keys(PATIENCE).await.is_some() })
        };
        tokio::task::yield_now().await;
        ring.begin();
        ring.end(keys());
        assert!(waiting.await.unwrap());
        // A failure takes nothing away.
        ring.begin();
        ring.end(None);
        assert!(ring.keys(PATIENCE).await.is_some() && !ring.is_last_ok());
        assert_eq!(start.elapsed(), Duration::ZERO);
        // Where the first has failed nobody waits.
        let failed = Keyring::default();
        failed.begin();
        failed.end(None);
        assert!(failed.keys(PATIENCE).await.is_none());
        assert_eq!(start.elapsed(), Duration::ZERO);
        // And where it takes too long, not for ever.
        let silent = Keyring::default();
        silent.begin();
        assert!(silent.keys(PATIENCE).await.is_none());
        assert_eq!(start.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_unknown_keys_asks_once() {
        let ring = Arc::new(Keyring::default());
        ring.begin();
        ring.end(keys());
        for round in 0..3 {
            let all: Vec<_> = (0..1000)
                .map(|_| {
                    let ring = Arc::clone(&ring);
                    tokio::spawn(async move { ring.renewed(PATIENCE).await.is_some() })
                })
                .collect();
            // All of them wait for the one fetch.
            ring.wanted().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            ring.begin();
            ring.end(keys());
            for one in all {
                assert!(one.await.unwrap(), "round {round}");
            }
            // Others get their answer at once, until it is time again.
            let start = Instant::now();
            assert!(ring.renewed(PATIENCE).await.is_none());
            assert_eq!(start.elapsed(), Duration::ZERO);
            tokio::time::sleep(EARLY).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_had_begun_before_is_not_the_one_that_was_asked_for() {
        let ring = Arc::new(Keyring::default());
        ring.begin();
        ring.end(keys());
        ring.begin();
        let waiting = {
            let ring = Arc::clone(&ring);
            tokio::spawn(async move { ring.renewed(PATIENCE).await.is_some() })
        };
        ring.wanted().await;
        ring.end(keys());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        ring.begin();
        ring.end(None);
        assert!(!waiting.await.unwrap(), "it brought nothing");
    }
}
