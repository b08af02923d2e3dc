//! Live tunnels a page at a time, and one by its id.
//!
//! Pages go by place: the order in which tunnels opened, until places are used
//! again. So a page costs what it visits, however many tunnels there are, and
//! opening and ending one costs nothing for it.
//!
//! Invariant: whoever follows `next` to its end sees every tunnel that lived all
//! the while, once.

use std::sync::Arc;

use super::super::entry::Tunnel;
use super::{Registry, SHARDS};

/// Places that one page visits at most: a few milliseconds' worth, whatever the
/// filter asks of each.
const MOST_VISITED: u64 = 50_000;

/// A part of the tunnels that a filter accepts.
#[derive(Debug, Default)]
pub struct Page {
    /// By id.
    pub tunnels: Vec<Arc<Tunnel>>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<u64>,
}

impl Registry {
    /// One tunnel.
    pub fn find(&self, id: u64) -> Option<Arc<Tunnel>> {
        self.shards.iter().find_map(|shard| {
            let slots = shard.lock();
            let mut tunnels = slots.tunnels.iter().flatten();
            tunnels.find(|tunnel| tunnel.id() == id).map(Arc::clone)
        })
    }

    /// How many tunnels `filter` accepts. Visits every one.
    pub fn count(&self, filter: &dyn Fn(&Tunnel) -> bool) -> usize {
        let mut count = 0;
        self.each(&mut |tunnel| count += usize::from(filter(tunnel)));
        count
    }

    /// Up to `limit` tunnels that `filter` accepts, from the place `from` on.
    /// Where few are accepted it may be fewer, or none, though more follow.
    pub fn page(&self, from: u64, limit: usize, filter: &dyn Fn(&Tunnel) -> bool) -> Page {
        let places = self.places();
        let last = places.min(from.saturating_add(MOST_VISITED));
        let (mut page, mut place) = (Page::default(), from);
        while place < last && page.tunnels.len() < limit {
            page.tunnels.extend(self.at(place, filter));
            place += 1;
        }
        page.tunnels.sort_by_key(|tunnel| tunnel.id());
        page.next = (place < places).then_some(place);
        page
    }

    /// Whether one page may visit them all.
    pub fn fits_a_page(&self) -> bool {
        self.places() <= MOST_VISITED
    }

    fn at(&self, place: u64, filter: &dyn Fn(&Tunnel) -> bool) -> Option<Arc<Tunnel>> {
        let (shard, slot) = (place as usize % SHARDS, place as usize / SHARDS);
        let slots = self.shards[shard].lock();
        let tunnel = slots.tunnels.get(slot)?.as_ref()?;
        filter(tunnel).then(|| Arc::clone(tunnel))
    }

    /// Above every place that is taken.
    fn places(&self) -> u64 {
        let longest = self.shards.iter().map(|it| it.lock().tunnels.len()).max();
        (longest.unwrap_or(0) * SHARDS) as u64
    }
}
