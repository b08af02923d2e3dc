//! Hashing with a bounded load: nobody has more than the bound, and a key that
//! is passed on goes where everybody passes it on to.

use super::*;
use crate::balance::bounded;

/// Assigns keys one after the other, each a tunnel that stays.
fn filled(members: &mut [Member], keys: impl Iterator<Item = u64>, max_load: f64) -> Vec<usize> {
    let place = |key| {
        let chosen = bounded(key, members, &nobody, max_load).expect("a member");
        members[chosen].load += 1;
        chosen
    };
    keys.map(place).collect()
}

#[test]
fn nobody_gets_more_than_his_bounded_share() {
    for (n, max_load) in [(3, 1.25), (10, 1.1), (50, 1.0)] {
        let mut members = equal(n);
        filled(&mut members, (0..10_000).map(key), max_load);
        let most = members
            .iter()
            .map(|member| member.load)
            .max()
            .expect("a member");
        let bound = (max_load * 10_000.0 / n as f64).ceil();
        assert!(f64::from(most) <= bound, "{most} of {bound}");
    }
    // One hot key too.
    let mut members = equal(4);
    filled(&mut members, std::iter::repeat_n(key(1), 1000), 1.25);
    assert!(
        members.iter().all(|member| member.load <= 313),
        "{members:?}"
    );
}

#[test]
fn a_key_that_is_moved_on_goes_to_the_next_in_its_order() {
    let mut members = equal(5);
    for i in 0..100 {
        let first = rendezvous(key(i), &members, &nobody).expect("a member");
        let second = rendezvous(key(i), &members, &|index| index == first);
        assert_eq!(bounded(key(i), &members, &nobody, 1.25), Some(first));
        members[first].load = 100;
        assert_eq!(bounded(key(i), &members, &nobody, 1.25), second);
        members[first].load = 0;
    }
}

#[test]
fn where_a_bounded_key_goes_is_pinned() {
    let mut members: Vec<Member> = (1..=3).map(|i| member(&format!("chat-{i}"), i)).collect();
    let placed = filled(&mut members, (0..24).map(key), 1.25);
    let placed: String = placed.iter().map(ToString::to_string).collect();
    assert_eq!(placed, "202101121221101220112201");
}

proptest! {
    #[test]
    fn somebody_always_has_room(members in any_members(), key: u64, max_load in 1.0..3.0) {
        let any = members.iter().any(|member| member.weight > 0);
        prop_assert_eq!(bounded(key, &members, &nobody, max_load).is_some(), any);
    }
}
