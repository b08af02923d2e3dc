//! Attacks from the open internet, bounded and on loopback, beside a thousand tunnels
//! of others: none is lost, none is late, and afterwards longhaul is as before.
//!
//! An attack is a row of `ATTACKS`. Its clients run on a thread of their own with the
//! lowest priority: what they need of the machine for themselves is no cost of
//! longhaul's, what they make longhaul do is.

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
mod silence;
mod verdict;

use std::pin::Pin;
use std::sync::Arc;

use good::Crowd;
use ground::{Ground, Proxied};
use verdict::Verdict;

type Attack = fn(Arc<Ground>) -> Pin<Box<dyn Future<Output = ()>>>;

/// What a connection of each kind may cost, as the document says it.
const CAPACITY: &str = include_str!("../../docs/capacity.md");

/// Each with the memory that it may cost while it lasts, in bytes: what its connections
/// hold at most by docs/capacity.md, "What an attack costs".
const ATTACKS: [(&str, Attack, u64); 15] = [
    (
        "silent connections",
        |on| Box::pin(silence::connect(on)),
        10_000 * ground::WAITING,
    ),
    (
        "half ClientHellos",
        |on| Box::pin(silence::half_hellos(on)),
        10_000 * ground::HELLO,
    ),
    (
        "slow headers",
        |on| Box::pin(silence::slow_heads(on)),
        1_000 * ground::HEAD,
    ),
    (
        "slow bodies",
        |on| Box::pin(silence::slow_bodies(on)),
        1_000 * ground::REQUEST,
    ),
    (
        "half-open connections",
        |on| Box::pin(silence::half_open(on)),
        3_000 * ground::TUNNEL,
    ),
    (
        "header bombs",
        |on| Box::pin(floods::header_bombs(on)),
        300 * ground::HEAD,
    ),
    (
        "connection churn",
        |on| Box::pin(floods::churn(on)),
        1_000 * ground::HEAD,
    ),
    (
        "handshake churn",
        |on| Box::pin(floods::handshakes(on)),
        1_000 * ground::TUNNEL,
    ),
    (
        "garbage on every listener",
        |on| Box::pin(floods::garbage(on)),
        400 * ground::HEAD,
    ),
    (
        "slow readers",
        |on| Box::pin(frames::slow_readers(on)),
        200 * ground::STALLED,
    ),
    (
        "giant frames",
        |on| Box::pin(frames::giants(on)),
        200 * ground::STALLED,
    ),
    (
        "frames that are none",
        |on| Box::pin(frames::broken(on)),
        400 * ground::TUNNEL,
    ),
    (
        "tiny frames",
        |on| Box::pin(frames::tiny(on)),
        50 * ground::STALLED,
    ),
    (
        "zip bombs that pass",
        |on| Box::pin(frames::zip_bombs(on)),
        50 * ground::STALLED,
    ),
    (
        "mutated handshakes",
        |on| Box::pin(handshakes::mutated(on)),
        1_000 * ground::TUNNEL,
    ),
];

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

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn none_hurts_the_tunnels_of_others() {
    kit::raise_file_limit(19_000);
    let proxied = Proxied::start().await;
    let crowd = Crowd::gather(&proxied).await;
    let mut verdict = Verdict::of_the_quiet(&proxied, &crowd).await;
    for (name, attack, most) in ATTACKS {
        verdict.beside(name, most, &proxied, &crowd, attack).await;
    }
    verdict.at_the_end(&proxied).await;
    crowd.leave().await;
}
