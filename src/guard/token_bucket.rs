//! A token bucket in eight bytes: the moment at which it will be full again
//! (the "generic cell rate algorithm", ITU-T I.371).
//!
//! It reads no clock. A bucket that is full is the moment 0, and so is one that
//! nobody has ever taken from: forgetting a full one changes nothing.

use std::time::Duration;

use crate::config::Rate;

/// Nanoseconds since some beginning.
pub(super) type Moment = u64;

/// How many may come: as many at once as the rate counts, and one more whenever
/// its share of the time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenRate {
    /// From one token to the next.
    interval: u64,
    /// How far ahead of now the bucket's moment may be before one more is taken.
    tolerance: u64,
}

impl From<Rate> for TokenRate {
    fn from(rate: Rate) -> Self {
        let interval = nanoseconds(rate.interval()).max(1);
        Self {
            interval,
            tolerance: interval.saturating_mul(u64::from(rate.count()).saturating_sub(1)),
        }
    }
}

impl TokenRate {
    /// Takes one token of the bucket that is full at `full`: when it will be so
    /// then.
    ///
    /// # Errors
    /// How long until there is one, if there is none.
    pub(super) fn take(self, full: Moment, now: Moment) -> Result<Moment, Duration> {
        match full.saturating_sub(now).checked_sub(self.tolerance) {
            Some(early) if early > 0 => Err(Duration::from_nanos(early)),
            _ => Ok(full.max(now).saturating_add(self.interval)),
        }
    }

    /// The moment of a bucket that has been taken from at the rate `before`, and
    /// goes on at this one: as many tokens are missing as before where this one is
    /// faster, and never more than it holds.
    pub(super) fn take_over(self, before: Self, full: Moment, now: Moment) -> Moment {
        let ahead = full.saturating_sub(now);
        let scaled = u128::from(ahead) * u128::from(self.interval) / u128::from(before.interval);
        let scaled = u64::try_from(scaled).unwrap_or(u64::MAX);
        let most = self.tolerance.saturating_add(self.interval);
        full.min(now.saturating_add(scaled.min(most)))
    }
}

/// The rate that moments were made by.
#[derive(Debug, Default)]
pub(super) struct Kept(Option<TokenRate>);

impl Kept {
    /// The rate before, if `rate` is another: what is kept is to be taken over.
    pub(super) fn change(&mut self, rate: TokenRate) -> Option<TokenRate> {
        self.0.replace(rate).filter(|before| *before != rate)
    }
}

/// Enough for five hundred years.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(written: &str) -> TokenRate {
        written.parse::<Rate>().unwrap().into()
    }

    #[test]
    fn as_many_at_once_as_it_counts_and_then_one_by_one() {
        let rate = rate("30/m");
        let (mut full, second) = (0, 1_000_000_000);
        for _ in 0..30 {
            full = rate.take(full, 5 * second).unwrap();
        }
        assert_eq!(rate.take(full, 5 * second), Err(Duration::from_secs(2)));
        assert_eq!(rate.take(full, 6 * second), Err(Duration::from_secs(1)));
        full = rate.take(full, 7 * second).unwrap();
        assert_eq!(rate.take(full, 7 * second), Err(Duration::from_secs(2)));
        // After a minute it is full, and no fuller.
        for _ in 0..30 {
            full = rate.take(full, 100 * second).unwrap();
        }
        assert!(rate.take(full, 100 * second).is_err());
    }

    #[test]
    fn a_rate_that_is_raised_keeps_nobody_waiting_for_the_old_one() {
        let second = 1_000_000_000;
        for (before, after, ahead, wanted) in [
            // Two tokens are missing, of a thousand.
            ("2/h", "1000/s", 3600, 2_000_000),
            // All sixty are missing, and now there is one.
            ("60/m", "1/s", 60, second),
            // It is slower: what was counted at the old rate stays as it is.
            ("1000/s", "2/h", 1, second),
            ("2/h", "2/h", 3600, 3600 * second),
            ("2/h", "1000/s", 0, 0),
        ] {
            let now = 7 * second;
            let full = rate(after).take_over(rate(before), now + ahead * second, now);
            assert_eq!(full, now + wanted, "{before} {after}");
        }
        assert_eq!(rate("1/s").take_over(rate("2/h"), 0, second), 0);
    }

    /// The same with a number of tokens, in as many parts of a token as an interval
    /// has nanoseconds.
    struct Model {
        parts: u64,
        at: Moment,
    }

    impl Model {
        fn take(&mut self, rate: TokenRate, now: Moment) -> bool {
            let most = rate.interval + rate.tolerance;
            self.parts = (self.parts + now - self.at).min(most);
            self.at = now;
            let has = self.parts >= rate.interval;
            self.parts -= if has { rate.interval } else { 0 };
            has
        }
    }

    proptest! {
        #[test]
        fn it_is_a_bucket_of_tokens(
            count in 1u32..50,
            steps in prop::collection::vec(0u64..3_000_000_000, 1..200),
        ) {
            let rate = rate(&format!("{count}/m"));
            let mut model = Model { parts: rate.interval + rate.tolerance, at: 0 };
            let (mut full, mut now) = (0, 0);
            for step in steps {
                now += step;
                let taken = rate.take(full, now);
                prop_assert_eq!(taken.is_ok(), model.take(rate, now));
                match taken {
                    Ok(later) => full = later,
                    // It says exactly when there is one.
                    Err(wait) => {
                        let wait = nanoseconds(wait);
                        prop_assert!(rate.take(full, now + wait).is_ok());
                        prop_assert!(rate.take(full, now + wait - 1).is_err());
                    }
                }
            }
        }
    }
}
