//! The addresses of the host name of a server that longhaul dials.
//!
//! A lookup blocks a thread that others need, so there is one at a time for
//! each server, shared by all who dial it; the last good answer stands in for
//! one that fails or does not come.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long a lookup is waited for while there is an older answer.
const PATIENCE: Duration = Duration::from_secs(1);

type Answer = Arc<io::Result<Vec<SocketAddr>>>;

/// One server's lookups.
#[derive(Debug, Default)]
pub struct Resolver(Mutex<Lookups>);

#[derive(Debug, Default)]
struct Lookups {
    running: Option<watch::Receiver<Option<Answer>>>,
    last_good: Vec<SocketAddr>,
}

impl Resolver {
    /// At least one address.
    ///
    /// # Errors
    /// The lookup's, if none ever succeeded.
    pub async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let (mut lookup, last_good) = self.lookup(host, port);
        let answered = lookup.wait_for(Option::is_some);
        let answer = if last_good.is_empty() {
            answered.await
        } else {
            match timeout(PATIENCE, answered).await {
                Ok(answer) => answer,
                Err(_) => return Ok(last_good),
            }
        };
        let answer = answer.ok().and_then(|answer| (*answer).clone());
        match answer.as_deref() {
            Some(Ok(found)) if !found.is_empty() => {
                self.lookups().last_good.clone_from(found);
                Ok(found.clone())
            }
            _ if !last_good.is_empty() => Ok(last_good),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
            Some(Ok(_)) | None => Err(io::Error::other("the name has no address")),
        }
    }

    /// The lookup under way, or a new one; and the last good answer.
    fn lookup(&self, host: &str, port: u16) -> (watch::Receiver<Option<Answer>>, Vec<SocketAddr>) {
        let mut lookups = self.lookups();
        let running = lookups.running.as_ref();
        // One whose task is gone will never answer.
        let running = running.filter(|one| one.borrow().is_none() && one.has_changed().is_ok());
        let lookup = running
            .cloned()
            .unwrap_or_else(|| start(host.to_owned(), port));
        lookups.running = Some(lookup.clone());
        (lookup, lookups.last_good.clone())
    }

    fn lookups(&self) -> MutexGuard<'_, Lookups> {
        // Both parts are set whole, so they are whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(host: String, port: u16) -> watch::Receiver<Option<Answer>> {
    let (answer, answered) = watch::channel(None);
    // The thread that looks up gives the answer itself: a probe's runtime would
    // have everyone who shares the lookup wait until it has time.
    spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs();
        answer.send_replace(Some(Arc::new(found.map(Iterator::collect))));
    });
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_and_numbers_are_resolved() {
        let resolver = Resolver::default();
        let found = resolver.addresses("::1", 7).await.unwrap();
        assert_eq!(found, ["[::1]:7".parse().unwrap()]);
        let found = resolver.addresses("localhost", 7).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()));
        assert!(!found.is_empty());
    }

    #[tokio::test]
    async fn those_who_come_during_a_lookup_share_it() {
        let resolver = Resolver::default();
        let (answer, answered) = watch::channel(None);
        resolver.lookups().running = Some(answered);
        let address: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let both = async {
            tokio::join!(
                resolver.addresses("a.example", 7),
                resolver.addresses("a.example", 7)
            )
        };
        let tell = async {
            tokio::task::yield_now().await;
            answer.send_replace(Some(Arc::new(Ok(vec![address]))));
        };
        let ((one, two), ()) = tokio::join!(both, tell);
        assert_eq!(one.unwrap(), [address]);
        assert_eq!(two.unwrap(), [address]);
    }

    #[test]
    fn an_answer_needs_nobody_but_the_thread_that_looks_up() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut answered = runtime.block_on(async { start("localhost".to_owned(), 7) });
        // Nothing turns that runtime any more.
        let other = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let found = other.block_on(async {
            let answer = answered.wait_for(Option::is_some);
            let answer = timeout(Duration::from_secs(60), answer).await;
            answer.expect("it never comes").unwrap().clone()
        });
        assert!(found.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_answer_stands_in() {
        let resolver = Resolver::default();
        let address: SocketAddr = "192.0.2.1:7".parse().unwrap();
        resolver.lookups().last_good = vec![address];
        let (silent, answered) = watch::channel(None);
        resolver.lookups().running = Some(answered);
        assert_eq!(resolver.addresses("a.example", 7).await.unwrap(), [address]);
        silent.send_replace(Some(Arc::new(Err(io::ErrorKind::NotFound.into()))));
    }
}
