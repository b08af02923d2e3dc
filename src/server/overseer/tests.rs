//! Drains of backends that are no longer there, and of tunnels that come late.

mod configs;
mod model;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::*;
use crate::config;
use crate::tunnel::{
    Cause, CloseOrder, Facts, Framing, Labels, Opening, Options, Registry, Ticket, Tunnel,
};
use crate::upstream::Lease;

const A: &str = "{ name = 'a', address = 'a:1' }";
const B: &str = "{ name = 'b', address = 'b:1' }";

fn load(state: &State, upstream: &str, backends: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("longhaul.toml");
    let text = format!(
        "[listeners.main]\naddress = '127.0.0.1:1'\n[[routes]]\nupstream = 'app'\n\
         [drain]\nwindow = '10s'\n[upstreams.app]\nbackends = [{}]\n{upstream}\n",
        backends.join(", ")
    );
    std::fs::write(&file, text).unwrap();
    let config = config::load(&file).result.unwrap();
    let prepared = state.prepare(config, 0).unwrap();
    state.commit(prepared);
}

fn backends(state: &State) -> Arc<Backends> {
    state.snapshot().upstreams["app"].backends()
}

/// A tunnel to the first of the backends, as a request opens it that has seen
/// these.
async fn open(state: &State, backends: &Backends) -> (Lease, Ticket) {
    let soon = Instant::now() + Duration::from_secs(1);
    let (lease, _pass) = backends.admit(0, soon).await.unwrap();
    let lease = lease.into_tunnel();
    let name = |text: &str| Arc::from(text);
    let labels = Labels {
        listener: name("main"),
        http: "1.1",
        route: name("app"),
        upstream: name("app"),
        backend: Arc::clone(lease.backend().name()),
    };
    let facts = Facts {
        id: 1,
        labels: Arc::new(labels),
        key: 0,
        opening: Opening::default(),
    };
    let snapshot = state.snapshot();
    let clocks = snapshot.config.routes[0].clocks;
    let options = Options::new(Framing::Opaque, clocks, &snapshot.config.drain, None);
    let ticket = Registry::open(&state.registry, facts, &options);
    (lease, ticket)
}

/// Whether it had an order; it has one now.
fn was_ordered(tunnel: &Arc<Tunnel>) -> bool {
    let order = CloseOrder {
        cause: Cause::Drain,
        code: None,
        reason: "".into(),
    };
    !tunnel.close(Arc::new(order))
}

#[tokio::test(start_paused = true)]
async fn a_request_that_chose_long_before_its_backend_was_removed_is_drained_too() {
    let state = Arc::new(State::new());
    load(&state, "on_removed = 'drain'", &[A, B]);
    let mut overseer = Overseer::new(&state);
    overseer.look();
    let chosen_from = backends(&state);
    load(&state, "on_removed = 'drain'", &[B]);
    for _ in 0..10 {
        overseer.look();
        sleep(Duration::from_secs(1)).await;
    }
    let (lease, ticket) = open(&state, &chosen_from).await;
    drop(chosen_from);
    for _ in 0..20 {
        overseer.look();
        sleep(Duration::from_secs(1)).await;
    }
    assert!(was_ordered(ticket.tunnel()));
    drop((lease, ticket));
    overseer.look();
    assert!(overseer.drained.is_empty(), "it is never forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_drain_goes_on_when_its_backend_is_removed_and_stops_when_it_is_back() {
    let state = Arc::new(State::new());
    let draining = "{ name = 'a', address = 'a:1', state = 'draining' }";
    for comes_back in [false, true] {
        load(&state, "", &[A, B]);
        let mut overseer = Overseer::new(&state);
        overseer.look();
        let (_lease, ticket) = open(&state, &backends(&state)).await;
        load(&state, "", &[draining, B]);
        overseer.look();
        load(&state, "", &[B]);
        overseer.look();
        if comes_back {
            load(&state, "", &[A, B]);
        }
        overseer.look();
        sleep(Duration::from_secs(20)).await;
        assert_eq!(was_ordered(ticket.tunnel()), !comes_back);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_of_the_same_name_elsewhere_is_another() {
    let state = Arc::new(State::new());
    load(&state, "on_removed = 'drain'", &[A]);
    let mut overseer = Overseer::new(&state);
    overseer.look();
    let (_old_lease, old) = open(&state, &backends(&state)).await;
    let moved = "{ name = 'a', address = 'elsewhere:1' }";
    load(&state, "on_removed = 'drain'", &[moved]);
    overseer.look();
    let (_new_lease, new) = open(&state, &backends(&state)).await;
    sleep(Duration::from_secs(20)).await;
    assert!(was_ordered(old.tunnel()));
    assert!(!was_ordered(new.tunnel()));
}
