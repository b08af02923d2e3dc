//! The slow start of a backend that is new or returns.
//!
//! It says how much of the weight counts; who heeds it is `balance`.
//!
//! Invariant: between [`LEAST`] and [`WHOLE`] per cent, rising with time alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// All of the weight, in per cent.
pub(super) const WHOLE: u32 = 100;
/// Nothing at all would never be found out to work.
const LEAST: u32 = 10;

/// When one backend began.
#[derive(Debug)]
pub(super) struct SlowStart {
    born: Instant,
    /// Milliseconds since `born`.
    began: AtomicU64,
}

impl SlowStart {
    /// Begins now. At the start of the process all backends do, and so their
    /// shares are what the weights say.
    pub(super) fn begin() -> Self {
        Self {
            born: Instant::now(),
            began: AtomicU64::new(0),
        }
    }

    pub(super) fn begin_again(&self) {
        let passed = u64::try_from(self.born.elapsed().as_millis());
        self.began
            .store(passed.unwrap_or(u64::MAX), Ordering::Release);
    }

    /// The per cent of this moment; `ejected_until` is a beginning too.
    pub(super) fn ramp(&self, ejected_until: Option<Instant>, time: Duration) -> u32 {
        let began = self.born + Duration::from_millis(self.began.load(Ordering::Acquire));
        let began = ejected_until.map_or(began, |until| until.max(began));
        ramp(began.elapsed(), time)
    }
}

fn ramp(passed: Duration, time: Duration) -> u32 {
    if passed >= time {
        return WHOLE;
    }
    let share = passed.as_secs_f64() / time.as_secs_f64();
    LEAST + (f64::from(WHOLE - LEAST) * share) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_to_the_whole() {
        let time = Duration::from_secs(100);
        for (seconds, per_cent) in [(0, 10), (50, 55), (99, 99), (100, 100), (1000, 100)] {
            assert_eq!(ramp(Duration::from_secs(seconds), time), per_cent);
        }
    }

    #[test]
    fn the_end_of_an_ejection_is_a_beginning() {
        let slow = SlowStart::begin();
        let hour = Duration::from_secs(3600);
        let later = Instant::now() + hour;
        assert_eq!(slow.ramp(Some(later), hour), 10);
        assert_eq!(slow.ramp(None, Duration::ZERO), 100);
    }
}
