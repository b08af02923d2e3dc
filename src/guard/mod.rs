//! Who may come in, and how often: by what is known of a client before its
//! request costs more than reading it.
//!
//! It judges facts that others have found out: it dials nobody, waits for nothing,
//! reads no clock, and neither logs nor counts in metrics.

mod buckets;
mod door;
mod networks;
mod origin;
mod pace;
mod sketch;
mod standing;
mod suspicion;
mod tunnels;

use std::time::Duration;

pub use buckets::Buckets;
pub use door::{Counted, Door, Shut};
pub use networks::lets_in;
pub use origin::{check_origin, letting_in};
pub use standing::Standing;
pub use suspicion::{Suspect, Suspicion, Verdict};
pub use tunnels::TunnelPermit;

/// Whole seconds, up to twice as long, so that not all who were refused together
/// come back together.
pub fn retry_after(least: Duration) -> u64 {
    let least = (least.as_nanos().div_ceil(1_000_000_000) as u64).max(1);
    rand::random_range(least..=2 * least)
}
