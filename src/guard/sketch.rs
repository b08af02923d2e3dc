//! A token bucket for each client, in a table that does not grow.
//!
//! Each client has one cell in each of a few rows, chosen by a hash that nobody
//! else can compute, and shares it with whoever has it too. What it has taken is
//! what the least of its cells says, so others count against it only if they have
//! all of its cells (a count-min sketch with conservative update). Nothing is ever
//! thrown out: a flood of addresses cannot give anybody a full bucket again, and
//! cells fill up by themselves with time.
//!
//! Of IPv6 one person may have very many networks: a site is given a /48 of 65,536,
//! and whoever is an internet registry's member a /32 of 65,536 of those. So the
//! clients of a /48 have only a part of each row for their cells, and all of a /32
//! a larger one; where a part begins is another place in each row, and parts
//! overlap as cells do. A flood out of one network fills its own part, and hurts
//! those who have all their cells there.
//!
//! Invariant: nobody is given more than its own bucket would have given.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::token_bucket::{Kept, Moment, TokenRate};

const ROWS: usize = 4;
/// Cells of a row. Together they are 512 KiB, of which a quiet process has only
/// those pages that were ever touched.
const CELLS: usize = 1 << BITS;
const BITS: u32 = 14;
/// Of a row, the part that all clients of an IPv6 /32 have: a quarter.
const BITS_OF_32: u32 = 12;
/// And the part of a /48 within: one in 64.
const BITS_OF_48: u32 = 8;

#[derive(Debug)]
pub(super) struct Sketch {
    cells: Mutex<Cells>,
    /// Drawn anew in each process.
    keys: RandomState,
}

#[derive(Debug)]
struct Cells {
    full: Vec<Moment>,
    rate: Kept,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            cells: Mutex::new(Cells {
                // Of zeroes, which the allocator has from the kernel untouched.
                full: vec![0; ROWS * CELLS],
                rate: Kept::default(),
            }),
            keys: RandomState::new(),
        }
    }
}

impl Sketch {
    /// Takes a token of the bucket of a client, as `net::client_network` says it.
    ///
    /// # Errors
    /// How long until there is one, if there is none.
    pub(super) fn take(
        &self,
        client: IpAddr,
        rate: TokenRate,
        now: Moment,
    ) -> Result<(), Duration> {
        let places = self.places(client);
        // Each step leaves it whole.
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.keep(rate, now);
        let full = places.iter().map(|at| cells.full[*at]).min().unwrap_or(0);
        let full = rate.take(full, now)?;
        for at in places {
            cells.full[at] = cells.full[at].max(full);
        }
        Ok(())
    }

    /// The client's cell of each row.
    fn places(&self, client: IpAddr) -> [usize; ROWS] {
        let bits = |hash: u64, row: usize, bits: u32| {
            let bits_of_row = hash >> (row as u32 * bits);
            bits_of_row as usize & ((1 << bits) - 1)
        };
        let hash = |client: u128| self.keys.hash_one(client);
        match client {
            IpAddr::V4(v4) => {
                let hash = hash(v4.to_bits().into());
                std::array::from_fn(|row| row * CELLS + bits(hash, row, BITS))
            }
            IpAddr::V6(v6) => {
                let v6 = v6.to_bits();
                // The marks tell a /48 from the /64 that begins alike.
                let [of_32, of_48] =
                    [32, 48].map(|length| hash(v6 >> (128 - length) << 8 | length));
                let own = hash(v6);
                std::array::from_fn(|row| {
                    let at = bits(of_32, row, BITS)
                        + bits(of_48, row, BITS_OF_32)
                        + bits(own, row, BITS_OF_48);
                    row * CELLS + at % CELLS
                })
            }
        }
    }
}

impl Cells {
    /// Goes on at this rate, which a reload may have changed.
    fn keep(&mut self, rate: TokenRate, now: Moment) {
        let Some(before) = self.rate.change(rate) else {
            return;
        };
        // Untouched cells stay so.
        for full in self.full.iter_mut().filter(|full| **full > now) {
            *full = rate.take_over(before, *full, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::config::Rate;

    const SECOND: Moment = 1_000_000_000;

    fn rate(written: &str) -> TokenRate {
        written.parse::<Rate>().unwrap().into()
    }

    fn v4(client: u32) -> IpAddr {
        Ipv4Addr::from_bits(client).into()
    }

    /// The /64 of this number within a network.
    fn v6(network: u64, client: u64) -> IpAddr {
        Ipv6Addr::from_bits(u128::from(network | client) << 64).into()
    }

    #[test]
    fn each_client_has_its_own() {
        let (sketch, rate) = (Sketch::default(), rate("3/m"));
        for client in (0..100).map(v4) {
            for _ in 0..3 {
                assert_eq!(sketch.take(client, rate, SECOND), Ok(()));
            }
        }
        for client in (0..100).map(v4) {
            let wait = Duration::from_secs(20);
            assert_eq!(sketch.take(client, rate, SECOND), Err(wait), "{client}");
        }
        assert_eq!(sketch.take(v4(100), rate, SECOND), Ok(()));
        assert_eq!(sketch.take(v4(0), rate, 21 * SECOND), Ok(()));
    }

    #[test]
    fn no_flood_of_others_gives_anybody_a_token_back() {
        let (sketch, rate) = (Sketch::default(), rate("1/h"));
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|client| client.parse().unwrap());
        sketch.take(a, rate, 0).unwrap();
        for other in 0..10 * CELLS as u32 {
            let _ = sketch.take(v4(other), rate, 0);
            if other % 1000 == 0 {
                assert!(sketch.take(a, rate, 0).is_err());
            }
        }
        // When the flood is over, so is what it has done.
        assert!(sketch.take(b, rate, 0).is_err(), "all cells are taken");
        assert_eq!(sketch.take(b, rate, 3600 * SECOND), Ok(()));
    }

    #[test]
    fn many_honest_clients_do_not_disturb_each_other() {
        let rate = rate("30/m");
        let of_one_isp = |client| v6(0x2001_0db8 << 32, u64::from(client) << 8);
        for address in [v4 as fn(u32) -> IpAddr, of_one_isp] {
            let sketch = Sketch::default();
            // All come back at once after a restart.
            let clients = (0..50_000).map(address);
            let refused = clients.filter(|client| sketch.take(*client, rate, 0).is_err());
            assert_eq!(refused.count(), 0);
        }
    }

    /// Of a thousand clients elsewhere, those that are refused after all the
    /// networks of this flood have come.
    fn hurt(flood: impl Iterator<Item = IpAddr>) -> usize {
        let (sketch, rate) = (Sketch::default(), rate("1/h"));
        for client in flood {
            let _ = sketch.take(client, rate, 0);
        }
        let others = (0..1000).map(|other| v6((0x2a00_0000 + other) << 32, 0));
        others
            .filter(|other| sketch.take(*other, rate, 0).is_err())
            .count()
    }

    #[test]
    fn a_flood_out_of_one_network_of_ipv6_fills_its_own_part_only() {
        let site = 0x2001_0db8_0007 << 16;
        assert_eq!(hurt((0..65_536).map(|client| v6(site, client))), 0);
        let member = 0x2001_0db8 << 32;
        let flood = (0..60_000).map(|client| v6(member, client << 16 | client));
        // Of those whose cells are all in its quarter: about one in 240.
        assert!(hurt(flood) < 25);
    }
}
