//! The program's log, as it arrives on its standard error.

use std::io::{BufRead, BufReader};
use std::panic::Location;
use std::process::ChildStderr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::DEADLINE;

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Event {
    pub level: String,
    pub target: String,
    pub message: String,
    fields: Map<String, Value>,
    /// The line as it was printed.
    pub line: String,
}

impl Event {
    fn parse(line: &str) -> Self {
        let mut event = Self {
            level: String::new(),
            target: String::new(),
            message: line.to_owned(),
            fields: Map::new(),
            line: line.to_owned(),
        };
        if let Ok(Value::Object(mut object)) = serde_json::from_str(line) {
            event.fields = match object.remove("fields") {
                Some(Value::Object(fields)) => fields,
                _ => Map::new(),
            };
            event.fields.extend(object);
            event.level = event.text("level").to_owned();
            event.target = event.text("target").to_owned();
            event.message = event.text("message").to_owned();
        }
        event
    }

    /// A field as text; empty if there is none.
    pub fn text(&self, key: &str) -> &str {
        self.fields
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub fn number(&self, key: &str) -> u64 {
        let value = self
            .fields
            .get(key)
            .unwrap_or_else(|| panic!("no {key} in {}", self.line));
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{key} is no number in {}", self.line))
    }

    pub fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// The names of what the program itself said.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        let frame = ["timestamp", "level", "target", "message"];
        let names = self.fields.keys().map(String::as_str);
        names.filter(move |name| !frame.contains(name))
    }

    /// Whether this is `message` and every given field has the given text or number.
    pub fn is(&self, message: &str, fields: &[(&str, &str)]) -> bool {
        self.message == message
            && fields
                .iter()
                .all(|(key, value)| match self.fields.get(*key) {
                    Some(Value::String(text)) => text == value,
                    Some(other) => *other.to_string() == **value,
                    None => false,
                })
    }
}

#[derive(Default)]
struct Lines {
    events: Mutex<Vec<Event>>,
    arrived: Notify,
    ended: AtomicBool,
}

#[derive(Clone, Default)]
pub struct Log {
    lines: Arc<Lines>,
    /// Events before this one are not looked at.
    from: usize,
}

impl Log {
    /// Reads until the program closes its standard error.
    pub fn follow(stderr: ChildStderr) -> Self {
        let log = Self::default();
        let lines = log.lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines
                    .events
                    .lock()
                    .expect("no panic")
                    .push(Event::parse(&line));
                lines.arrived.notify_waiters();
            }
            lines.ended.store(true, Ordering::Release);
            lines.arrived.notify_waiters();
        });
        log
    }

    /// The same log from here on.
    pub fn tail(&self) -> Self {
        let from = self.lines.events.lock().expect("no panic").len();
        Self {
            lines: self.lines.clone(),
            from,
        }
    }

    pub fn events(&self) -> Vec<Event> {
        self.lines.events.lock().expect("no panic")[self.from..].to_vec()
    }

    pub fn all(&self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = self.events();
        events.retain(wanted);
        events
    }

    /// Waits for the last line of a program that has ended.
    pub async fn end(&self) {
        let ended = async {
            loop {
                let arrived = self.lines.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                if self.lines.ended.load(Ordering::Acquire) {
                    return;
                }
                arrived.await;
            }
        };
        super::soon("the end of the log", ended).await;
    }

    /// The first event that fits, past or to come.
    #[track_caller]
    pub fn wait_for(&self, wanted: impl Fn(&Event) -> bool) -> impl Future<Output = Event> {
        let place = Location::caller();
        async move {
            let found = async {
                loop {
                    let arrived = self.lines.arrived.notified();
                    tokio::pin!(arrived);
                    arrived.as_mut().enable();
                    if let Some(event) = self.events().into_iter().find(&wanted) {
                        return event;
                    }
                    arrived.await;
                }
            };
            match tokio::time::timeout(DEADLINE, found).await {
                Ok(event) => event,
                Err(_) => panic!("no such event in the log (at {place})"),
            }
        }
    }

    /// The first event with this message and these fields.
    #[track_caller]
    pub fn wait(&self, message: &str, fields: &[(&str, &str)]) -> impl Future<Output = Event> {
        self.wait_for(move |event| event.is(message, fields))
    }

    pub fn print(&self) {
        eprintln!("--- the program's log ---");
        for event in self.lines.events.lock().expect("no panic").iter() {
            eprintln!("{}", event.line);
        }
        eprintln!("--- end of log ---");
    }
}
