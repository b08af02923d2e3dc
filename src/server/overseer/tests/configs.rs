//! Random configurations of one upstream: which backends, in which states, with
//! which bounds, and what becomes of those that are removed.

use rand::Rng;
use rand::rngs::StdRng;

use crate::config::{self, Config};

pub(super) fn configs(random: &mut StdRng) -> Vec<Config> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("longhaul.toml");
    let mut some = || {
        let mut backends = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let state = ["active", "active", "draining", "disabled"][random.random_range(0..4)];
            if random.random_bool(0.7) {
                backends.push(format!(
                    "{{ name = '{name}', address = '{name}:1', state = '{state}' }}"
                ));
            }
        }
        if backends.is_empty() {
            backends.push("{ name = 'a', address = 'a:1' }".to_owned());
        }
        let admission = [
            "",
            "admission = { max_tunnels = 40, max_handshakes_in_flight = 3 }\n",
            "admission = { handshake_rate = '50/s', max_queued = 10, queue_timeout = '2s' }\n",
        ][random.random_range(0..3)];
        let removed = ["keep", "drain"][random.random_range(0..2)];
        let text = format!(
            "[listeners.main]\naddress = '127.0.0.1:1'\n[[routes]]\nupstream = 'app'\n\
             [drain]\nwindow = '3s'\n[upstreams.app]\nsticky = 'query:key'\n{admission}\
             on_removed = '{removed}'\nbackends = [{}]\n",
            backends.join(", ")
        );
        std::fs::write(&file, text).unwrap();
        config::load(&file).result.unwrap()
    };
    (0..40).map(|_| some()).collect()
}
