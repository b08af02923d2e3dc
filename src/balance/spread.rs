//! The ways to choose that spread load and forget who asked.
//!
//! They compare load relative to weight and keep nothing between picks. With a
//! sticky source that names a backend, `upstream` comes here only for those
//! who have none yet.
//!
//! Invariant: integers only, and no overflow for any weight and load.

use super::{GOLDEN, Member, Skip, eligible, mix, width};

/// The member that would be least loaded for its weight after this pick.
///
/// `random` decides between equals, so that several longhauls, or one that has
/// just started, do not all begin with the first member.
pub fn least_connections(random: u64, members: &[Member], skip: Skip<'_>) -> Option<usize> {
    let lowest = eligible(members, skip)
        .map(|(_, member)| member)
        .min_by(|a, b| loads(a, b).cmp(&loads(b, a)))?;
    let equals = eligible(members, skip)
        .filter(|(_, member)| loads(member, lowest) == loads(lowest, member));
    let turn = below(mix(random), equals.clone().count() as u64);
    equals.map(|(index, _)| index).nth(turn as usize)
}

/// Each member in its turn, as often as its weight says, and evenly spread:
/// weights 3 and 2 give `a b a b a`, not `a a a b b`.
///
/// The counter modulo the sum of all weights is taken to a slot by a stride
/// near the golden ratio that has no common divisor with the sum. So every
/// round meets each slot once (the shares are exact), and the slots of one
/// member, which lie side by side, are far apart in time: none waits for more
/// than about four times its fair turn.
pub fn round_robin(counter: u64, members: &[Member], skip: Skip<'_>) -> Option<usize> {
    let divisor = eligible(members, skip).fold(0, |sum, (_, member)| gcd(sum, width(member)));
    let slots = eligible(members, skip)
        .map(|(_, member)| width(member) / divisor)
        .sum::<u64>();
    if slots == 0 {
        return None;
    }
    let slot = u128::from(counter % slots) * u128::from(stride(slots)) % u128::from(slots);
    at(slot as u64, members, skip, |member| width(member) / divisor)
}

/// The better of two different members drawn at random by weight.
///
/// Almost as even as [`least_connections`], and it does not send everybody to
/// the one that looks best in the same old picture.
pub fn random_of_two(random: u64, members: &[Member], skip: Skip<'_>) -> Option<usize> {
    let first = draw(mix(random), members, skip)?;
    let others = |index: usize| index == first || skip(index);
    let Some(second) = draw(mix(!random), members, &others) else {
        return Some(first);
    };
    let (a, b) = (&members[first], &members[second]);
    Some(if loads(b, a) < loads(a, b) {
        second
    } else {
        first
    })
}

/// The load of `member` with one more, scaled to compare it with `other`'s:
/// `(load + 1) / weight` of both, multiplied by both weights.
fn loads(member: &Member, other: &Member) -> u128 {
    (u128::from(member.load) + 1) * u128::from(width(other))
}

fn draw(random: u64, members: &[Member], skip: Skip<'_>) -> Option<usize> {
    let total = eligible(members, skip)
        .map(|(_, member)| width(member))
        .sum::<u64>();
    at(below(random, total), members, skip, width)
}

/// The member whose stretch of slots holds `slot`.
fn at(
    mut slot: u64,
    members: &[Member],
    skip: Skip<'_>,
    width: impl Fn(&Member) -> u64,
) -> Option<usize> {
    for (index, member) in eligible(members, skip) {
        let width = width(member);
        if slot < width {
            return Some(index);
        }
        slot -= width;
    }
    None
}

/// Random bits to a number below `bound`; 0 if that is 0.
fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// A number coprime to `slots`, near its golden section.
///
/// How unevenly multiples of a stride fall is bounded by the largest quotient
/// in the continued fraction of stride / slots. The golden ratio has nothing
/// but ones; its next integer neighbour may have a large one, so the best of
/// the nearest few is taken.
fn stride(slots: u64) -> u64 {
    const NEAREST: usize = 16;
    let golden = below(GOLDEN, slots);
    let coprime = (golden..slots).filter_map(|stride| {
        let quotient = largest_quotient(slots, stride)?;
        Some((quotient, stride))
    });
    // `slots - 1` is coprime, so there is one to be found.
    let best = coprime.take(NEAREST).min();
    best.map_or(1, |(_, stride)| stride)
}

/// Of Euclid's algorithm; `None` if the two have a common divisor.
fn largest_quotient(mut a: u64, mut b: u64) -> Option<u64> {
    let mut largest = 0;
    while b != 0 {
        largest = largest.max(a / b);
        (a, b) = (b, a % b);
    }
    (a == 1).then_some(largest)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 && a != 1 {
        (a, b) = (b, a % b);
    }
    a
}
