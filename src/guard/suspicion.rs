//! Whether limits for each client count another proxy: then all that come through
//! it are one client, and are refused together.
//!
//! It can be seen: a private address that longhaul was not told to trust speaks
//! for others, or all that come have one private address.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// From so many on, all of one private address are taken for more than one
/// client.
const MANY: u32 = 100;

/// What has been seen on one route under one configuration.
#[derive(Debug, Default)]
pub struct Suspicion {
    first: OnceLock<IpAddr>,
    from_others: AtomicBool,
    seen: AtomicU32,
    told: AtomicBool,
}

/// A client that is counted.
#[derive(Clone, Copy, Debug)]
pub struct Suspect {
    pub address: IpAddr,
    /// It told of other clients, and was not believed.
    pub speaks_for_others: bool,
}

/// What is thought of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Client,
    Proxy {
        /// Nobody has been told yet.
        is_news: bool,
    },
}

impl Suspicion {
    /// Whether a proxy has been counted as a client.
    pub fn is_founded(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    pub fn judge(&self, suspect: Suspect) -> Verdict {
        let first = *self.first.get_or_init(|| suspect.address);
        if first != suspect.address {
            self.from_others.store(true, Ordering::Relaxed);
        }
        if !is_private(suspect.address) {
            return Verdict::Client;
        }
        let alone = !self.from_others.load(Ordering::Relaxed)
            && self.seen.fetch_add(1, Ordering::Relaxed) >= MANY;
        match suspect.speaks_for_others || alone {
            true => Verdict::Proxy {
                is_news: !self.told.swap(true, Ordering::Relaxed),
            },
            false => Verdict::Client,
        }
    }
}

/// No address of the internet: of this machine, of a private network or a
/// carrier's (RFC 1918, 4193, 6598), or link-local.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Suspect {
        Suspect {
            address: address.parse().unwrap(),
            speaks_for_others: false,
        }
    }

    #[test]
    fn who_speaks_for_others_from_within_is_a_proxy() {
        let suspicion = Suspicion::default();
        let speaker = |address| Suspect {
            speaks_for_others: true,
            ..from(address)
        };
        assert_eq!(suspicion.judge(speaker("192.0.2.1")), Verdict::Client);
        for (address, is_news) in [
            ("10.0.0.1", true),
            ("127.0.0.1", false),
            ("100.64.0.1", false),
            ("fd00::1", false),
        ] {
            let verdict = Verdict::Proxy { is_news };
            assert_eq!(suspicion.judge(speaker(address)), verdict, "{address}");
        }
        assert_eq!(suspicion.judge(from("10.0.0.1")), Verdict::Client);
    }

    #[test]
    fn one_private_address_alone_is_a_proxy_after_a_while() {
        let suspicion = Suspicion::default();
        for _ in 0..MANY {
            assert_eq!(suspicion.judge(from("10.0.0.1")), Verdict::Client);
        }
        assert!(!suspicion.is_founded());
        for is_news in [true, false] {
            let verdict = Verdict::Proxy { is_news };
            assert_eq!(suspicion.judge(from("10.0.0.1")), verdict);
        }
        assert!(suspicion.is_founded());
        suspicion.judge(from("10.0.0.2"));
        assert_eq!(suspicion.judge(from("10.0.0.1")), Verdict::Client);
    }
}
