//! Which tunnels are too many, and in which order they go.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::*;
use crate::config::{Clocks, Config};
use crate::tunnel::{Facts, Framing, Labels, Opening, Options};

fn closes_of(counts: &[usize], weights: &[u32], to: f64) -> Vec<usize> {
    closes(counts, &shares(counts, weights), to)
}

#[test]
fn what_is_closed_makes_all_even() {
    for (counts, weights, to, expected) in [
        (
            &[1500, 1500, 0][..],
            &[1, 1, 1][..],
            0.0,
            &[500, 500, 0][..],
        ),
        (&[1500, 1500, 0], &[1, 1, 1], 0.1, &[450, 450, 0]),
        (&[1000, 1000], &[1, 1], 0.1, &[0, 0]),
        (&[1050, 950], &[1, 1], 0.1, &[0, 0]),
        (&[900, 0], &[2, 1], 0.0, &[300, 0]),
        // Nobody is sent where nobody may go, nor taken from there.
        (&[900, 300, 0], &[1, 0, 1], 0.0, &[450, 0, 0]),
        (&[2, 1], &[1, 1], 0.0, &[0, 0]),
        (&[3, 0], &[1, 1], 0.1, &[1, 0]),
        (&[7], &[1], 0.0, &[0]),
        (&[], &[], 0.0, &[]),
        (&[5, 5], &[0, 0], 0.0, &[0, 0]),
    ] {
        assert_eq!(closes_of(counts, weights, to), expected, "{counts:?} {to}");
    }
}

proptest::proptest! {
    #[test]
    fn no_backend_is_left_with_less_than_its_share(
        backends in proptest::collection::vec((0usize..5000, 0u32..5), 0..6),
        to in 0.0f64..0.5,
    ) {
        let (counts, weights): (Vec<usize>, Vec<u32>) = backends.into_iter().unzip();
        let shares = shares(&counts, &weights);
        let closing = closes(&counts, &shares, to);
        for index in 0..counts.len() {
            let left = counts[index] - closing[index];
            if closing[index] > 0 {
                proptest::prop_assert!(left as f64 >= shares[index]);
            }
            if shares[index] > 0.0 {
                let most = (shares[index] * (1.0 + to)).ceil() as usize;
                proptest::prop_assert!(left <= most);
            }
        }
    }
}

fn candidate(registry: &Arc<Registry>, id: u64, standing: Standing) -> Candidate {
    let labels = Labels {
        listener: "main".into(),
        http: "1.1",
        route: "chat".into(),
        upstream: "app".into(),
        backend: "a".into(),
    };
    let facts = Facts {
        id,
        labels: Arc::new(labels),
        key: 0,
        opening: Opening::default(),
    };
    let clocks = Clocks {
        handshake_timeout: Duration::from_secs(10),
        idle_timeout: None,
        half_close_timeout: Duration::from_secs(30),
        max_lifetime: None,
        max_lifetime_jitter: 0.0,
        pings: None,
    };
    let options = Options::new(Framing::WebSocket, clocks, &Config::empty().drain, None);
    Candidate {
        tunnel: Arc::clone(registry.open(facts, &options).tunnel()),
        standing,
    }
}

#[test]
fn those_who_belong_elsewhere_go_first_and_of_each_kind_the_oldest() {
    use Standing::{Bound, Elsewhere, Free, Home};
    let all = [
        (1, Bound),
        (2, Free),
        (3, Home),
        (4, Free),
        (5, Home),
        (6, Elsewhere),
        (7, Elsewhere),
        (8, Bound),
        (9, Elsewhere),
        (10, Free),
        (11, Home),
        (12, Bound),
    ];
    let registry = Registry::new();
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..50 {
        for (most, at_home, expected) in [
            (12, 0, &[6, 7, 9, 2, 4, 10][..]),
            (12, 2, &[6, 7, 9, 2, 4, 10, 3, 5]),
            (12, 9, &[6, 7, 9, 2, 4, 10, 3, 5, 11]),
            (7, 2, &[6, 7, 9, 2, 4, 10, 3]),
            (6, 2, &[6, 7, 9, 2, 4, 10]),
            (4, 2, &[6, 7, 9, 2]),
            (2, 0, &[6, 7]),
            (0, 2, &[]),
        ] {
            let mut group: Vec<Candidate> = all
                .into_iter()
                .map(|(id, standing)| candidate(&registry, id, standing))
                .collect();
            group.shuffle(&mut random);
            let chosen = choose(group, most, at_home);
            let ids: Vec<u64> = chosen.iter().map(|tunnel| tunnel.id()).collect();
            assert_eq!(ids, expected, "{most} of which {at_home} at home");
        }
    }
}
