//! `allowed_networks` and `denied_networks`, as listeners and routes have them.
//!
//! The values beside their reader; who is let in is `guard`'s.

use ipnet::IpNet;

use super::section::Section;
use super::value::network;

/// Where clients may come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Empty: everywhere.
    pub allowed: Vec<IpNet>,
    /// From here not, even if allowed.
    pub denied: Vec<IpNet>,
}

impl Networks {
    /// Whether there is neither of the two lists.
    pub fn let_in_all(&self) -> bool {
        self.allowed.is_empty() && self.denied.is_empty()
    }
}

const ALLOWED: &str = "an array of networks such as \"10.0.0.0/8\"";

pub(super) fn networks(section: &Section<'_>) -> Networks {
    Networks {
        allowed: section.list("allowed_networks", ALLOWED, network),
        denied: section.elements_or_none("denied_networks", ALLOWED, network),
    }
}
