//! `[drain]`, and `drain` of an upstream: how tunnels end that must end, and at
//! what pace.
//!
//! The values beside their readers; the closing itself is `tunnel`'s.

use std::time::Duration;

use toml::de::DeValue;

use super::close_codes::{CloseCodes, Ending, close_codes, own_close_codes};
use super::nearest::nearest;
use super::rate::{Rate, rate};
use super::section::{Section, Value, Wrong};
use super::value::{MAYBE_ZERO, POSITIVE, SECOND, duration, duration_or_off, wrong, wrong_near};
use crate::ws::close::may_send;

/// How longhaul ends tunnels that it must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Closes are not faster than this.
    pub rate: Option<Rate>,
    /// Closes of many tunnels are spread over this time.
    pub window: Duration,
    /// A stopping process ends by then whatever is left.
    pub deadline: Duration,
    /// The status code of the Close frame; `None` closes without one.
    pub close_code: Option<u16>,
    /// Others for single reasons.
    pub close_codes: CloseCodes,
    /// How long one tunnel may take to reach a message boundary and to answer
    /// the Close frame.
    pub close_timeout: Duration,
}

/// What an upstream says of the draining of its backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendDrain {
    pub rate: Option<Rate>,
    pub window: Option<Duration>,
    pub deadline: Option<Duration>,
    /// Before those of `[drain]`.
    pub close_codes: CloseCodes,
}

/// How fast many tunnels are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    rate: Option<Rate>,
    window: Duration,
    deadline: Option<Duration>,
}

impl Drain {
    /// The same for the tunnels of an upstream that says `own`.
    pub fn with(self, own: &BackendDrain) -> Self {
        Self {
            close_codes: own.close_codes.or(&self.close_codes),
            ..self
        }
    }

    /// The status code that goes with a reason; `None` closes without a frame.
    pub fn code(&self, ending: Ending) -> Option<u16> {
        self.close_codes.of(ending).unwrap_or(self.close_code)
    }

    /// The same, where the reason has a usual code of its own.
    pub fn code_or(&self, ending: Ending, usual: u16) -> Option<u16> {
        let usual = self.close_code.map(|_| usual);
        self.close_codes.of(ending).unwrap_or(usual)
    }

    /// That of a stop: each tunnel needs a moment before the end to close.
    pub fn pace(&self) -> Pace {
        Pace {
            rate: self.rate,
            window: self.window,
            deadline: Some(self.deadline.saturating_sub(self.close_timeout)),
        }
    }

    /// That of a backend whose upstream says `own`. The deadline of `[drain]`
    /// is that of the process: nothing ends with a backend.
    pub fn pace_of(&self, own: &BackendDrain) -> Pace {
        let window = match own.rate {
            Some(_) => Duration::ZERO,
            None => self.window,
        };
        Pace {
            rate: own.rate.or(self.rate),
            window: own.window.unwrap_or(window),
            deadline: own.deadline,
        }
    }
}

impl Pace {
    /// One of a person's own: no faster than `rate`, over no less than `window`.
    pub fn new(rate: Option<Rate>, window: Duration) -> Self {
        Self {
            rate,
            window,
            deadline: None,
        }
    }

    /// How long the closes of so many tunnels take: no less than the window, at
    /// no more than the rate, but all by the deadline.
    pub fn span(&self, tunnels: usize) -> Duration {
        let many = u32::try_from(tunnels).unwrap_or(u32::MAX);
        let by_rate = self.rate.map(|rate| rate.interval().saturating_mul(many));
        let span = self.window.max(by_rate.unwrap_or_default());
        self.deadline.map_or(span, |deadline| span.min(deadline))
    }
}

pub(super) fn drain(section: Section<'_>) -> Drain {
    let deadline = section.or("deadline", SECOND * 60, duration(MAYBE_ZERO));
    let rate = section.optional("rate", rate);
    let usual = match rate {
        Some(_) => Duration::ZERO,
        None => deadline / 2,
    };
    let window = section.or("window", usual, duration(MAYBE_ZERO));
    if window > deadline {
        section.report(
            "window",
            "`window` in [drain] is longer than `deadline`: \
             what it paces would be cut off before its turn",
        );
    }
    let drain = Drain {
        rate,
        window,
        deadline,
        close_code: section.or("close_code", Some(1012), close_code),
        close_codes: close_codes(&section),
        close_timeout: section.or("close_timeout", SECOND * 5, duration(POSITIVE)),
    };
    section.finish();
    drain
}

/// All of `[drain]`'s if there is no such table.
pub(super) fn backend_drain(section: &Section<'_>) -> BackendDrain {
    let allowed = "a table such as { rate = \"100/s\", deadline = \"5m\" }";
    let Some(table) = section.subsection("drain", allowed) else {
        return BackendDrain::default();
    };
    let drain = BackendDrain {
        rate: table.optional("rate", rate),
        window: table.optional("window", duration(MAYBE_ZERO)),
        deadline: table.or("deadline", None, duration_or_off(MAYBE_ZERO)),
        close_codes: own_close_codes(&table),
    };
    if let (Some(window), Some(deadline)) = (drain.window, drain.deadline)
        && window > deadline
    {
        let message = format!("`window` in {} is longer than `deadline`", table.title);
        table.report("window", message);
    }
    table.finish();
    drain
}

/// A status code that an endpoint may send (RFC 6455, 7.4.1 and 7.4.2).
pub(super) fn close_code(value: &Value<'_>) -> Result<Option<u16>, Wrong> {
    let allowed = "\"none\", or a close code that may be sent: \
                   1000-1003, 1007-1014, 3000-4999";
    match value.node() {
        DeValue::String(word) if word == "none" => Ok(None),
        DeValue::Integer(number) => match number.as_str().parse() {
            Ok(code) if number.radix() == 10 && may_send(code) => Ok(Some(code)),
            _ => wrong(value, allowed),
        },
        DeValue::String(word) => wrong_near(value, allowed, nearest(word, ["none"])),
        _ => wrong(value, allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: Option<u32>, window: u64, deadline: Option<u64>) -> Pace {
        Pace {
            rate: rate.map(Rate::per_second),
            window: Duration::from_secs(window),
            deadline: deadline.map(Duration::from_secs),
        }
    }

    #[test]
    fn rate_window_and_deadline_make_the_span() {
        for (pace, tunnels, seconds) in [
            (pace(None, 30, None), 5, 30),
            (pace(Some(100), 0, None), 1000, 10),
            (pace(Some(100), 0, None), 0, 0),
            (pace(Some(100), 30, None), 1000, 30),
            (pace(Some(100), 5, None), 1000, 10),
            (pace(Some(10), 0, Some(60)), 1000, 60),
        ] {
            assert_eq!(pace.span(tunnels), Duration::from_secs(seconds), "{pace:?}");
        }
    }

    #[test]
    fn a_rate_of_its_own_needs_no_window() {
        let all = Drain {
            rate: None,
            window: Duration::from_secs(30),
            deadline: Duration::from_secs(60),
            close_code: None,
            close_codes: CloseCodes::default(),
            close_timeout: Duration::from_secs(5),
        };
        let own = BackendDrain {
            rate: Some(Rate::per_second(10)),
            ..BackendDrain::default()
        };
        assert_eq!(all.pace_of(&own).span(1000), Duration::from_secs(100));
        assert_eq!(all.pace_of(&BackendDrain::default()).span(9), all.window);
        assert_eq!(all.pace().span(100), all.window);
    }
}
