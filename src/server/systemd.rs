//! What the service manager is told (`sd_notify(3)`). Without one it is silent.
//!
//! Nobody here waits for it: [`Notices`] does.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::listener::Probe;
use super::notices::{Kind, Notices};

/// How long the end of the process waits for the manager to have been told.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service manager, if there is one. Telling it something never waits.
#[derive(Clone, Debug)]
pub(super) struct Manager(Option<Notices>);

impl Manager {
    /// Starts the thread that talks to the manager, if there is one.
    pub(super) fn start() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        let notices = Notices::start(send);
        Self(
            notices
                .inspect_err(
                    |error| tracing::warn!(%error, "no thread to tell the service manager"),
                )
                .ok(),
        )
    }

    pub(super) fn ready(&self, status: &str) {
        self.tell(
            Kind::State,
            &[NotifyState::Ready, NotifyState::Status(status)],
        );
    }

    pub(super) fn reloading(&self) {
        // The time is what `Type=notify-reload` insists on; older ones ignore it.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(Kind::State, &[NotifyState::Reloading, now]),
            Err(_) => self.tell(Kind::State, &[NotifyState::Reloading]),
        }
    }

    pub(super) fn stopping(&self, status: &str) {
        self.tell(
            Kind::State,
            &[NotifyState::Stopping, NotifyState::Status(status)],
        );
    }

    /// Says how far stopping is, and asks for the time that it still needs.
    pub(super) fn still_stopping(&self, status: &str, needs: Duration) {
        let needs = u32::try_from(needs.as_micros()).unwrap_or(u32::MAX);
        self.tell(
            Kind::Progress,
            &[
                NotifyState::Status(status),
                NotifyState::ExtendTimeoutUsec(needs),
            ],
        );
    }

    /// Nothing more will be told: waits until it has all been, but not for long.
    pub(super) async fn end(&self) {
        if let Some(notices) = &self.0 {
            notices.end(PATIENCE).await;
        }
    }

    fn alive(&self) {
        self.tell(Kind::Alive, &[NotifyState::Watchdog]);
    }

    fn tell(&self, kind: Kind, state: &[NotifyState<'_>]) {
        if let Some(notices) = &self.0 {
            let lines: Vec<String> = state.iter().map(ToString::to_string).collect();
            notices.push(kind, lines.join("\n"));
        }
    }
}

/// Waits for as long as the manager does not read.
fn send(text: &str) {
    if let Err(error) = sd_notify::notify(&[NotifyState::Custom(text)])
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Keep-alive messages that are tied to real work: one goes out only after
/// every accept loop has answered.
pub(super) struct Watchdog {
    manager: Manager,
    interval: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    pub(super) fn new(manager: Manager) -> Self {
        let interval = sd_notify::watchdog_enabled().map(|deadline| deadline / 3);
        Self {
            manager,
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
        let manager = self.manager.clone();
        tokio::spawn(async move {
            if all_answer(loops, interval).await {
                manager.alive();
            } else {
                tracing::error!("an accept loop does not answer; no watchdog message");
            }
        });
    }
}

/// Whether each accept loop answers within `limit`.
async fn all_answer(loops: Vec<Probe>, limit: Duration) -> bool {
    for probe in loops {
        let (answer, answered) = oneshot::channel();
        let asked = timeout(limit, async {
            // A loop that has ended is not stuck.
            if probe.send(answer).await.is_ok() {
                let _ = answered.await;
            }
        });
        if asked.await.is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    /// A loop that answers every question, until it is dropped.
    fn answering() -> Probe {
        let (probe, mut probes) = mpsc::channel::<oneshot::Sender<()>>(1);
        tokio::spawn(async move {
            while let Some(answer) = probes.recv().await {
                let _ = answer.send(());
            }
        });
        probe
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_only_if_every_loop_answers() {
        assert!(all_answer(vec![], LIMIT).await);
        assert!(all_answer(vec![answering(), answering()], LIMIT).await);
        let (stuck, _questions) = mpsc::channel(1);
        assert!(!all_answer(vec![answering(), stuck], LIMIT).await);
        let (full, _unread) = mpsc::channel(1);
        let (answer, _) = oneshot::channel();
        full.try_send(answer).unwrap();
        assert!(!all_answer(vec![full], LIMIT).await);
        let (ended, questions) = mpsc::channel(1);
        drop(questions);
        assert!(all_answer(vec![ended, answering()], LIMIT).await);
    }
}
