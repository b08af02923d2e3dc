//! How late the threads come to what they are asked: once a second each thread
//! of the engine and the data plane's runtimes get a question, and say when they
//! came to it.
//!
//! It only measures; the watchdog draws conclusions of its own.
//!
//! Invariant: each has one question open at most, and one that does not come to
//! it is counted again each second with the time so far.

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::DataPlane;
use crate::metrics::{Metrics, OfWorker};
use crate::state::State;
use crate::tunnel::Registry;

/// The names of who is asked beside the runtimes, as the threads are called.
const ENGINE: &str = "tunnels";
const CONTROL: &str = "control";

pub(super) struct Lag {
    data_plane: DataPlane,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    /// In the order of the data plane.
    runtimes: [Option<Question>; 2],
    engine: Vec<Option<Question>>,
}

struct Question {
    asked: Instant,
    answered: oneshot::Receiver<Instant>,
}

impl Lag {
    pub(super) fn new(data_plane: &DataPlane, state: &State) -> Self {
        Self {
            data_plane: data_plane.clone(),
            registry: Arc::clone(&state.registry),
            metrics: Arc::clone(&state.metrics),
            runtimes: [None, None],
            engine: Vec::new(),
        }
    }

    /// Takes the answers and asks again. `due` is when this should have happened.
    pub(super) fn look(&mut self, due: Instant) {
        observe(&self.metrics, CONTROL, due.elapsed().as_secs_f64());
        self.look_at_runtimes();
        self.look_at_engine();
    }

    fn look_at_runtimes(&mut self) {
        for (index, (name, runtime)) in self.data_plane.each().into_iter().enumerate() {
            let open = self.runtimes[index].take();
            let open = self.hear(name, open);
            self.runtimes[index] = Some(open.unwrap_or_else(|| ask(runtime)));
            self.look_at_threads(name, runtime);
        }
    }

    fn look_at_engine(&mut self) {
        for thread in 0.. {
            let open = self.engine.get_mut(thread).and_then(Option::take);
            let open = self.hear(&format!("{ENGINE}-{thread}"), open);
            let asked = Instant::now();
            let ask = || {
                let answered = self.registry.ask_worker(thread)?;
                Some(Question { asked, answered })
            };
            let Some(question) = open.or_else(ask) else {
                return;
            };
            match self.engine.get_mut(thread) {
                Some(place) => *place = Some(question),
                None => self.engine.push(Some(question)),
            }
        }
    }

    /// Counts the answer; the question, if it is still open.
    fn hear(&self, worker: &str, question: Option<Question>) -> Option<Question> {
        let mut question = question?;
        match question.answered.try_recv() {
            Ok(at) => {
                let late = at.saturating_duration_since(question.asked);
                observe(&self.metrics, worker, late.as_secs_f64());
                None
            }
            Err(TryRecvError::Empty) => {
                let late = question.asked.elapsed();
                observe(&self.metrics, worker, late.as_secs_f64());
                Some(question)
            }
            // The thread is over.
            Err(TryRecvError::Closed) => None,
        }
    }

    fn look_at_threads(&self, name: &str, runtime: &Handle) {
        let runtime = runtime.metrics();
        for thread in 0..runtime.num_workers() {
            let worker = format!("{name}-{thread}");
            let busy = self.metrics.worker_busy.get(&OfWorker { worker });
            let total = runtime.worker_total_busy_duration(thread).as_secs_f64();
            busy.inc_by((total - busy.get()).max(0.0));
        }
    }
}

fn ask(runtime: &Handle) -> Question {
    let (answer, answered) = oneshot::channel();
    let asked = Instant::now();
    runtime.spawn(async move {
        let _ = answer.send(Instant::now());
    });
    Question { asked, answered }
}

fn observe(metrics: &Metrics, worker: &str, seconds: f64) {
    let worker = worker.to_owned();
    metrics
        .worker_lag
        .get(&OfWorker { worker })
        .observe(seconds);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_runtime_that_is_stuck_is_late_while_it_is() {
        let data_plane = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (release, stuck) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        data_plane.spawn(async move {
            began.send(()).unwrap();
            assert!(stuck.recv().is_err());
        });
        begun.recv().unwrap();
        let state = State::new();
        let [worker, relay] = [(); 2].map(|()| data_plane.handle().clone());
        let mut lag = Lag::new(&DataPlane { worker, relay }, &state);
        let counted = |count: usize| {
            let line = format!("longhaul_worker_lag_seconds_count{{worker=\"worker\"}} {count}\n");
            state.metrics.text().contains(&line)
        };
        let sum = |worker: &str| -> f64 {
            let page = state.metrics.text();
            let name = format!("longhaul_worker_lag_seconds_sum{{worker=\"{worker}\"}} ");
            let mut sums = page.lines().filter_map(|line| line.strip_prefix(&name));
            sums.next().unwrap().parse().unwrap()
        };
        // Asked for the first time.
        let asked = Instant::now();
        lag.look(asked);
        let mut least = 0.0;
        for count in 1..4 {
            let since = Instant::now();
            while since.elapsed() < Duration::from_millis(20) {
                std::thread::yield_now();
            }
            // Each time it is late by all that has passed since it was asked.
            least += asked.elapsed().as_secs_f64() - 0.005;
            lag.look(Instant::now());
            assert!(counted(count), "{count}");
            let late = sum("worker");
            let most = f64::from(count as u32) * asked.elapsed().as_secs_f64();
            assert!((least..=most).contains(&late), "{count}: {late}");
        }
        // Who looks late says so of itself.
        let before = sum(CONTROL);
        lag.look(Instant::now() - Duration::from_secs(3));
        assert!((3.0..4.0).contains(&(sum(CONTROL) - before)));
        drop(release);
        data_plane.shutdown_background();
    }
}
