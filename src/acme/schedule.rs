//! When a certificate is renewed, and how long to wait after a failure.
//!
//! Pure: the clock is the caller's, and which dice.

use std::time::{Duration, SystemTime};

use crate::config::Acme;

/// The share by which a renewal or a wait is put off at random, so that many
/// names, and many processes, do not come at the same moment.
const JITTER: f64 = 0.1;

/// When a certificate of this validity is to be renewed.
///
/// `left` is the share of its life that is left then, `dice` from 0 to 1; the
/// most that they put it off is a tenth of that rest.
pub(super) fn renewal(
    not_before: SystemTime,
    not_after: SystemTime,
    left: f64,
    dice: f64,
) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let rest = life.mul_f64(left.clamp(0.0, 1.0));
    let put_off = rest.mul_f64(JITTER * dice.clamp(0.0, 1.0));
    not_after
        .checked_sub(rest)
        .and_then(|at| at.checked_add(put_off))
        .unwrap_or(not_after)
}

/// The wait after so many failures in a row: doubled by each after the first,
/// up to `max_retry_interval`, and up to a tenth more.
pub(super) fn back_off(failures: u32, acme: &Acme, dice: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let wait = acme.retry_interval.saturating_mul(1 << doublings);
    let wait = wait.min(acme.max_retry_interval);
    wait + wait.mul_f64(JITTER * dice.clamp(0.0, 1.0))
}

/// From 0 to 1.
pub(super) fn dice() -> f64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_third_of_the_life_is_left_and_the_dice_take_a_tenth_of_it_at_most() {
        let start = SystemTime::UNIX_EPOCH + 1000 * DAY;
        let end = start + 90 * DAY;
        let at = |left, dice| renewal(start, end, left, dice);
        assert_eq!(at(1.0 / 3.0, 0.0), end - 30 * DAY);
        assert_eq!(at(1.0 / 3.0, 1.0), end - 27 * DAY);
        assert_eq!(at(0.5, 0.5), end - 45 * DAY + DAY.mul_f64(2.25));
        // A life that is none is over.
        assert_eq!(renewal(end, start, 0.5, 1.0), start);
    }

    #[test]
    fn waits_double_to_their_bound() {
        let text = "[listeners.a]\naddress = '[::]:1'\ncertificates = 'acme'\n\
            [[routes]]\nhost = 'a.test'\nupstream = 'a'\n\
            [upstreams.a]\nbackends = [{ address = 'a:1' }]\n\
            [acme]\nagree_to_terms = true\n";
        let acme = parse_text(text).unwrap().acme.unwrap();
        let minutes = |failures| back_off(failures, &acme, 0.0).as_secs() / 60;
        let waits: Vec<_> = (1..=9).map(minutes).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 360]);
        assert_eq!(minutes(u32::MAX), 360);
        // Let's Encrypt bears five failures of a name in an hour.
        let first_hour = waits.iter().scan(0, |at, wait| {
            *at += wait;
            Some(*at)
        });
        assert!(first_hour.take_while(|at| *at < 60).count() < 5);
        assert_eq!(
            back_off(1, &acme, 1.0),
            Duration::from_secs(132),
            "and a tenth"
        );
    }
}
