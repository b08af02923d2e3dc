//! A token bucket for each client, in a table that does not grow.
//!
//! Each client has one cell in each of a few rows, chosen by a hash that nobody
//! else can compute, and shares it with whoever has it too. What it has taken is
//! what the least of its cells says, so others count against it only if they have
//! all of its cells (a count-min sketch with conservative update). Nothing is ever
//! thrown out: a flood of addresses cannot give anybody a full bucket again, and
//! cells fill up by themselves with time.
//!
//! Invariant: nobody is given more than its own bucket would have given.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::pace::{Moment, Pace};

const ROWS: usize = 4;
/// Cells of a row. Together they are 512 KiB, of which a quiet process has only
/// those pages that were ever touched.
const CELLS: usize = 1 << BITS;
const BITS: u32 = 14;

#[derive(Debug)]
pub(super) struct Sketch {
    cells: Mutex<Vec<Moment>>,
    /// Drawn anew in each process.
    keys: RandomState,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            // Of zeroes, which the allocator has from the kernel untouched.
            cells: Mutex::new(vec![0; ROWS * CELLS]),
            keys: RandomState::new(),
        }
    }
}

impl Sketch {
    /// Takes a token of the client's bucket.
    ///
    /// # Errors
    /// How long until there is one, if there is none.
    pub(super) fn take(&self, client: &impl Hash, pace: Pace, now: Moment) -> Result<(), Duration> {
        let hash = self.keys.hash_one(client);
        let place = |row: usize| {
            let bits = hash >> (row as u32 * BITS);
            row * CELLS + (bits as usize & (CELLS - 1))
        };
        let places: [usize; ROWS] = std::array::from_fn(place);
        // Each step leaves it whole.
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let full = places.iter().map(|at| cells[*at]).min().unwrap_or(0);
        let full = pace.take(full, now)?;
        for at in places {
            cells[at] = cells[at].max(full);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;

    const SECOND: Moment = 1_000_000_000;

    fn pace(written: &str) -> Pace {
        written.parse::<Rate>().unwrap().into()
    }

    #[test]
    fn each_client_has_its_own() {
        let (sketch, pace) = (Sketch::default(), pace("3/m"));
        for client in 0..100 {
            for _ in 0..3 {
                assert_eq!(sketch.take(&client, pace, SECOND), Ok(()));
            }
        }
        for client in 0..100 {
            let wait = Duration::from_secs(20);
            assert_eq!(sketch.take(&client, pace, SECOND), Err(wait), "{client}");
        }
        assert_eq!(sketch.take(&100, pace, SECOND), Ok(()));
        assert_eq!(sketch.take(&0, pace, 21 * SECOND), Ok(()));
    }

    #[test]
    fn no_flood_of_others_gives_anybody_a_token_back() {
        let (sketch, pace) = (Sketch::default(), pace("1/h"));
        sketch.take(&"a", pace, 0).unwrap();
        for other in 0..10 * CELLS {
            let _ = sketch.take(&other, pace, 0);
            if other % 1000 == 0 {
                assert!(sketch.take(&"a", pace, 0).is_err());
            }
        }
        // When the flood is over, so is what it has done.
        assert!(sketch.take(&"b", pace, 0).is_err(), "all cells are taken");
        assert_eq!(sketch.take(&"b", pace, 3600 * SECOND), Ok(()));
    }

    #[test]
    fn many_honest_clients_do_not_disturb_each_other() {
        let (sketch, pace) = (Sketch::default(), pace("30/m"));
        // All come back at once after a restart.
        let refused = (0..50_000).filter(|client| sketch.take(client, pace, 0).is_err());
        assert_eq!(refused.count(), 0);
    }
}
