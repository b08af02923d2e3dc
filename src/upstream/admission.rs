//! Who may begin a handshake with a backend, and when: so many in flight, and
//! so many a second.
//!
//! It counts handshakes only; how many tunnels a backend may have is its own
//! count ([`super::Lease`]).
//!
//! Invariants: no more than `max_queued` wait, none beyond its deadline, and in
//! the order they came; whoever gives up leaves his turn to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::{Admission, Rate};

/// What a timer may be late by without a slot being lost: with more than this
/// many a second several go at once.
const LATE: Duration = Duration::from_millis(2);

/// The way in to one backend.
#[derive(Debug)]
pub(super) struct Gate {
    settings: Admission,
    in_flight: Option<Arc<Semaphore>>,
    spacing: Option<Spacing>,
    queued: AtomicUsize,
}

/// The right to a handshake, until it is answered.
#[derive(Debug, Default)]
pub struct Pass {
    _in_flight: Option<OwnedSemaphorePermit>,
}

/// The backend takes no more at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Debug)]
struct Spacing {
    interval: Duration,
    /// When the next may go. Held by whoever waits for it.
    next: Mutex<Instant>,
}

impl Gate {
    pub(super) fn new(settings: Admission) -> Self {
        let in_flight = settings.max_handshakes_in_flight;
        Self {
            in_flight: in_flight.map(|most| Arc::new(Semaphore::new(most))),
            spacing: settings.handshake_rate.map(Spacing::new),
            queued: AtomicUsize::new(0),
            settings,
        }
    }

    pub(super) fn settings(&self) -> &Admission {
        &self.settings
    }

    /// Handshakes that wait.
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Goes in, at `deadline` at the latest.
    ///
    /// # Errors
    /// If the queue is full, too long for the deadline, or does not move.
    pub(super) async fn pass(&self, deadline: Instant) -> Result<Pass, Full> {
        if let Some(pass) = self.pass_now() {
            return Ok(pass);
        }
        let _queued = self.queue_up(deadline)?;
        let waited = timeout_at(deadline, self.wait());
        waited.await.unwrap_or(Err(Full))
    }

    fn pass_now(&self) -> Option<Pass> {
        let in_flight = match &self.in_flight {
            Some(semaphore) => Some(Arc::clone(semaphore).try_acquire_owned().ok()?),
            None => None,
        };
        let now = Instant::now();
        if let Some(spacing) = &self.spacing {
            let mut next = spacing.next.try_lock().ok()?;
            if *next > now {
                return None;
            }
            spacing.step(&mut next, now);
        }
        Some(Pass {
            _in_flight: in_flight,
        })
    }

    async fn wait(&self) -> Result<Pass, Full> {
        let in_flight = match &self.in_flight {
            // It is never closed.
            Some(semaphore) => {
                let permit = Arc::clone(semaphore).acquire_owned().await;
                Some(permit.map_err(|_| Full)?)
            }
            None => None,
        };
        if let Some(spacing) = &self.spacing {
            let mut next = spacing.next.lock().await;
            sleep_until(*next).await;
            spacing.step(&mut next, Instant::now());
        }
        Ok(Pass {
            _in_flight: in_flight,
        })
    }

    /// A place in the queue. Better none than one that is too far behind: the
    /// client can go elsewhere while there is time.
    fn queue_up(&self, deadline: Instant) -> Result<Queued<'_>, Full> {
        let place = self.queued.fetch_add(1, Ordering::Relaxed);
        let queued = Queued(&self.queued);
        let patience = deadline.saturating_duration_since(Instant::now());
        let ahead = u32::try_from(place).unwrap_or(u32::MAX);
        let too_long = |spacing: &Spacing| spacing.interval.saturating_mul(ahead) > patience;
        if place >= self.settings.max_queued || self.spacing.as_ref().is_some_and(too_long) {
            return Err(Full);
        }
        Ok(queued)
    }
}

impl Spacing {
    fn new(rate: Rate) -> Self {
        Self {
            interval: rate.interval(),
            next: Mutex::new(Instant::now()),
        }
    }

    /// One goes `now`.
    fn step(&self, next: &mut Instant, now: Instant) {
        let earliest = now.checked_sub(LATE).unwrap_or(now);
        *next = (*next).max(earliest) + self.interval;
    }
}

/// A place in the queue, until this is dropped.
struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(in_flight: Option<usize>, rate: Option<Rate>, queue: usize) -> Admission {
        Admission {
            max_tunnels: None,
            max_handshakes_in_flight: in_flight,
            handshake_rate: rate,
            max_queued: queue,
            queue_timeout: Duration::from_secs(5),
            retry_after: Duration::from_secs(1),
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_a_second_and_no_more() {
        let gate = Arc::new(Gate::new(settings(None, Some(Rate::per_second(100)), 1000)));
        let start = Instant::now();
        let mut passed = tokio::task::JoinSet::new();
        for _ in 0..450 {
            let gate = Arc::clone(&gate);
            passed.spawn(async move { gate.pass(soon()).await.map(|_| start.elapsed()) });
        }
        let passed = passed.join_all().await;
        let mut times: Vec<_> = passed.into_iter().flatten().collect();
        times.sort();
        assert_eq!(times.len(), 450);
        for (index, time) in times.iter().enumerate() {
            let earliest = Duration::from_millis(10) * index as u32;
            assert!(*time + LATE >= earliest, "{index} at {time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_too_long_for_the_deadline_is_not_joined() {
        let gate = Arc::new(Gate::new(settings(None, Some(Rate::per_second(1)), 1000)));
        gate.pass(soon()).await.unwrap();
        let start = Instant::now();
        let mut ten = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let gate = Arc::clone(&gate);
            ten.spawn(async move { gate.pass(soon()).await });
        }
        let passed = ten.join_all().await;
        assert_eq!(passed.iter().flatten().count(), 5);
        assert!(start.elapsed() <= Duration::from_secs(5));
        assert_eq!(gate.queued(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_in_flight_and_the_next_when_one_is_over() {
        let gate = Gate::new(settings(Some(2), None, 1));
        let (one, _two) = (gate.pass(soon()).await.unwrap(), gate.pass(soon()).await);
        let waits = async { gate.pass(soon()).await };
        let full = async {
            tokio::task::yield_now().await;
            let full = gate.pass(soon()).await;
            drop(one);
            full
        };
        let (waited, full) = tokio::join!(waits, full);
        assert!(waited.is_ok());
        assert_eq!(full.unwrap_err(), Full);
        let start = Instant::now();
        let _three = waited;
        gate.pass(soon()).await.unwrap_err();
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
