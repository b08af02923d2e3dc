//! Attacks from the open internet, bounded and on loopback, beside a thousand tunnels
//! of others: none is lost, none is late, and afterwards longhaul is as before.
//!
//! An attack is a row of `ATTACKS`. All are on one core, the tunnels of others and their
//! backend before everyone, the attackers after everyone (see `place`): what an attack
//! needs of the machine for itself is no cost of longhaul's, what it makes longhaul do is.

mod floods;
mod frames;
mod good;
mod ground;
mod handshakes;
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "of the kit of tests/it this needs a part"
)]
#[path = "../it/kit/mod.rs"]
mod kit;
mod place;
mod silence;
mod verdict;

use std::pin::Pin;
use std::sync::Arc;

use good::Crowd;
use ground::{Ground, Proxied};
use tokio::runtime::Builder;
use verdict::Verdict;

type Attack = fn(Arc<Ground>) -> Pin<Box<dyn Future<Output = ()>>>;
/// With its name, and the memory that it may cost.
type Row = (&'static str, Attack, u64);

/// What a connection of each kind may cost, as the document says it.
const CAPACITY: &str = include_str!("../../docs/capacity.md");

macro_rules! attacks {
    ($($name:literal: $attack:path, at most $count:literal x $kind:ident;)*) => {
        [$(($name, |on| Box::pin($attack(on)), $count * ground::$kind)),*]
    };
}

/// Each with the memory that it may cost while it lasts, in bytes: what its connections
/// hold at most by docs/capacity.md, "What an attack costs".
const ATTACKS: [Row; 16] = attacks! {
    "silent connections": silence::connect, at most 10_000 x WAITING;
    "half ClientHellos": silence::half_hellos, at most 10_000 x HELLO;
    "slow headers": silence::slow_heads, at most 1_000 x HEAD;
    "slow bodies": silence::slow_bodies, at most 500 x REQUEST;
    "half-open connections": silence::half_open, at most 3_000 x TUNNEL;
    "header bombs": floods::header_bombs, at most 300 x HEAD;
    "connection churn": floods::churn, at most 100 x HEAD;
    "handshake churn": floods::handshakes, at most 100 x TUNNEL;
    "garbage on every listener": floods::garbage, at most 100 x HEAD;
    "slow readers": frames::slow_readers, at most 200 x STALLED;
    "giant frames": frames::giants, at most 200 x STALLED;
    "frames that are none": frames::broken, at most 100 x TUNNEL;
    "tiny frames both ways": frames::tiny_both_ways, at most 50 x STALLED;
    "zip bombs that pass": frames::zip_bombs, at most 60 x STALLED;
    "mutated handshakes": handshakes::mutated, at most 700 x TUNNEL;
    "tiny frames": frames::tiny, at most 50 x STALLED;
};

#[test]
fn the_document_says_what_is_allowed() {
    for (kind, bytes) in ground::COSTS {
        let row = format!("| {kind} | {} KiB |", bytes >> 10);
        assert!(
            CAPACITY.contains(&row),
            "docs/capacity.md has no row: {row}"
        );
    }
}

#[test]
fn none_hurts_the_tunnels_of_others() {
    kit::raise_file_limit(19_000);
    place::one_core_for_all();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        // The attackers' backends.
        .on_thread_start(place::last)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(all_of_them());
}

async fn all_of_them() {
    let crowd = Crowd::arrive().await;
    let proxied = Proxied::start(crowd.backend()).await;
    let crowd = crowd.gather(&proxied).await;
    let verdict = Verdict::of_the_quiet(&proxied, &crowd).await;
    for row in ATTACKS {
        verdict.beside(row, &proxied, &crowd).await;
    }
    verdict.at_the_end(&proxied, &crowd).await;
    crowd.leave().await;
}
