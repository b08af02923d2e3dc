//! What the service manager is told (`sd_notify(3)`). Without one it is silent.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::listener::Probe;

pub(super) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub(super) fn reloading() {
    // The time is what `Type=notify-reload` insists on; older ones ignore it.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

pub(super) fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Says how far stopping is, and asks for the time that it still needs.
pub(super) fn still_stopping(status: &str, needs: Duration) {
    let needs = u32::try_from(needs.as_micros()).unwrap_or(u32::MAX);
    notify(&[
        NotifyState::Status(status),
        NotifyState::ExtendTimeoutUsec(needs),
    ]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Keep-alive messages that are tied to real work: one goes out only after
/// every accept loop has answered.
pub(super) struct Watchdog {
    interval: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        let interval = sd_notify::watchdog_enabled().map(|deadline| deadline / 3);
        Self {
            interval,
            next: Instant::now(),
        }
    }

    /// Resolves when the next message is due; never without a watchdog.
    pub(super) async fn due(&self) {
        match self.interval {
            Some(_) => sleep_until(self.next).await,
            None => std::future::pending().await,
        }
    }

    /// Asks the accept loops and, if all answer in time, tells systemd.
    pub(super) fn beat(&mut self, loops: Vec<Probe>) {
        let Some(interval) = self.interval else {
            return;
        };
        self.next = Instant::now() + interval;
        tokio::spawn(async move {
            for probe in loops {
                let (answer, answered) = oneshot::channel();
                let asked = timeout(interval, async {
                    // A loop that has ended is not stuck.
                    if probe.send(answer).await.is_ok() {
                        let _ = answered.await;
                    }
                });
                if asked.await.is_err() {
                    tracing::error!("an accept loop does not answer; no watchdog message");
                    return;
                }
            }
            notify(&[NotifyState::Watchdog]);
        });
    }
}
