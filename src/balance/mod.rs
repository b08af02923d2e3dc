//! Pure choice among weighted, loaded candidates.
//!
//! Every way to choose has the same shape: a number, the members, and which of
//! them to skip, to the index of one. What the number means is the way's own:
//! a key, a counter, or random bits. Nothing here holds state, knows about
//! health, or counts: whoever asks keeps the counters, and says in `skip` what
//! has been tried or is ejected.
//!
//! Invariant: the answer is a member that is not skipped and has a weight; there
//! is none only if there is no such member. The same arguments give the same
//! answer in every process, on every machine, in every release.

mod hash;
mod spread;

pub use hash::{bounded, key_hash, member_id, rendezvous};
pub use spread::{least_connections, random_of_two, round_robin};

use crate::config::Balance;

/// One candidate, as it is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// [`member_id`] of the backend's name.
    pub id: u64,
    /// Share relative to the others; a member of weight 0 is never chosen.
    pub weight: u32,
    /// Per cent of the weight that count for now (slow start). Not for hashes
    /// of keys: those would move a little with every second.
    pub ramp: u32,
    /// Live uses: tunnels and requests under way.
    pub load: u32,
}

/// Which members are out of the question, by index.
pub type Skip<'a> = &'a dyn Fn(usize) -> bool;

/// Chooses as the config says; for `Hash` without a bound ([`bounded`] has one).
///
/// `number` is, by `balance`: for `Hash` the [`key_hash`] of the sticky key,
/// for `RoundRobin` a counter that goes up by one with every pick, for
/// `LeastConnections` and `Random` random bits, fresh for every pick.
pub fn choose(balance: Balance, number: u64, members: &[Member], skip: Skip<'_>) -> Option<usize> {
    match balance {
        Balance::Hash => rendezvous(number, members, skip),
        Balance::LeastConnections => least_connections(number, members, skip),
        Balance::RoundRobin => round_robin(number, members, skip),
        Balance::Random => random_of_two(number, members, skip),
    }
}

fn eligible<'a>(
    members: &'a [Member],
    skip: Skip<'a>,
) -> impl Iterator<Item = (usize, &'a Member)> + Clone {
    members
        .iter()
        .enumerate()
        .filter(move |&(index, member)| member.weight > 0 && !skip(index))
}

/// What a member counts for at this moment.
fn width(member: &Member) -> u64 {
    u64::from(member.weight) * u64::from(member.ramp)
}

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One step of SplitMix64: a bijection after which every bit depends on all.
fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(GOLDEN);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests;
