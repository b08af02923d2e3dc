//! Rendezvous hashing (highest random weight): the same key goes to the same
//! backend on every longhaul with the same config, without shared state.
//!
//! Each member gets a score from the key and its own id; the highest wins. So
//! the choice depends on the *set* of members only: order does not matter, a
//! member that comes or goes moves just the keys it wins or had won, and the
//! next best (skip the first) is where a key goes while its member is away.
//! Nothing is kept between picks. [`rendezvous`] does not bound the load of a
//! member: a key that is hot stays together; [`bounded`] does. A pick looks at every member, for a few
//! nanoseconds each.
//!
//! Invariant: the arithmetic below is a fixed format. Changing a seed, a shift
//! or a formula moves the users of every installation; golden vectors pin it.

use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Member, Skip, eligible, mix, width};

/// Seeds keep a key and a member of the same text apart.
const MEMBER_SEED: u64 = 0x6c6f_6e67_6861_756c;
const KEY_SEED: u64 = 0x7374_6963_6b79_6b79;

/// What stands for a backend in every hash: XXH3-64 of its name.
pub fn member_id(name: &str) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), MEMBER_SEED)
}

/// What stands for a sticky key: XXH3-64 of its bytes.
///
/// Where the key was found (cookie, query, ...) and which upstream asks takes
/// no part: a room named `42` in the query is the room `42` in a cookie, and
/// two upstreams with backends of the same names send it to the same name.
pub fn key_hash(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, KEY_SEED)
}

/// The member with the highest score for this [`key_hash`].
///
/// A score is `weight / -ln(u)`, where `u` in (0, 1) comes from key and member
/// id alone; this makes the chance of each member exactly proportional to its
/// weight, and a weight that grows only draws keys towards its member. Both
/// halves are evenly spread already, so one round of `mix` over their XOR is
/// enough, and as it is a bijection two members never tie.
pub fn rendezvous(key: u64, members: &[Member], skip: Skip<'_>) -> Option<usize> {
    let mut best: Option<(usize, Score)> = None;
    for (index, member) in eligible(members, skip) {
        let hash = mix(key ^ member.id);
        if let Some((_, score)) = &best {
            // Saves the logarithm, and cannot change the winner: `ln` rises
            // strictly from one `u` to the next (they are 2^-52 apart, at least
            // 2.6 units in the last place of `ln u`, and libm errs by less than
            // one), so less hash at no more weight is at most the same score,
            // and then the hash decides.
            if hash < score.hash && member.weight <= score.weight {
                continue;
            }
        }
        let score = Score::new(hash, member);
        if best.as_ref().is_none_or(|(_, best)| score.beats(best)) {
            best = Some((index, score));
        }
    }
    best.map(|(index, _)| index)
}

/// [`rendezvous`], but a member that has `max_load` times its share of the load
/// already is passed over for the next in the key's order.
///
/// That order is the same everywhere; where in it a key stops depends on the
/// load that is seen here. `max_load` is at least 1, and so somebody has room.
pub fn bounded(key: u64, members: &[Member], skip: Skip<'_>, max_load: f64) -> Option<usize> {
    let (mut load, mut widths) = (1, 0);
    for (_, member) in eligible(members, skip) {
        load += u64::from(member.load);
        widths += width(member);
    }
    let full = |index: usize| {
        let member = &members[index];
        // As real numbers: an error of one in 2^52 moves nobody's bound.
        let share = load as f64 * (width(member) as f64 / widths as f64);
        f64::from(member.load) >= (max_load * share).ceil()
    };
    rendezvous(key, members, &|index| skip(index) || full(index))
        // Rounding has made a bound too low.
        .or_else(|| rendezvous(key, members, skip))
}

struct Score {
    value: f64,
    hash: u64,
    weight: u32,
}

impl Score {
    fn new(hash: u64, member: &Member) -> Self {
        // 52 bits and a half: exact in an f64, and neither 0 nor 1.
        let u = ((hash >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        // Not the system's `ln`: it differs between machines in the last bit.
        let value = f64::from(member.weight) / -libm::log(u);
        Self {
            value,
            hash,
            weight: member.weight,
        }
    }

    fn beats(&self, other: &Self) -> bool {
        self.value
            .total_cmp(&other.value)
            .then(self.hash.cmp(&other.hash))
            == Ordering::Greater
    }
}
