//! What the service manager is told (`sd_notify(3)`). Without one it is silent.
//!
//! Nobody here waits for it: [`Notices`] does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sd_notify::NotifyState;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::DataPlane;
use super::listener::Probe;
use super::notices::{Kind, Notices};
use crate::tunnel::Registry;

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
/// everyone who does some has answered.
pub(super) struct Watchdog {
    manager: Manager,
    data_plane: DataPlane,
    registry: Arc<Registry>,
    interval: Option<Duration>,
    next: Instant,
}

/// Resolves when whoever was asked has answered, or is over.
type Question = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Watchdog {
    pub(super) fn new(manager: Manager, data_plane: DataPlane, registry: Arc<Registry>) -> Self {
        let interval = sd_notify::watchdog_enabled().map(|deadline| deadline / 3);
        Self {
            manager,
            data_plane,
            registry,
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

    /// Asks the accept loops, the data plane's runtimes and the threads of the
    /// tunnel engine and, if all answer in time, tells systemd.
    pub(super) fn beat(&mut self, loops: Vec<Probe>) {
        let Some(interval) = self.interval else {
            return;
        };
        self.next = Instant::now() + interval;
        let (manager, answers) = (self.manager.clone(), self.ask(loops));
        tokio::spawn(async move {
            if timeout(interval, answers).await.is_ok() {
                manager.alive();
            } else {
                tracing::error!("the data plane does not answer; no watchdog message");
            }
        });
    }

    /// Resolves when all have answered.
    fn ask(&self, loops: Vec<Probe>) -> impl Future<Output = ()> + use<> {
        let mut questions: Vec<Question> = loops.into_iter().map(question).collect();
        for (_, runtime) in self.data_plane.each() {
            let task = runtime.spawn(async {});
            questions.push(Box::pin(async move { drop(task.await) }));
        }
        for answered in self.registry.ask_engine() {
            questions.push(Box::pin(async move {
                // An error: the thread is over.
                let _ = answered.await;
            }));
        }
        async move { drop(join_all(questions).await) }
    }
}

/// Whether an accept loop goes round. One that has ended is not stuck.
fn question(accept_loop: Probe) -> Question {
    Box::pin(async move {
        let (answer, answered) = oneshot::channel();
        if accept_loop.send(answer).await.is_ok() {
            let _ = answered.await;
        }
    })
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

    async fn all_answer(loops: Vec<Probe>) -> bool {
        let questions = loops.into_iter().map(question);
        timeout(LIMIT, join_all(questions)).await.is_ok()
    }

    #[tokio::test]
    async fn every_loop_has_to_answer() {
        assert!(all_answer(vec![]).await);
        assert!(all_answer(vec![answering(), answering()]).await);
        let (stuck, _questions) = mpsc::channel(1);
        assert!(!all_answer(vec![answering(), stuck]).await);
        let (full, _unread) = mpsc::channel(1);
        let (answer, _) = oneshot::channel();
        full.try_send(answer).unwrap();
        assert!(!all_answer(vec![full]).await);
        let (ended, questions) = mpsc::channel(1);
        drop(questions);
        assert!(all_answer(vec![ended, answering()]).await);
    }

    /// As during a stop, when there are no accept loops to ask.
    #[tokio::test]
    async fn a_data_plane_that_is_stuck_does_not_answer() {
        let runtimes = [(); 2].map(|()| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(1).build().unwrap()
        });
        let [worker, relay] = [0, 1].map(|index: usize| runtimes[index].handle().clone());
        let data_plane = DataPlane { worker, relay };
        let watchdog = Watchdog::new(Manager(None), data_plane, Registry::new());
        watchdog.ask(Vec::new()).await;
        for runtime in runtimes {
            let (release, stuck) = std::sync::mpsc::channel::<()>();
            runtime.spawn(async move { assert!(stuck.recv().is_err()) });
            assert!(timeout(LIMIT, watchdog.ask(Vec::new())).await.is_err());
            drop(release);
            watchdog.ask(Vec::new()).await;
            runtime.shutdown_background();
        }
    }
}
