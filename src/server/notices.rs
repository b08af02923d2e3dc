//! Messages that wait for the service manager to read.
//!
//! A manager may be slow, or stuck: its socket takes about ten messages and
//! then makes the sender wait. So the sender is a thread of its own, and those
//! who have something to say never wait for it. It knows nothing of what a
//! message says beyond its kind. At most [`MOST`] wait; they leave in the order
//! in which they came; and the newest message of state is never given up for an
//! older one.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// Ten reloads and more, while a manager does nothing.
const MOST: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the manager acts on: each is told, in order.
    State,
    /// How far something is: only the last one counts.
    Progress,
    /// Only that one came counts.
    Alive,
}

/// The way to the thread that sends.
#[derive(Clone, Debug)]
pub(super) struct Notices(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Something waits, or nothing more will come.
    news: Condvar,
    /// Everything has been sent, and nothing more will come.
    ended: Notify,
}

impl Notices {
    /// Starts the thread. `send` may wait as long as it wants.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(super) fn start(mut send: impl FnMut(&str) + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let notices = Self(Arc::clone(&queue));
        let sends = move || {
            while let Some(text) = queue.next() {
                send(&text);
            }
            queue.ended.notify_one();
        };
        thread::Builder::new().name("notify".into()).spawn(sends)?;
        Ok(notices)
    }

    /// Never waits.
    pub(super) fn push(&self, kind: Kind, text: String) {
        if self.0.lock().push(kind, text).is_some() {
            tracing::warn!("the service manager does not read; it was not told of an older state");
        }
        self.0.news.notify_one();
    }

    /// Nothing more will come: waits until all of it is sent, at most `limit`.
    pub(super) async fn end(&self, limit: Duration) {
        self.0.lock().closed = true;
        self.0.news.notify_one();
        if timeout(limit, self.0.ended.notified()).await.is_err() {
            tracing::warn!("the service manager does not read; it was not told everything");
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next message; none when nothing more will come.
    fn next(&self) -> Option<String> {
        let idle = |waiting: &mut Waiting| waiting.messages.is_empty() && !waiting.closed;
        let waiting = self.news.wait_while(self.lock(), idle);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        waiting.messages.pop_front().map(|(_, text)| text)
    }
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<(Kind, String)>,
    closed: bool,
}

impl Waiting {
    /// The message that had to give way, if it was one of state.
    fn push(&mut self, kind: Kind, text: String) -> Option<String> {
        if kind != Kind::State {
            self.messages.retain(|(other, _)| *other != kind);
        }
        self.messages.push_back((kind, text));
        if self.messages.len() <= MOST {
            return None;
        }
        let (kind, text) = self.messages.pop_front()?;
        (kind == Kind::State).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn texts(waiting: &Waiting) -> Vec<&str> {
        let messages = waiting.messages.iter();
        messages.map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn states_keep_their_order_and_of_the_rest_the_newest_stays() {
        let mut waiting = Waiting::default();
        for (kind, text) in [
            (Kind::Alive, "alive"),
            (Kind::State, "reloading"),
            (Kind::Progress, "one"),
            (Kind::State, "ready"),
            (Kind::Alive, "alive"),
            (Kind::Progress, "two"),
            (Kind::State, "stopping"),
        ] {
            assert_eq!(waiting.push(kind, text.into()), None);
        }
        let wanted = ["reloading", "ready", "alive", "two", "stopping"];
        assert_eq!(texts(&waiting), wanted);
    }

    #[test]
    fn a_full_queue_gives_up_the_oldest() {
        let mut waiting = Waiting::default();
        for n in 0..MOST {
            assert_eq!(waiting.push(Kind::State, n.to_string()), None);
        }
        assert_eq!(
            waiting.push(Kind::State, "new".into()).as_deref(),
            Some("0")
        );
        assert_eq!(waiting.messages.len(), MOST);
        assert_eq!(texts(&waiting).first(), Some(&"1"));
        assert_eq!(texts(&waiting).last(), Some(&"new"));
    }

    #[tokio::test]
    async fn the_end_waits_for_all_messages_and_no_longer_than_its_limit() {
        let (sent, seen) = mpsc::channel();
        let notices = Notices::start(move |text| sent.send(text.to_owned()).unwrap()).unwrap();
        notices.push(Kind::State, "one".into());
        notices.push(Kind::State, "two".into());
        notices.end(Duration::from_secs(10)).await;
        assert_eq!(seen.iter().collect::<Vec<_>>(), ["one", "two"]);

        let (_open, never) = mpsc::channel::<()>();
        let stuck = Notices::start(move |_| never.recv().unwrap_or_default()).unwrap();
        stuck.push(Kind::State, "one".into());
        stuck.end(Duration::from_millis(1)).await;
    }
}
