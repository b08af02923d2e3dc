//! When an HTTP/2 connection is too old, idle for too long, or dead.
//!
//! One timer for all of it. Whether the connection has streams is noted when it
//! is polled and looked at when the timer is due, so that nothing has to be
//! armed for each request.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::Http2;

/// For a client that has been told to go and has no stream left.
const GOODBYE: Duration = Duration::from_secs(1);

/// Never, for a timer.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It is to take no new streams.
    Leave,
    /// It is to end.
    End,
    /// A ping is to be sent.
    Ping,
}

#[derive(Debug)]
pub(super) struct Clocks {
    timer: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    old_at: Option<Instant>,
    leaving: bool,
    /// When it last had a stream.
    busy: Instant,
    ping: Option<Pinging>,
}

#[derive(Debug)]
struct Pinging {
    interval: Duration,
    timeout: Duration,
    due: Instant,
    /// Whether `due` is an answer's.
    sent: bool,
}

impl Clocks {
    pub(super) fn new(http: &Http2) -> Self {
        let (limits, now) = (&http.limits, Instant::now());
        let age = limits.max_connection_age.map(|most| {
            let taken_off = rand::random::<f64>() * limits.max_connection_age_jitter;
            most.mul_f64(1.0 - taken_off)
        });
        let ping = limits.ping_interval.map(|interval| Pinging {
            interval,
            timeout: limits.ping_timeout,
            due: now + interval,
            sent: false,
        });
        let mut clocks = Self {
            timer: Box::pin(sleep_until(now + FAR)),
            idle_timeout: http.keepalive_timeout,
            old_at: age.map(|age| now + age),
            leaving: false,
            busy: now,
            ping,
        };
        clocks.arm();
        clocks
    }

    /// The connection has a stream at this moment.
    pub(super) fn note_busy(&mut self) {
        self.busy = Instant::now();
    }

    /// The client has been told to go.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.old_at = None;
        self.busy = Instant::now();
        self.arm();
    }

    /// The client has answered the ping.
    pub(super) fn answered(&mut self) {
        if let Some(ping) = &mut self.ping {
            ping.sent = false;
            ping.due = Instant::now() + ping.interval;
        }
        self.arm();
    }

    /// Waits until something may be due.
    pub(super) async fn tick(&mut self) {
        self.timer.as_mut().await;
    }

    /// What is due; `busy`: whether the connection has streams now.
    pub(super) fn look(&mut self, busy: bool) -> Option<Due> {
        if busy {
            self.note_busy();
        }
        let due = self.expired(Instant::now());
        self.arm();
        due
    }

    fn expired(&mut self, now: Instant) -> Option<Due> {
        if let Some(ping) = &mut self.ping
            && ping.due <= now
        {
            if ping.sent {
                return Some(Due::End);
            }
            ping.sent = true;
            ping.due = now + ping.timeout;
            return Some(Due::Ping);
        }
        if self.old_at.is_some_and(|old_at| old_at <= now) {
            return Some(Due::Leave);
        }
        if self.idle_at() > now {
            return None;
        }
        Some(match self.leaving {
            true => Due::End,
            false => Due::Leave,
        })
    }

    fn idle_at(&self) -> Instant {
        match self.leaving {
            true => self.busy + GOODBYE,
            false => self.busy + self.idle_timeout,
        }
    }

    fn arm(&mut self) {
        let others = [self.old_at, self.ping.as_ref().map(|ping| ping.due)];
        let earliest = others
            .into_iter()
            .flatten()
            .fold(self.idle_at(), Instant::min);
        self.timer.as_mut().reset(earliest);
    }
}
