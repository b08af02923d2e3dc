//! How many connections of operators are served at once: in all, and of one address, so
//! that whoever may reach the port can keep nobody else out.
//!
//! It neither accepts nor serves. Users of this machine, on the Unix socket, have no
//! address and no share.
//!
//! Invariants: who is within its share is in nobody's way but that of all; who is beyond
//! it waits in a place of few, and not for long.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::net::{Limiter, Permit, Refused};

/// Connections at once; the next wait in the socket's queue.
const MOST_CONNECTIONS: usize = 32;
/// Of those, of one client address (IPv6: one /64); the next wait here.
const MOST_PER_ADDRESS: usize = 8;
/// Connections that wait so; the next is closed.
const MOST_WAITING: usize = 64;
/// And for so long.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Gate {
    turns: Arc<Semaphore>,
    shares: Arc<Limiter>,
    waiting: Arc<Semaphore>,
    /// Somebody's share is larger again.
    freed: Arc<Notify>,
}

/// The right to be one of those that are served. There is always one: nobody ends the
/// semaphore.
pub(super) type Turn = Option<OwnedSemaphorePermit>;

/// The right to be served; given back when dropped.
#[derive(Debug)]
pub(super) struct Pass {
    // They go in this order: who is told that there is a share finds it.
    _share: Permit,
    _turn: Turn,
    _tells: Tells,
}

#[derive(Debug)]
struct Tells(Arc<Notify>);

impl Drop for Tells {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            // Whoever waits for a turn has its share already.
            shares: Limiter::new(MOST_CONNECTIONS + MOST_WAITING, Some(MOST_PER_ADDRESS)),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            freed: Arc::default(),
        }
    }

    /// Waits until one more may be accepted.
    pub(super) async fn turn(&self) -> Turn {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// For one that was accepted in this turn: waits, if it is beyond its share.
    ///
    /// # Errors
    /// Too many wait, or it has waited too long.
    pub(super) fn pass(
        self: Arc<Self>,
        turn: Turn,
        ip: Option<IpAddr>,
    ) -> impl Future<Output = Result<Pass, Refused>> + Send {
        let entered = self.enter(turn, ip);
        // Not only when it is polled: there may be many at once.
        let waiting = Arc::clone(&self.waiting);
        let place = entered.is_err().then(|| waiting.try_acquire_owned());
        async move {
            match (entered, place) {
                (Err(refused), Some(Ok(_place))) => {
                    let waited = timeout(LONGEST_WAIT, self.wait(ip)).await;
                    waited.map_err(|_| refused)
                }
                (entered, _) => entered,
            }
        }
    }

    /// If it is within its share; a turn that nobody takes is given back.
    fn enter(&self, turn: Turn, ip: Option<IpAddr>) -> Result<Pass, Refused> {
        Ok(Pass {
            _share: self.shares.admit(ip)?,
            _turn: turn,
            _tells: Tells(Arc::clone(&self.freed)),
        })
    }

    async fn wait(&self, ip: Option<IpAddr>) -> Pass {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Before it is looked: what is given back in between is told.
            freed.as_mut().enable();
            if let Ok(pass) = self.enter(None, ip) {
                let _turn = self.turn().await;
                return Pass { _turn, ..pass };
            }
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;

    struct Client(Arc<Gate>, IpAddr);

    impl Client {
        /// Whether it is served, as far as that is known at once.
        async fn comes(&self) -> Option<Result<Pass, Refused>> {
            let turn = self.0.turn().await;
            Arc::clone(&self.0).pass(turn, Some(self.1)).now_or_never()
        }
    }

    fn gate() -> (Arc<Gate>, Client, Client) {
        let gate = Arc::new(Gate::new());
        let client = |ip: &str| Client(Arc::clone(&gate), ip.parse().unwrap());
        let (one, other) = (client("192.0.2.1"), client("2001:db8::1"));
        (gate, one, other)
    }

    async fn share_of(client: &Client) -> Vec<Pass> {
        let mut held = Vec::new();
        for _ in 0..MOST_PER_ADDRESS {
            held.push(client.comes().await.unwrap().unwrap());
        }
        held
    }

    #[tokio::test(start_paused = true)]
    async fn one_beyond_its_share_waits_and_is_in_nobodys_way() {
        let (gate, one, other) = gate();
        let mut held = share_of(&one).await;
        let turn = gate.turn().await;
        let mut ninth = Box::pin(Arc::clone(&gate).pass(turn, Some(one.1)));
        assert!((&mut ninth).now_or_never().is_none());
        // By the /64, and while those who wait hold no turn.
        let neighbour = Client(Arc::clone(&gate), "2001:db8::2".parse().unwrap());
        held.extend(share_of(&neighbour).await);
        assert!(other.comes().await.is_none(), "it is the same client");
        held.remove(0);
        assert!(ninth.await.is_ok());
        // Nor has it taken the share of the next.
        assert!(one.comes().await.unwrap().is_ok());
        assert!(one.comes().await.is_some(), "the last has gone again");
    }

    #[tokio::test(start_paused = true)]
    async fn few_wait_and_not_for_long() {
        let (gate, one, other) = gate();
        let _held = share_of(&one).await;
        let mut waiting = Vec::new();
        for _ in 0..MOST_WAITING {
            let turn = gate.turn().await;
            waiting.push(Arc::clone(&gate).pass(turn, Some(one.1)));
        }
        assert_eq!(
            one.comes().await.unwrap().unwrap_err(),
            Refused::AddressFull
        );
        assert!(other.comes().await.unwrap().is_ok());
        let begun = Instant::now();
        for passing in futures_util::future::join_all(waiting).await {
            assert_eq!(passing.unwrap_err(), Refused::AddressFull);
        }
        assert_eq!(begun.elapsed(), LONGEST_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_share_waits_for_a_turn_as_well() {
        let (gate, one, _) = gate();
        let mut held = share_of(&one).await;
        let turn = gate.turn().await;
        let mut ninth = Box::pin(Arc::clone(&gate).pass(turn, Some(one.1)));
        assert!((&mut ninth).now_or_never().is_none());
        let mut turns = Vec::new();
        while let Some(turn) = gate.turn().now_or_never() {
            turns.push(turn);
        }
        assert_eq!(turns.len(), MOST_CONNECTIONS - MOST_PER_ADDRESS);
        // The turn that it leaves is taken by another.
        held.pop();
        turns.push(gate.turn().now_or_never().unwrap());
        assert!((&mut ninth).now_or_never().is_none());
        turns.pop();
        assert!(ninth.await.is_ok());
    }
}
