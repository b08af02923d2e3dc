//! Who is in the demo's room and what they say, shared by all its backends.
//!
//! A line said to one backend reaches the clients of every backend, and says
//! through which one it came. The hub knows no sockets; a backend's session
//! subscribes and passes on what it hears. Names and lines are cut to a bound
//! here, and only the last lines are kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::broadcast;

/// Lines that a newcomer is shown.
const HISTORY: usize = 30;
/// Events that a slow session may be behind before it misses some.
const BACKLOG: usize = 256;
/// Characters of a name, and of a line.
const NAME_LIMIT: usize = 24;
const LINE_LIMIT: usize = 500;

const NAMES: [&str; 16] = [
    "Heron", "Otter", "Badger", "Lynx", "Marten", "Plover", "Hare", "Swift", "Beaver", "Magpie",
    "Stoat", "Curlew", "Fox", "Osprey", "Vole", "Wren",
];

/// What every page hears.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Event {
    Chat(Line),
    People { people: Vec<Person> },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub id: u64,
    pub name: String,
    /// The backend that the line was said to.
    pub via: &'static str,
    pub text: String,
    /// Milliseconds since 1970.
    pub at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    pub id: u64,
    pub name: String,
    pub backend: &'static str,
}

#[derive(Debug)]
pub struct Hub {
    events: broadcast::Sender<Event>,
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
struct Room {
    joined: u64,
    people: BTreeMap<u64, Person>,
    lines: VecDeque<Line>,
}

/// A client's place in the room; dropping it leaves.
#[derive(Debug)]
pub struct Seat {
    hub: Arc<Hub>,
    id: u64,
}

/// All that a newcomer is told, taken at one moment.
#[derive(Debug)]
pub struct Entry {
    pub seat: Seat,
    pub person: Person,
    pub people: Vec<Person>,
    pub lines: Vec<Line>,
    pub events: broadcast::Receiver<Event>,
}

impl Hub {
    pub fn new() -> Arc<Self> {
        let (events, _) = broadcast::channel(BACKLOG);
        Arc::new(Self {
            events,
            room: Mutex::default(),
        })
    }

    /// Takes a client of `backend` in and tells the others.
    pub fn enter(self: &Arc<Self>, backend: &'static str) -> Entry {
        let mut room = self.room();
        let id = room.joined;
        room.joined += 1;
        let person = Person {
            id,
            name: given_name(id),
            backend,
        };
        room.people.insert(id, person.clone());
        self.announce(&room);
        Entry {
            seat: Seat {
                hub: Arc::clone(self),
                id,
            },
            person,
            people: room.people.values().cloned().collect(),
            lines: room.lines.iter().cloned().collect(),
            // Subscribed under the lock: nothing is heard twice or missed.
            events: self.events.subscribe(),
        }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, room: &Room) {
        let people = room.people.values().cloned().collect();
        // An error says that nobody listens, which is no trouble.
        let _ = self.events.send(Event::People { people });
    }
}

impl Seat {
    /// Says a line to the whole room; an empty one is not said.
    pub fn say(&self, text: &str) {
        let Some(text) = bounded(text, LINE_LIMIT) else {
            return;
        };
        let mut room = self.hub.room();
        let Some(person) = room.people.get(&self.id) else {
            return;
        };
        let line = Line {
            id: self.id,
            name: person.name.clone(),
            via: person.backend,
            text,
            at: now(),
        };
        if room.lines.len() == HISTORY {
            room.lines.pop_front();
        }
        room.lines.push_back(line.clone());
        let _ = self.hub.events.send(Event::Chat(line));
    }

    pub fn rename(&self, name: &str) {
        let Some(name) = bounded(name, NAME_LIMIT) else {
            return;
        };
        let mut room = self.hub.room();
        if let Some(person) = room.people.get_mut(&self.id) {
            person.name = name;
        }
        self.hub.announce(&room);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut room = self.hub.room();
        room.people.remove(&self.id);
        self.hub.announce(&room);
    }
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

fn given_name(id: u64) -> String {
    let count = NAMES.len() as u64;
    // The remainder is below the length of the table.
    let name = NAMES[usize::try_from(id % count).unwrap_or(0)];
    match id / count {
        0 => name.to_owned(),
        round => format!("{name} {}", round + 1),
    }
}

/// Without control characters and surrounding space; `None` if nothing is left.
fn bounded(text: &str, limit: usize) -> Option<String> {
    let clean: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(limit)
        .collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(events: &mut broadcast::Receiver<Event>) -> Vec<Line> {
        let mut lines = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let Event::Chat(line) = event {
                lines.push(line);
            }
        }
        lines
    }

    #[test]
    fn a_line_reaches_the_clients_of_every_backend() {
        let hub = Hub::new();
        let mut red = hub.enter("red");
        let mut blue = hub.enter("blue");
        red.seat.say(" hello\u{7} ");
        red.seat.say("  ");
        let lines = heard(&mut blue.events);
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].text.as_str(), lines[0].via), ("hello", "red"));
        assert_eq!(heard(&mut red.events), lines);
        assert_eq!(hub.enter("green").lines, lines);
    }

    #[test]
    fn leaving_frees_the_place() {
        let hub = Hub::new();
        let red = hub.enter("red");
        let blue = hub.enter("blue");
        assert_eq!(blue.people.len(), 2);
        drop(red);
        blue.seat.rename("Ada");
        let green = hub.enter("green");
        let names: Vec<_> = green.people.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["Ada", "Badger"]);
    }

    #[test]
    fn memory_is_bounded() {
        let hub = Hub::new();
        let red = hub.enter("red");
        for _ in 0..2 * HISTORY {
            red.seat.say(&"é".repeat(2 * LINE_LIMIT));
        }
        let lines = hub.enter("red").lines;
        assert_eq!(lines.len(), HISTORY);
        assert_eq!(lines[0].text.chars().count(), LINE_LIMIT);
    }

    #[test]
    fn names_do_not_run_out() {
        assert_eq!(given_name(0), "Heron");
        assert_eq!(given_name(16), "Heron 2");
    }
}
