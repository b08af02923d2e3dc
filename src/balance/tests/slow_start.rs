//! Slow start: a share that is less for a while, and keys that stay.

use super::*;

#[test]
fn a_member_in_its_slow_start_gets_its_part_of_its_share() {
    let mut members = equal(3);
    members[0].ramp = 50;
    let mut counts = [0_u32; 3];
    for counter in 0..5000 {
        counts[round_robin(counter, &members, &nobody).expect("a member")] += 1;
    }
    assert_eq!(counts, [1000, 2000, 2000]);
    for load in [0, 10] {
        members[1].load = load;
        members[2].load = load;
        // It has none, and each of the others would be worse off only by one.
        members[0].load = load * 2 / 5;
        let chosen = least_connections(7, &members, &nobody).expect("a member");
        assert_eq!(chosen == 0, load == 10, "{load}");
    }
    // Keys do not move.
    let settled = equal(3);
    for i in 0..100 {
        let of = |members: &[Member]| rendezvous(key(i), members, &nobody);
        assert_eq!(of(&members), of(&settled));
    }
}
