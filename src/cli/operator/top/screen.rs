//! What `longhaul top` knows, and where in it a person is.
//!
//! It draws nothing (`view`) and asks nobody (`asker`).

use ratatui::widgets::TableState;
use serde_json::Value;

use super::asker::{Order, Told, Tunnels};
use super::sums::Sums;

/// Which part is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Backends,
    Tunnels,
    Ended,
    Reloads,
}

/// What the tunnels are sorted by, the first of them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Oldest,
    Youngest,
    Messages,
    Bytes,
    /// Of which nothing has come for longest.
    Silent,
}

/// A question before something is done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) order: Order,
}

#[derive(Debug)]
pub(super) struct Screen {
    pub(super) is_operator: bool,
    pub(super) who: String,
    pub(super) tab: Tab,
    pub(super) live: Value,
    pub(super) tunnels: Tunnels,
    pub(super) sums: Sums,
    pub(super) sort: Sort,
    pub(super) search: String,
    /// A search that is being typed.
    pub(super) typed: Option<String>,
    pub(super) question: Option<Question>,
    pub(super) message: String,
    /// Why nothing comes any more.
    pub(super) lost: Option<String>,
    selected: [TableState; 4],
}

impl Tab {
    pub(super) const ALL: [Self; 4] = [Self::Backends, Self::Tunnels, Self::Ended, Self::Reloads];

    pub(super) fn title(self) -> &'static str {
        ["backends", "tunnels", "last closes", "last reloads"][self as usize]
    }

    pub(super) fn next(self, by: usize) -> Self {
        Self::ALL[(self as usize + by) % Self::ALL.len()]
    }
}

impl Sort {
    const ALL: [Self; 5] = [
        Self::Oldest,
        Self::Youngest,
        Self::Messages,
        Self::Bytes,
        Self::Silent,
    ];

    pub(super) fn label(self) -> &'static str {
        ["oldest", "youngest", "messages", "bytes", "silent"][self as usize]
    }

    pub(super) fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }

    /// Of whom it is highest comes first.
    fn key(self, tunnel: &Value) -> f64 {
        let number = |key: &str| tunnel[key].as_f64().unwrap_or(0.0);
        match self {
            Self::Oldest => number("age_seconds"),
            Self::Youngest => -number("age_seconds"),
            Self::Messages => number("messages_in") + number("messages_out"),
            Self::Bytes => number("bytes_in") + number("bytes_out"),
            Self::Silent => number("idle_in_seconds").min(number("idle_out_seconds")),
        }
    }
}

impl Screen {
    pub(super) fn new(asked_by: &Value) -> Self {
        Self {
            is_operator: asked_by["role"] == "operator",
            who: asked_by["who"].as_str().unwrap_or_default().to_owned(),
            tab: Tab::Backends,
            live: Value::Null,
            tunnels: Tunnels::default(),
            sums: Sums::default(),
            sort: Sort::Oldest,
            search: String::new(),
            typed: None,
            question: None,
            message: String::new(),
            lost: None,
            selected: std::array::from_fn(|_| TableState::default().with_selected(0)),
        }
    }

    pub(super) fn hear(&mut self, told: Told) {
        match told {
            Told::Now { live, tunnels } => {
                self.sums.take(&live);
                let chosen = self.chosen_id();
                (self.live, self.tunnels, self.lost) = (live, tunnels, None);
                self.sorted();
                self.choose(chosen);
            }
            Told::Done(text) => self.message = text,
            Told::Failed(why) => self.message = format!("not done: {why}"),
            Told::Lost(why) => self.lost = Some(why),
            Told::Stop => {}
        }
    }

    pub(super) fn sorted(&mut self) {
        let sort = self.sort;
        let list = &mut self.tunnels.list;
        // The same order for the same keys, so that nothing dances.
        list.sort_by(|a, b| {
            let ids = || a["id"].as_u64().cmp(&b["id"].as_u64());
            sort.key(b).total_cmp(&sort.key(a)).then_with(ids)
        });
    }

    fn chosen_id(&self) -> Option<Value> {
        let at = self.selected[Tab::Tunnels as usize].selected()?;
        Some(self.tunnels.list.get(at)?["id"].clone())
    }

    /// The tunnel that was chosen stays it, wherever it is now.
    fn choose(&mut self, id: Option<Value>) {
        let mut list = self.tunnels.list.iter();
        let at = id.and_then(|id| list.position(|one| one["id"] == id));
        if let Some(at) = at {
            self.selected[Tab::Tunnels as usize].select(Some(at));
        }
    }

    /// Upstream and backend of each line.
    pub(super) fn backends(&self) -> impl Iterator<Item = (&Value, &Value)> {
        let upstreams = self.live["upstreams"].as_array().into_iter().flatten();
        upstreams.flat_map(|upstream| {
            let backends = upstream["backends"].as_array().into_iter().flatten();
            backends.map(move |backend| (upstream, backend))
        })
    }

    pub(super) fn rows(&self) -> usize {
        let length = |key: &str| self.live[key].as_array().map_or(0, Vec::len);
        match self.tab {
            Tab::Backends => self.backends().count(),
            Tab::Tunnels => self.tunnels.list.len(),
            Tab::Ended => length("ended"),
            Tab::Reloads => length("reloads"),
        }
    }

    pub(super) fn state(&mut self) -> &mut TableState {
        &mut self.selected[self.tab as usize]
    }

    /// The line that is chosen, if there is one.
    pub(super) fn at(&self) -> usize {
        self.selected[self.tab as usize].selected().unwrap_or(0)
    }

    pub(super) fn go(&mut self, by: isize) {
        let last = self.rows().saturating_sub(1);
        let at = self.at().saturating_add_signed(by).min(last);
        self.state().select(Some(at));
    }
}
