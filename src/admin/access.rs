//! Who may ask what: on the Unix socket its file's mode has decided, over TCP a
//! token does, and nobody's web page may.
//!
//! A browser is a way in for every page that it shows, also to a loopback
//! address. So requests that a page of another origin has made are refused, and
//! where no token is asked for also those to a name, which another's DNS may
//! point here (DNS rebinding).
//!
//! Invariant: with a token file configured nothing is answered without a token,
//! also while the file cannot be read.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};

use super::fields::Wrong;
use super::token::{Token, TokenError};
use crate::config;

/// What must be shown.
#[derive(Debug)]
pub(super) enum Access {
    /// Whoever could open the socket may ask.
    Socket,
    Tcp(Tokens),
}

#[derive(Debug, Default)]
pub(super) struct Tokens {
    operator: Option<PathBuf>,
    reader: Option<PathBuf>,
}

/// What somebody may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Operator,
    Reader,
}

impl Access {
    pub(super) fn of_socket() -> Self {
        Self::Socket
    }

    pub(super) fn new(settings: &config::Admin) -> Self {
        Self::Tcp(Tokens {
            operator: settings.token_file.clone(),
            reader: settings.read_token_file.clone(),
        })
    }

    /// The token files that are not usable now.
    pub(super) fn unusable(&self) -> Vec<(PathBuf, TokenError)> {
        let Self::Tcp(tokens) = self else {
            return Vec::new();
        };
        let files = [&tokens.operator, &tokens.reader].into_iter().flatten();
        files
            .filter_map(|file| Some((file.clone(), Token::read(file).err()?)))
            .collect()
    }

    /// Whether a request may be answered.
    ///
    /// # Errors
    /// With what is to be said instead.
    pub(super) fn check(&self, head: &Parts) -> Result<(), Wrong> {
        let Self::Tcp(tokens) = self else {
            return Ok(());
        };
        not_from_another_page(&head.headers)?;
        if tokens.are_none() {
            return to_this_machine(&head.headers);
        }
        let role = tokens.role(&head.headers)?;
        let changes = head.method != Method::GET && head.uri.path() != "/impact";
        if changes && role == Role::Reader {
            return Err(forbidden("the token of `read_token_file` may only read"));
        }
        Ok(())
    }
}

impl Tokens {
    fn are_none(&self) -> bool {
        self.operator.is_none() && self.reader.is_none()
    }

    /// Reads the files each time, so that another token holds at once.
    fn role(&self, headers: &HeaderMap) -> Result<Role, Wrong> {
        let shown = bearer(headers).ok_or_else(unauthorized)?;
        for (file, role) in [
            (&self.operator, Role::Operator),
            (&self.reader, Role::Reader),
        ] {
            if let Some(file) = file
                && is_of(file, shown)
            {
                return Ok(role);
            }
        }
        Err(unauthorized())
    }
}

fn is_of(file: &Path, shown: &str) -> bool {
    match Token::read(file) {
        Ok(token) => token.is(shown),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "admin token is not usable");
            false
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    // RFC 9110 section 11.1: the scheme's case does not matter.
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

/// Browsers say in one of these which page a request comes from; nothing else
/// sends them.
fn not_from_another_page(headers: &HeaderMap) -> Result<(), Wrong> {
    let refused = || forbidden("requests of pages of another origin are refused");
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin
            .to_str()
            .ok()
            .and_then(|it| it.strip_prefix("http://"));
        if origin.is_none() || origin != host {
            return Err(refused());
        }
    }
    match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(refused()),
    }
}

fn to_this_machine(headers: &HeaderMap) -> Result<(), Wrong> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    match host {
        Some(host) if hosts.next().is_none() && is_address(host) => Ok(()),
        _ => Err(forbidden(
            "without a token, `Host` must be an IP address or localhost",
        )),
    }
}

fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let inner = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || inner.unwrap_or(name).parse::<IpAddr>().is_ok()
}

fn unauthorized() -> Wrong {
    Wrong {
        status: StatusCode::UNAUTHORIZED,
        message: "needed: the header `Authorization: Bearer TOKEN` with a token that is good"
            .to_owned(),
    }
}

fn forbidden(message: &str) -> Wrong {
    Wrong {
        status: StatusCode::FORBIDDEN,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn code(access: &Access, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::get("/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        access
            .check(&head)
            .map_or_else(|it| it.status.as_u16(), |()| 200)
    }

    #[test]
    fn without_a_token_only_who_asks_this_machine_by_address() {
        let open = Access::Tcp(Tokens::default());
        for host in [
            "127.0.0.1:9000",
            "127.0.0.1",
            "[::1]:9000",
            "localhost:9000",
            "LOCALHOST",
        ] {
            assert_eq!(code(&open, &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example:9000",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "",
            "[::1",
        ] {
            assert_eq!(code(&open, &[("host", host)]), 403, "{host}");
        }
        assert_eq!(code(&open, &[]), 403);
        let twice = [("host", "127.0.0.1"), ("host", "evil.example")];
        assert_eq!(code(&open, &twice), 403);
    }

    #[test]
    fn no_page_of_another_origin_may_ask() {
        let open = Access::Tcp(Tokens::default());
        let host = ("host", "127.0.0.1:9000");
        for (name, value, expected) in [
            ("origin", "http://127.0.0.1:9000", 200),
            ("origin", "http://127.0.0.1:9001", 403),
            ("origin", "https://127.0.0.1:9000", 403),
            ("origin", "https://evil.example", 403),
            ("origin", "null", 403),
            ("sec-fetch-site", "same-origin", 200),
            ("sec-fetch-site", "none", 200),
            ("sec-fetch-site", "same-site", 403),
            ("sec-fetch-site", "cross-site", 403),
        ] {
            let got = code(&open, &[host, (name, value)]);
            assert_eq!(got, expected, "{name}: {value}");
        }
        // Its mode has decided already.
        let hostile = [("host", "x"), ("origin", "https://evil.example")];
        assert_eq!(code(&Access::of_socket(), &hostile), 200);
    }
}
