//! Pages of the registry: each tunnel once, and no page that visits too many.

use std::cell::Cell;
use std::collections::BTreeSet;

use super::*;

fn enter(registry: &Arc<Registry>, ids: std::ops::Range<u64>) -> Vec<Ticket> {
    let shared = facts(0);
    ids.map(|id| {
        let facts = Facts {
            id,
            ..shared.clone()
        };
        registry.open(facts, &options(Framing::WebSocket))
    })
    .collect()
}

/// Follows `next` to the end, and lets `meanwhile` happen behind each page.
fn follow(
    registry: &Arc<Registry>,
    limit: usize,
    filter: &dyn Fn(&Tunnel) -> bool,
    meanwhile: &mut dyn FnMut(),
) -> Vec<u64> {
    let (mut seen, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        let page = registry.page(place, limit, filter);
        assert!(page.tunnels.len() <= limit);
        assert!(page.tunnels.is_sorted_by_key(|tunnel| tunnel.id()));
        seen.extend(page.tunnels.iter().map(|tunnel| tunnel.id()));
        from = page.next;
        meanwhile();
    }
    seen
}

#[test]
fn pages_show_each_tunnel_that_stays_once_whoever_comes_and_goes() {
    let registry = Registry::new();
    let stay = enter(&registry, 0..1000);
    assert_eq!(
        follow(&registry, 7, &|_| true, &mut || ()),
        (0..1000).collect::<Vec<_>>(),
        "oldest first where no place was used twice"
    );
    let mut go = enter(&registry, 1000..1300);
    let mut next = 1300;
    let seen = follow(&registry, 7, &|_| true, &mut || {
        drop(go.pop());
        go.extend(enter(&registry, next..next + 1));
        next += 1;
    });
    let once: BTreeSet<u64> = seen.iter().copied().collect();
    assert_eq!(once.len(), seen.len());
    assert!((0..1000).all(|id| once.contains(&id)));
    drop(stay);
}

#[test]
fn a_page_visits_a_bounded_number_and_says_where_to_go_on() {
    let registry = Registry::new();
    let tickets = enter(&registry, 0..120_000);
    let visits = Cell::new(0);
    let last = |tunnel: &Tunnel| {
        visits.set(visits.get() + 1);
        tunnel.id() == 119_999
    };
    let mut pages = Vec::new();
    let found = follow(&registry, 10, &last, &mut || pages.push(visits.replace(0)));
    assert_eq!(found, [119_999]);
    assert_eq!(pages, [50_000, 50_000, 20_000]);
    assert!(!registry.fits_a_page());
    assert_eq!(registry.count(&last), 1);
    assert_eq!(registry.find(7).map(|tunnel| tunnel.id()), Some(7));
    assert!(registry.find(120_000).is_none());
    drop(tickets);
    assert!(registry.page(0, 10, &|_| true).tunnels.is_empty());
    assert_eq!(registry.page(u64::MAX, 10, &|_| true).next, None);
}
