//! `close_codes` of `[drain]` and of an upstream's `drain`: a code of its own
//! for one reason why longhaul ends tunnels.
//!
//! The values beside their reader; the reasons themselves are carried out by
//! whoever has them.

use super::drain::close_code;
use super::section::Section;

/// Why longhaul ends a tunnel by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The process stops.
    Stop,
    /// A person takes its backend out.
    Drain,
    /// An edit took its backend away.
    Removed,
    /// Its backend went down.
    Unhealthy,
    /// Its backend has more than its share.
    Rebalance,
    /// A person closes it.
    Operator,
    MaxLifetime,
    IdleTimeout,
    PingTimeout,
}

/// As the config names them, in their order.
const ENDINGS: [(&str, Ending); 9] = [
    ("stop", Ending::Stop),
    ("drain", Ending::Drain),
    ("removed", Ending::Removed),
    ("unhealthy", Ending::Unhealthy),
    ("rebalance", Ending::Rebalance),
    ("operator", Ending::Operator),
    ("max_lifetime", Ending::MaxLifetime),
    ("idle_timeout", Ending::IdleTimeout),
    ("ping_timeout", Ending::PingTimeout),
];

/// What is said of some reasons; a code that is `None` is no Close frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseCodes([Option<Option<u16>>; ENDINGS.len()]);

impl CloseCodes {
    /// `None` if nothing is said.
    pub fn of(&self, ending: Ending) -> Option<Option<u16>> {
        self.0[ending as usize]
    }

    /// These, and where they say nothing the others.
    pub fn or(mut self, others: &Self) -> Self {
        for (own, other) in self.0.iter_mut().zip(others.0) {
            *own = own.or(other);
        }
        self
    }
}

/// Those of `[drain]`: of every reason.
pub(super) fn close_codes(section: &Section<'_>) -> CloseCodes {
    read(section, |_| true)
}

/// Those of an upstream's: a stop and a person close tunnels of many upstreams
/// at once.
pub(super) fn own_close_codes(section: &Section<'_>) -> CloseCodes {
    read(section, |ending| {
        !matches!(ending, Ending::Stop | Ending::Operator)
    })
}

fn read(section: &Section<'_>, has: impl Fn(Ending) -> bool) -> CloseCodes {
    let mut codes = CloseCodes::default();
    let allowed = "a table such as { rebalance = 1013, max_lifetime = \"none\" }";
    let Some(table) = section.subsection("close_codes", allowed) else {
        return codes;
    };
    for (word, ending) in ENDINGS.into_iter().filter(|(_, ending)| has(*ending)) {
        codes.0[ending as usize] = table.optional(word, close_code);
    }
    table.finish();
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ending_has_its_place() {
        for (index, (word, ending)) in ENDINGS.into_iter().enumerate() {
            assert_eq!(ending as usize, index, "{word}");
        }
    }

    #[test]
    fn what_is_said_first_counts() {
        let (mut own, mut others) = (CloseCodes::default(), CloseCodes::default());
        own.0[Ending::Drain as usize] = Some(None);
        others.0[Ending::Drain as usize] = Some(Some(1001));
        others.0[Ending::Removed as usize] = Some(Some(1013));
        let both = own.or(&others);
        assert_eq!(both.of(Ending::Drain), Some(None));
        assert_eq!(both.of(Ending::Removed), Some(Some(1013)));
        assert_eq!(both.of(Ending::Stop), None);
    }
}
