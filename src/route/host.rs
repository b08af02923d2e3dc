//! Host names as they are compared.
//!
//! It does not resolve names or translate them (they come in ASCII, IDNA is
//! the client's business), and does not look at `Host` against `:authority`.
//!
//! Invariant: what [`normalise_host`] gives stays itself when given to it again
//! (in brackets for IPv6), and has no port, no upper case and no empty label.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Longest name in text, without the root's dot (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;

/// The host of a `Host` header or `:authority` (RFC 9110 section 7.2): without
/// port and trailing dot, in lower case; IPv6 without brackets in its shortest
/// form. `None` if it is not a host that can be looked up.
///
/// Underscores are let through: they are no host names, but in use.
pub fn normalise_host(authority: &str) -> Option<Cow<'_, str>> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
            return None;
        }
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(Cow::Owned(address.to_string()));
    }
    let host = match authority.split_once(':') {
        Some((host, port)) if is_port(port) => host,
        Some(_) => return None,
        None => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > MAX_HOST || !host.split('.').all(is_label) {
        return None;
    }
    Some(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// The same form for a host that a config names: with or without brackets.
pub fn canonical_host(host: &str) -> String {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bare.unwrap_or(host).parse::<Ipv6Addr>() {
        Ok(address) => address.to_string(),
        Err(_) => host.to_ascii_lowercase(),
    }
}

/// Digits, or nothing (RFC 3986 section 3.2.3).
fn is_port(text: &str) -> bool {
    text.is_empty()
        || (text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok())
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_in_their_one_form() {
        for (authority, expected) in [
            ("example.com", Some("example.com")),
            ("Chat.Example.COM", Some("chat.example.com")),
            ("example.com:443", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("example.com.:8080", Some("example.com")),
            ("example.com:", Some("example.com")),
            ("localhost", Some("localhost")),
            ("my_service:80", Some("my_service")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("[::1]", Some("::1")),
            ("[::1]:443", Some("::1")),
            ("[2001:DB8:0:0::1]:", Some("2001:db8::1")),
            ("", None),
            (".", None),
            (":80", None),
            ("example.com..", None),
            ("a..b", None),
            (".example.com", None),
            ("example.com:http", None),
            ("example.com:+80", None),
            ("example.com:65536", None),
            ("example.com:80:80", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[::1]:x", None),
            ("[example.com]", None),
            ("[fe80::1%eth0]", None),
            ("user@example.com", None),
            ("exa mple.com", None),
            ("example.com/a", None),
            ("*.example.com", None),
            ("bücher.example", None),
        ] {
            assert_eq!(
                normalise_host(authority).as_deref(),
                expected,
                "{authority}"
            );
        }
        assert_eq!(normalise_host(&"a".repeat(253)).map(|h| h.len()), Some(253));
        assert_eq!(normalise_host(&"a".repeat(254)), None);
    }

    #[test]
    fn a_normal_host_is_borrowed() {
        let host = normalise_host("chat.example.com:443");
        assert!(matches!(host, Some(Cow::Borrowed("chat.example.com"))));
    }

    #[test]
    fn hosts_of_a_config_get_the_same_form() {
        for host in ["[::1]", "::1", "[0:0::0:1]"] {
            assert_eq!(canonical_host(host), "::1");
        }
        assert_eq!(canonical_host("Example.com"), "example.com");
    }

    proptest! {
        #[test]
        fn once_is_enough(authority in "[a-zA-Z0-9.:_\\[\\]-]{0,30}") {
            if let Some(host) = normalise_host(&authority) {
                let again = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
                prop_assert_eq!(normalise_host(&again), Some(host));
            }
        }
    }
}
