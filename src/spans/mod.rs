//! Spans of traces (OpenTelemetry): what was done for one request, and the bounded
//! queue in which they wait to be sent.
//!
//! Plain values; `otlp` sends them. Nobody waits here but who sends.
//!
//! Invariant: whatever becomes of the collector, no more than [`MOST`] spans wait,
//! and what finds no room is counted.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;

/// Spans that wait.
const MOST: usize = 4096;
/// Bytes of one text in them; the rest is cut off.
const MOST_TEXT: usize = 1024;

/// One thing that was done, and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub trace_id: u128,
    pub id: u64,
    pub parent: Option<u64>,
    pub name: String,
    /// Whether it is how a request was received; otherwise it is a part of that.
    pub is_server: bool,
    pub start: SystemTime,
    pub end: SystemTime,
    pub is_error: bool,
    pub attributes: Vec<(&'static str, Value)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

impl Span {
    pub fn text(&mut self, key: &'static str, value: impl fmt::Display) {
        let mut text = value.to_string();
        text.truncate(text.floor_char_boundary(MOST_TEXT));
        self.attributes.push((key, Value::Text(text)));
    }

    /// The same for what may not be known.
    pub fn text_of(&mut self, key: &'static str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub fn number(&mut self, key: &'static str, value: impl TryInto<i64>) {
        let value = value.try_into().unwrap_or(i64::MAX);
        self.attributes.push((key, Value::Number(value)));
    }
}

/// A span that has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    spans: Arc<Spans>,
    pub trace_id: u128,
    pub id: u64,
    parent: Option<u64>,
    start: SystemTime,
    /// How long the backend was dialled.
    pub dial: Option<Duration>,
}

impl Begun {
    /// Begins one now, with an id of its own.
    pub fn new(spans: &Arc<Spans>, trace_id: u128, parent: Option<u64>) -> Self {
        Self {
            spans: Arc::clone(spans),
            trace_id,
            id: some_id(),
            parent,
            start: SystemTime::now(),
            dial: None,
        }
    }

    /// Begins a part of it now.
    pub fn part(&self) -> Self {
        Self::new(&self.spans, self.trace_id, Some(self.id))
    }

    /// Ends it and has it sent, as `fill` says.
    pub fn end(&self, mut name: String, lasted: Duration, fill: impl FnOnce(&mut Span)) {
        // By one clock's duration: the other may have been set meanwhile.
        let end = self.start.checked_add(lasted).unwrap_or(self.start);
        name.truncate(name.floor_char_boundary(MOST_TEXT));
        let mut span = Span {
            trace_id: self.trace_id,
            id: self.id,
            parent: self.parent,
            name,
            is_server: false,
            start: self.start,
            end,
            is_error: false,
            attributes: Vec::new(),
        };
        fill(&mut span);
        self.spans.push(span);
    }
}

/// An id for a span; zero would be none.
pub fn some_id() -> u64 {
    rand::random::<u64>().max(1)
}

/// The spans that wait; one queue for the process.
#[derive(Debug, Default)]
pub struct Spans {
    queue: Mutex<VecDeque<Span>>,
    arrived: Notify,
    is_on: AtomicBool,
    dropped: Counter,
}

impl Spans {
    /// Counts there what finds no room.
    pub fn new(dropped: Counter) -> Self {
        Self {
            dropped,
            ..Self::default()
        }
    }

    /// Whether somebody sends them. What comes while nobody does is forgotten; what
    /// waits when that begins is counted as what finds no room.
    pub fn switch(&self, is_on: bool) {
        let mut queue = self.lock();
        self.is_on.store(is_on, Ordering::Relaxed);
        if !is_on {
            self.forget(queue.len());
            queue.clear();
        }
    }

    fn push(&self, span: Span) {
        let mut queue = self.lock();
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        if queue.len() >= MOST {
            self.dropped.inc();
            return;
        }
        queue.push_back(span);
        drop(queue);
        self.arrived.notify_one();
    }

    /// Counts so many that nobody will send.
    pub fn forget(&self, count: usize) {
        self.dropped.inc_by(count as u64);
    }

    /// The oldest, at most so many.
    pub fn take(&self, most: usize) -> Vec<Span> {
        let mut queue = self.lock();
        let most = most.min(queue.len());
        queue.drain(..most).collect()
    }

    /// Waits until there are some. For one caller at a time.
    pub async fn some(&self) {
        while self.lock().is_empty() {
            self.arrived.notified().await;
        }
    }

    /// Every step leaves it whole.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Span>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(is_on: bool) -> (Arc<Spans>, Counter) {
        let dropped = Counter::default();
        let spans = Arc::new(Spans::new(dropped.clone()));
        spans.switch(is_on);
        (spans, dropped)
    }

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        let (spans, dropped) = spans(true);
        let begun = Begun::new(&spans, 7, None);
        for number in 0..MOST + 5 {
            begun.end(number.to_string(), Duration::ZERO, |_| ());
        }
        assert_eq!(dropped.get(), 5);
        let taken = spans.take(2);
        assert_eq!([&*taken[0].name, &*taken[1].name], ["0", "1"]);
        assert_eq!(spans.take(usize::MAX).len(), MOST - 2);
        assert_eq!(spans.take(1), []);
    }

    #[test]
    fn nothing_waits_while_nobody_sends() {
        let (spans, dropped) = spans(false);
        let begun = Begun::new(&spans, 7, None);
        begun.end("early".to_owned(), Duration::ZERO, |_| ());
        spans.switch(true);
        begun.end("in time".to_owned(), Duration::ZERO, |_| ());
        spans.switch(false);
        spans.switch(true);
        // The one that waited is lost, and told.
        assert_eq!((spans.take(9), dropped.get()), (Vec::new(), 1));
    }

    #[test]
    fn a_part_names_the_whole_and_texts_are_bounded() {
        let (spans, _) = spans(true);
        let whole = Begun::new(&spans, 7, Some(3));
        let part = whole.part();
        part.end("part".to_owned(), Duration::from_secs(2), |span| {
            span.text("long", "ä".repeat(MOST_TEXT));
            span.number("bytes", u64::MAX);
        });
        let span = spans.take(1).pop().unwrap();
        assert_eq!((span.trace_id, span.parent), (7, Some(whole.id)));
        assert_ne!(span.id, whole.id);
        assert_eq!(span.end, span.start + Duration::from_secs(2));
        let (_, Value::Text(text)) = &span.attributes[0] else {
            panic!("{span:?}");
        };
        assert_eq!(text.len(), MOST_TEXT);
        assert_eq!(span.attributes[1], ("bytes", Value::Number(i64::MAX)));
    }
}
