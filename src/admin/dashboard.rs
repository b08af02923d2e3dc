//! `/`: the dashboard, one page that asks nobody but the admin API it came from.
//!
//! It holds no secret, so whoever can connect may have it; what it shows it must
//! ask for, as everybody.
//!
//! Invariant: nothing that the page shows can become a script in it, even if the
//! page forgot to quote it: its policy names its own two blocks by a number that is
//! drawn for each answer.

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body_util::Full;
use hyper::body::Bytes;

const PAGE: &str = include_str!("page/dashboard.html");
const SCRIPT: &str = include_str!("page/dashboard.js");

pub(super) fn page(headers: &HeaderMap, is_tls: bool) -> Response<Full<Bytes>> {
    let nonce = format!("{:032x}", rand::random::<u128>());
    let page = PAGE.replace("@NONCE@", &nonce).replace("@SCRIPT@", SCRIPT);
    let mut response = Response::new(Full::from(page));
    let policy = policy(&nonce, headers, is_tls);
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, "text/html; charset=utf-8");
    set(header::CONTENT_SECURITY_POLICY, &policy);
    set(header::CACHE_CONTROL, "no-store");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "no-referrer");
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    set(opener, "same-origin");
    response
}

fn policy(nonce: &str, headers: &HeaderMap, is_tls: bool) -> String {
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
    let is_host = |host: &&str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        !host.is_empty() && host.bytes().all(known)
    };
    // Not for every browser does 'self' mean its WebSockets too.
    let sockets = host.filter(is_host).map(|host| match is_tls {
        true => format!(" wss://{host}"),
        false => format!(" ws://{host}"),
    });
    let sockets = sockets.unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         img-src data:; connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_cannot_add_to_the_policy() {
        for (host, expected) in [
            ("localhost:9000", true),
            ("[::1]:9000", true),
            ("a; script-src *", false),
            ("a 'unsafe-inline'", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            let policy = policy("0", &headers, false);
            assert_eq!(policy.contains("ws://"), expected, "{policy}");
            assert!(
                !policy.contains('*') && !policy.contains("unsafe"),
                "{policy}"
            );
        }
    }

    #[test]
    fn the_page_is_whole_and_names_nobody_else() {
        let page = PAGE.replace("@SCRIPT@", SCRIPT);
        assert_eq!(page.matches("nonce=\"@NONCE@\"").count(), 2);
        for elsewhere in ["http://", "https://", "//cdn", "@import", "url("] {
            let known = "http://www.w3.org/2000/svg";
            let found = page.replace(known, "").contains(elsewhere);
            assert!(!found, "{elsewhere}");
        }
        for inline in ["onclick=", "style=\"", "innerHTML", "eval(", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }
}
