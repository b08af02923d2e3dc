//! Whether clients may come from where they do.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::Networks;
use crate::net::is_in;

/// Whether a client of this address is let in. One that has none, on a Unix
/// socket, is in no network.
pub fn lets_in(networks: &Networks, address: Option<IpAddr>) -> bool {
    let has = |list: &[IpNet]| address.is_some_and(|address| is_in(address, list));
    let allowed = networks.allowed.is_empty() || has(&networks.allowed);
    allowed && !has(&networks.denied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(allowed: &[&str], denied: &[&str], address: Option<&str>) -> bool {
        let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let networks = Networks {
            allowed: list(allowed),
            denied: list(denied),
        };
        lets_in(&networks, address.map(|text| text.parse().unwrap()))
    }

    #[test]
    fn what_is_denied_is_so_within_what_is_allowed() {
        let (allowed, denied) = (["10.0.0.0/8", "2001:db8::/32"], ["10.6.0.0/16"]);
        for (address, fits) in [
            ("10.0.0.1", true),
            ("10.6.0.1", false),
            ("2001:db8::7", true),
            ("11.0.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(judge(&allowed, &denied, Some(address)), fits, "{address}");
        }
    }

    #[test]
    fn without_a_list_all_come_in() {
        assert!(judge(&[], &[], Some("192.0.2.1")));
        assert!(judge(&[], &["192.0.2.1/32"], Some("192.0.2.2")));
        assert!(!judge(&[], &["192.0.2.1/32"], Some("192.0.2.1")));
    }

    #[test]
    fn who_has_no_address_is_in_no_network() {
        assert!(judge(&[], &["0.0.0.0/0"], None));
        assert!(!judge(&["0.0.0.0/0"], &[], None));
    }
}
