//! `rebalance` of an upstream: how often, and how evenly, live tunnels are
//! spread over its backends again.
//!
//! The values beside their reader; which tunnels are closed is `upstream`'s to
//! choose.

use std::time::Duration;

use super::rate::{Rate, rate};
use super::section::Section;
use super::value::{POSITIVE, SECOND, duration, share};

/// A policy that looks by itself whether backends are overfull.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rebalance {
    /// From one look to the next.
    pub interval: Duration,
    /// How far from its share a backend may be, 0.0–1.0 of the share.
    pub to: f64,
    pub rate: Rate,
}

/// `None` if there is no such table.
pub(super) fn rebalance(section: &Section<'_>) -> Option<Rebalance> {
    let allowed = "a table such as { interval = \"5m\", to = 0.1, rate = \"50/s\" }, \
                   or {} for all defaults";
    let table = section.subsection("rebalance", allowed)?;
    let rebalance = Rebalance {
        interval: table.or("interval", SECOND * 300, duration(POSITIVE)),
        to: table.or("to", Rebalance::TO, share),
        rate: table.or("rate", Rebalance::RATE, rate),
    };
    table.finish();
    Some(rebalance)
}

impl Rebalance {
    /// What is meant where nothing is said.
    pub const TO: f64 = 0.1;
    pub const RATE: Rate = Rate::each_second(50);
}
