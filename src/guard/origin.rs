//! Whether the page that asks for a tunnel may have one.
//!
//! A browser sends cookies with a WebSocket handshake whatever page asks for it,
//! and no rule of CORS stops that page from reading the answers; the `Origin`
//! that it sends, and that no page can change, is all there is to go by
//! (RFC 6455 section 10.2). Other clients send none, or what they like: against
//! those this is no defence.

use http::{HeaderMap, HeaderName, header};

use crate::config::{AllowedOrigin, Origins};
use crate::exchange::Refusal;
use crate::route::normalise_host;

/// As `layers::forwarded` has made it: what the client, or a proxy that is
/// trusted, says.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Characters of an origin that a refusal repeats.
const SHOWN: usize = 100;

/// # Errors
/// If the origin is none of those that are allowed, is told twice, or is missing
/// where it must be there.
pub fn check_origin(origins: &Origins, headers: &HeaderMap) -> Result<(), Refusal> {
    if !headers.contains_key(header::ORIGIN) {
        return match origins.missing {
            true => Ok(()),
            false => Err(Refusal::OriginNotAllowed("no origin".into())),
        };
    }
    match letting_in(origins, headers) {
        Some(_) => Ok(()),
        None => Err(Refusal::OriginNotAllowed(shown(headers))),
    }
}

/// The first of those allowed that lets this origin in.
pub fn letting_in<'a>(origins: &'a Origins, headers: &HeaderMap) -> Option<&'a AllowedOrigin> {
    let mut told = headers.get_all(header::ORIGIN).iter();
    let origin = told.next()?.to_str().ok()?.to_ascii_lowercase();
    if told.next().is_some() {
        return None;
    }
    let fits = |allowed: &&AllowedOrigin| match allowed {
        AllowedOrigin::SameHost => is_same_host(&origin, headers),
        AllowedOrigin::Exact(allowed) => *allowed == origin,
        AllowedOrigin::Wildcard { before, behind } => origin
            .strip_prefix(&**before)
            .and_then(|rest| rest.strip_suffix(&**behind))
            .is_some_and(are_labels),
    };
    origins.allowed.iter().find(fits)
}

/// One or more labels of a host name, and nothing that could end one earlier.
fn are_labels(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty() && text.bytes().all(is_part)
}

/// Whatever the ports: those differ where one is mapped to another on the way,
/// and cookies, which this is about, do not heed them (RFC 6265 section 8.5).
fn is_same_host(origin: &str, headers: &HeaderMap) -> bool {
    let asked = headers
        .get(&FORWARDED_HOST)
        .or_else(|| headers.get(header::HOST));
    let Some(asked) = asked.and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let place = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    let page = place.and_then(normalise_host);
    page.is_some() && page == normalise_host(asked)
}

fn shown(headers: &HeaderMap) -> String {
    let told: Vec<_> = headers
        .get_all(header::ORIGIN)
        .iter()
        .map(|origin| String::from_utf8_lossy(origin.as_bytes()))
        .collect();
    told.join(", ").chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn judge(allowed: &[AllowedOrigin], host: &str, told: &[&str]) -> bool {
        let origins = Origins {
            allowed: allowed.to_vec(),
            missing: false,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        for origin in told {
            headers.append(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        check_origin(&origins, &headers).is_ok()
    }

    #[test]
    fn exact_ones_are_compared_whole() {
        let allowed = [
            AllowedOrigin::Exact("https://chat.example.com".into()),
            AllowedOrigin::Exact("null".into()),
        ];
        for (origin, fits) in [
            ("https://chat.example.com", true),
            ("HTTPS://Chat.Example.com", true),
            ("null", true),
            ("http://chat.example.com", false),
            ("https://chat.example.com:8443", false),
            ("https://chat.example.com.evil.example", false),
            ("https://evil.example/https://chat.example.com", false),
            ("https://chat.example.com/", false),
            ("", false),
        ] {
            assert_eq!(judge(&allowed, "h", &[origin]), fits, "{origin:?}");
        }
    }

    #[test]
    fn a_wildcard_is_labels_and_nothing_else() {
        let allowed = [AllowedOrigin::Wildcard {
            before: "https://".into(),
            behind: ".example.com".into(),
        }];
        for (origin, fits) in [
            ("https://a.example.com", true),
            ("https://a.b.example.com", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("https://evilexample.com", false),
            ("https://evil.example/.example.com", false),
            ("https://evil.example?.example.com", false),
            ("https://evil.example#.example.com", false),
            ("https://evil@a.example.com", false),
            ("https://evil.example:80.example.com", false),
            ("https://a.example.com:443", false),
            ("http://a.example.com", false),
        ] {
            assert_eq!(judge(&allowed, "h", &[origin]), fits, "{origin:?}");
        }
    }

    #[test]
    fn the_same_host_is_so_on_any_port() {
        let allowed = [AllowedOrigin::SameHost];
        for (host, origin, fits) in [
            ("a.example", "https://a.example", true),
            ("A.example:8080", "http://a.example:3000", true),
            ("[::1]:80", "http://[::1]:3000", true),
            ("a.example", "https://b.example", false),
            ("a.example", "https://a.example.evil.example", false),
            ("a.example", "https://a.example@evil.example", false),
            ("a.example", "ftp://a.example", false),
            ("a.example", "a.example", false),
            ("a.example", "null", false),
            ("", "https://", false),
        ] {
            assert_eq!(judge(&allowed, host, &[origin]), fits, "{host} {origin}");
        }
    }

    #[test]
    fn two_origins_are_none() {
        let allowed = [AllowedOrigin::Exact("https://a".into())];
        assert!(judge(&allowed, "h", &["https://a"]));
        assert!(!judge(&allowed, "h", &["https://a", "https://a"]));
        assert!(!judge(&allowed, "h", &["https://a https://b"]));
        assert!(!judge(&allowed, "h", &[]));
    }
}
