//! So many per time, such as `"500/s"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use super::section::{Value, Wrong};
use super::value::{text, wrong, wrong_near};

const MOST: u32 = 1_000_000;
const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

/// A speed that is not to be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    /// Seconds.
    per: u64,
}

impl Rate {
    pub(super) const fn each_second(count: u32) -> Self {
        Self { count, per: 1 }
    }

    /// At least 1.
    pub const fn each_minute(count: u32) -> Self {
        Self { count, per: 60 }
    }

    /// How many, in its unit of time.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Its unit of time, in seconds.
    pub fn per(self) -> u64 {
        self.per
    }

    /// From one to the next.
    pub fn interval(self) -> Duration {
        Duration::from_secs(self.per) / self.count
    }
}

impl fmt::Display for Rate {
    /// As the config writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| *seconds == self.per);
        let unit = unit.map_or("", |(unit, _)| unit);
        write!(f, "{}/{unit}", self.count)
    }
}

/// Not a rate as the config writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {ALLOWED}")]
pub struct NoRate;

const ALLOWED: &str = "a rate such as \"500/s\": an integer from 1 to 1000000, and /s, /m or /h";

impl FromStr for Rate {
    type Err = NoRate;

    fn from_str(written: &str) -> Result<Self, NoRate> {
        let (count, unit) = written.split_once('/').ok_or(NoRate)?;
        let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count
            .parse()
            .ok()
            .filter(|count| (1..=MOST).contains(count));
        let per = UNITS.iter().find(|(name, _)| *name == unit);
        match (count.filter(|_| digits), per) {
            (Some(count), Some((_, per))) => Ok(Self { count, per: *per }),
            _ => Err(NoRate),
        }
    }
}

pub(super) fn rate(value: &Value<'_>) -> Result<Rate, Wrong> {
    let allowed = ALLOWED;
    if let DeValue::Integer(number) = value.node() {
        return wrong_near(value, allowed, Some(format!("\"{number}/s\"")));
    }
    let written = text(value, allowed)?;
    written.parse().or_else(|NoRate| wrong(value, allowed))
}

#[cfg(test)]
impl Rate {
    pub fn per_second(count: u32) -> Self {
        Self { count, per: 1 }
    }
}
