//! Groups of backends: choose one, dial it, keep connections to it.
//!
//! An [`Upstream`] belongs to one snapshot and says how its backends are used;
//! which ones there are at the moment is its [`Backends`]. A [`Backend`]
//! outlives both: it carries counts and pooled connections over a reload for as
//! long as name and address stay.

mod admission;
mod answers;
mod backend;
mod backends;
mod connection;
mod dial;
mod discovery;
mod health;
mod http2;
mod impact;
mod lease;
mod pool;
mod rebalance;
mod roster;
mod state;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

pub use admission::{Full, Pass};
pub use answers::LastAnswer;
pub use backend::Backend;
pub use backends::{Backends, Listed};
pub use connection::{Answer, ConnectError, Connection, HandshakeError};
pub use dial::{DialError, Dialer};
pub use discovery::{Discovery, FindError};
pub use health::{Changes, Ejected, LastProbe, Probing, Standing};
pub use impact::{Impact, LONGEST_COMPARISON, Outlines, impact};
pub use lease::Lease;
pub use rebalance::{Plan, Share};
pub use roster::Roster;

use crate::config;
use answers::Answers;

/// A group of backends that serve the same thing.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    settings: Arc<config::Upstream>,
    dialer: Arc<Dialer>,
    /// What log and registry call the sources of the sticky key, in the
    /// settings' order.
    sticky_labels: Vec<Arc<str>>,
    no_sticky_label: Arc<str>,
    roster: Arc<Roster>,
    // As with the snapshot: only `load_full`, no guard outlives a statement.
    backends: ArcSwap<Backends>,
    /// How discovery goes, if there is one.
    answers: Arc<Answers>,
    /// Held while it is decided whether one more may be ejected.
    ejecting: Mutex<()>,
}

impl Upstream {
    /// `previous` is the upstream of this name in force: where backends are
    /// discovered, its own serve until an answer says otherwise.
    pub fn new(
        settings: config::Upstream,
        dialer: Dialer,
        roster: &Arc<Roster>,
        previous: Option<&Self>,
    ) -> Self {
        let settings = Arc::new(settings);
        let discovers = settings.discovery.is_some();
        let kept = previous.filter(|_| discovers).map(|it| it.backends());
        let list = kept
            .as_ref()
            .map_or(&*settings.backends, |kept| kept.source());
        let backends = Backends::new(Arc::clone(&settings), list, roster, Arc::default());
        let asks_the_same = |it: &&Self| it.settings.discovery == settings.discovery;
        let answers = match previous.filter(asks_the_same) {
            Some(same) => Arc::clone(&same.answers),
            None => Arc::new(Answers::new(!discovers || !backends.list().is_empty())),
        };
        Self {
            name: settings.name.as_str().into(),
            sticky_labels: settings.sticky.iter().map(label).collect(),
            no_sticky_label: "none".into(),
            dialer: Arc::new(dialer),
            roster: Arc::clone(roster),
            answers,
            backends: ArcSwap::from_pointee(backends),
            ejecting: Mutex::default(),
            settings,
        }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn settings(&self) -> &config::Upstream {
        &self.settings
    }

    /// The words for the sources of the sticky key, in the settings' order.
    pub fn sticky_labels(&self) -> &[Arc<str>] {
        &self.sticky_labels
    }

    /// The word for a request that has none of them.
    pub fn no_sticky_label(&self) -> &Arc<str> {
        &self.no_sticky_label
    }

    /// The backends of this moment.
    pub fn backends(&self) -> Arc<Backends> {
        self.backends.load_full()
    }

    pub fn dialer(&self) -> &Arc<Dialer> {
        &self.dialer
    }

    /// Waits, for a moment, until it is known which backends there are.
    pub async fn known(&self) {
        if self.settings.discovery.is_none() {
            return;
        }
        self.answers.first(self.dialer.timeout).await;
    }

    /// How discovery last went.
    pub fn last_answer(&self) -> Option<LastAnswer> {
        self.answers.last()
    }

    /// Takes over backends that were found. Those that were there before stay
    /// what they are.
    fn find(self: &Arc<Self>, list: &[config::Backend]) {
        let before = self.backends();
        if before.source() != list {
            self.swap(&before, list);
        }
        // Last: whoever waits for it looks at the backends next.
        self.answers.note(None);
    }

    fn swap(self: &Arc<Self>, before: &Backends, list: &[config::Backend]) {
        let settings = Arc::clone(&self.settings);
        let after = Backends::new(settings, list, &self.roster, before.turn());
        self.backends.store(Arc::new(after));
        self.join_backends();
        let after = self.backends();
        let gone: Vec<_> = before
            .each()
            .filter(|it| after.position(it).is_none())
            .collect();
        gone.iter().for_each(|backend| backend.retire());
        let new = after.each().filter(|it| before.position(it).is_none());
        tracing::info!(
            upstream = &*self.name,
            backends = list.len(),
            added = names(new),
            removed = names(gone.into_iter()),
            "backends found"
        );
        self.roster.changes().tell();
    }

    fn find_nothing(&self, error: &FindError) {
        self.answers.note(Some(error));
    }

    /// Called when it comes into force.
    pub fn join_backends(self: &Arc<Self>) {
        for listed in self.backends().list() {
            listed.backend().join(self, listed.filed_state());
        }
    }

    /// Ejects a backend, unless too many others are; whether it did.
    fn eject(&self, backend: &Backend, rule: &config::Ejection, report: config::Report) -> bool {
        let deciding = self.ejecting.lock();
        let _deciding = deciding.unwrap_or_else(PoisonError::into_inner);
        let backends = self.backends();
        let ejected = backends
            .each()
            .filter(|one| one.ejected().is_some())
            .count();
        let most = rule.max_ejected * backends.list().len() as f64;
        let may = (ejected + 1) as f64 <= most && backend.ejected().is_none();
        if may {
            backend.health.eject(rule, report);
        }
        may
    }
}

/// As one word of a log line; cut where it would fill the screen.
fn names<'a>(backends: impl Iterator<Item = &'a Arc<Backend>>) -> String {
    const MOST: usize = 20;
    let mut names: Vec<&str> = backends.map(|backend| &**backend.name()).collect();
    let all = names.len();
    names.truncate(MOST);
    let mut text = names.join(", ");
    if all > MOST {
        text.push_str(&format!(" and {} more", all - MOST));
    }
    text
}

fn label(source: &config::StickySource) -> Arc<str> {
    source.to_string().into()
}
