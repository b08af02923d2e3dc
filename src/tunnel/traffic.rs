//! What live tunnels have passed on so far, added up for the metrics: read from
//! their meters when somebody asks, so that the bytes pay nothing for it.

use std::collections::HashMap;
use std::sync::Arc;

use super::clock::Ticks;
use super::entry::Tunnel;
use super::facts::Labels;
use super::registry::Registry;

/// Bytes that wait so long for a side that takes none of them: it is stalled.
const STALL: Ticks = 50;

/// Of all live tunnels of the same labels.
#[derive(Clone, Debug)]
pub struct Traffic {
    pub labels: Arc<Labels>,
    pub tunnels: u64,
    /// Those of which a side takes nothing of what waits for it.
    pub stalled: u64,
    /// From the client, and from the backend.
    pub bytes: [u64; 2],
    pub messages: [u64; 2],
}

impl Registry {
    /// The sums of this moment; under the registry's locks, one after the other.
    pub fn traffic(&self) -> Vec<Traffic> {
        let now = self.now();
        let mut sums: HashMap<*const Labels, Traffic> = HashMap::new();
        self.each(&mut |tunnel| {
            let labels = &tunnel.facts().labels;
            let sum = sums.entry(Arc::as_ptr(labels));
            sum.or_insert_with(|| Traffic::of(labels)).add(tunnel, now);
        });
        sums.into_values().collect()
    }
}

impl Traffic {
    fn of(labels: &Arc<Labels>) -> Self {
        Self {
            labels: Arc::clone(labels),
            tunnels: 0,
            stalled: 0,
            bytes: [0; 2],
            messages: [0; 2],
        }
    }

    fn add(&mut self, tunnel: &Tunnel, now: Ticks) {
        self.tunnels += 1;
        self.stalled += u64::from(tunnel.is_stalled(now, STALL));
        self.bytes[0] += tunnel.bytes_in();
        self.bytes[1] += tunnel.bytes_out();
        self.messages[0] += tunnel.messages_in();
        self.messages[1] += tunnel.messages_out();
    }
}
