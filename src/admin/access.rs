//! Who may ask what: on the Unix socket its file's mode has decided who may read,
//! and the user who else; over TCP a token does; and nobody's web page may.
//!
//! Invariant: with a token file configured nothing is answered without a token,
//! also while the file cannot be read.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use http::request::Parts;
use http::{HeaderMap, StatusCode, header};

use super::fields::Wrong;
use super::pages::{self, forbidden};
use super::person::{Peer, Person, Role, changes};
use super::token::{TokenError, Tokens};
use crate::config::{self, Operators};
use crate::ws::handshake::tokens;

const ROOT: u32 = 0;

/// What must be shown.
#[derive(Debug)]
pub(super) enum Access {
    /// Whoever could open the socket may read.
    Socket {
        operators: Operators,
        /// Who runs this process.
        own: u32,
    },
    Tcp(Files),
}

#[derive(Debug, Default)]
pub(super) struct Files {
    operator: Option<PathBuf>,
    reader: Option<PathBuf>,
}

impl Access {
    pub(super) fn of_socket(settings: &config::Admin) -> Self {
        Self::Socket {
            operators: settings.operators.clone(),
            own: rustix::process::geteuid().as_raw(),
        }
    }

    pub(super) fn of_tcp(settings: &config::Admin) -> Self {
        let (operator, reader) = (&settings.token_file, &settings.read_token_file);
        Self::of_files(operator.clone(), reader.clone())
    }

    pub(super) fn of_files(operator: Option<PathBuf>, reader: Option<PathBuf>) -> Self {
        Self::Tcp(Files { operator, reader })
    }

    /// The token files that are not usable now.
    pub(super) fn unusable(&self) -> Vec<(PathBuf, TokenError)> {
        let Self::Tcp(files) = self else {
            return Vec::new();
        };
        let files = [&files.operator, &files.reader].into_iter().flatten();
        files
            .filter_map(|file| Some((file.clone(), Tokens::read(file).err()?)))
            .collect()
    }

    /// Whether a request may be answered, and to whom.
    ///
    /// # Errors
    /// With what is to be said instead.
    pub(super) fn check(&self, peer: Peer, head: &Parts) -> Result<Person, Wrong> {
        pages::not_from_another(&head.headers)?;
        let person = self.person(peer, &head.headers)?;
        if person.role == Role::Reader && changes(&head.method, head.uri.path()) {
            return Err(self.only_reads(&person));
        }
        Ok(person)
    }

    fn person(&self, peer: Peer, headers: &HeaderMap) -> Result<Person, Wrong> {
        let (who, role) = match self {
            Self::Socket { operators, own } => {
                pages::to_this_socket(headers)?;
                of_user(peer, operators, *own)
            }
            Self::Tcp(files) if files.are_none() => {
                pages::to_this_machine(headers)?;
                ("this machine".to_owned(), Role::Operator)
            }
            Self::Tcp(files) => files.shown(headers)?,
        };
        Ok(Person { who, role, peer })
    }

    fn only_reads(&self, person: &Person) -> Wrong {
        let who = &person.who;
        forbidden(&match self {
            Self::Tcp(_) => "the token of `read_token_file` may only read".to_owned(),
            Self::Socket { .. } => {
                format!("{who} may only read: `operators` in [admin] does not name it")
            }
        })
    }
}

/// The user at the other end of a Unix socket.
fn of_user(peer: Peer, operators: &Operators, own: u32) -> (String, Role) {
    let Peer::User { uid, gid } = peer else {
        return ("nobody known".to_owned(), Role::Reader);
    };
    let is_named = operators.anyone || operators.uids.contains(&uid);
    let is_operator = is_named || operators.gids.contains(&gid) || [ROOT, own].contains(&uid);
    let role = match is_operator {
        true => Role::Operator,
        false => Role::Reader,
    };
    (format!("uid:{uid}"), role)
}

impl Files {
    fn are_none(&self) -> bool {
        self.operator.is_none() && self.reader.is_none()
    }

    /// Reads the files each time, so that another token holds at once.
    fn shown(&self, headers: &HeaderMap) -> Result<(String, Role), Wrong> {
        let shown = bearer(headers).map(Cow::Borrowed);
        let shown = shown.or_else(|| offered(headers).map(Cow::Owned));
        let shown = shown.ok_or_else(unauthorized)?;
        for (file, key, role) in [
            (&self.operator, "token_file", Role::Operator),
            (&self.reader, "read_token_file", Role::Reader),
        ] {
            if let Some(name) = file.as_ref().and_then(|file| name_in(file, &shown)) {
                let name = name.map(|name| format!(":{name}"));
                return Ok((format!("{key}{}", name.unwrap_or_default()), role));
            }
        }
        Err(unauthorized())
    }
}

/// Whose token it is, if the file holds it.
fn name_in(file: &Path, shown: &str) -> Option<Option<String>> {
    match Tokens::read(file) {
        Ok(tokens) => tokens.name_of(shown),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "admin token is not usable");
            None
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

/// A page can give a WebSocket no header but this: the token in hex digits, as one
/// of the subprotocols.
fn offered(headers: &HeaderMap) -> Option<String> {
    let mut offered = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    let digits = offered.find_map(|one| one.strip_prefix("longhaul.token."))?;
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
    String::from_utf8(bytes?).ok()
}

fn unauthorized() -> Wrong {
    Wrong {
        status: StatusCode::UNAUTHORIZED,
        message: "needed: the header `Authorization: Bearer TOKEN` with a token that is good"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const SOMEBODY: Peer = Peer::User { uid: 7, gid: 8 };

    fn head(line: &str, headers: &[(&str, &str)]) -> Parts {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn code(access: &Access, headers: &[(&str, &str)]) -> u16 {
        let head = head("GET /status", headers);
        access
            .check(SOMEBODY, &head)
            .map_or_else(|it| it.status.as_u16(), |_| 200)
    }

    fn socket(operators: Operators) -> Access {
        Access::Socket { operators, own: 9 }
    }

    #[test]
    fn without_a_token_only_who_asks_this_machine_by_address() {
        let open = Access::Tcp(Files::default());
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
        for access in [Access::Tcp(Files::default()), socket(Operators::default())] {
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
                let got = code(&access, &[host, (name, value)]);
                assert_eq!(got, expected, "{access:?} {name}: {value}");
            }
        }
    }

    /// `ssh -L` brings a browser to it, and a browser every page.
    #[test]
    fn on_the_socket_no_name_that_another_may_point_here() {
        let access = socket(Operators::default());
        assert_eq!(code(&access, &[]), 200);
        for (host, expected) in [
            ("longhaul", 200),
            ("localhost:9000", 200),
            ("127.0.0.1:9000", 200),
            ("evil.example:9000", 403),
            ("evil.example", 403),
            ("evil:9000", 403),
        ] {
            assert_eq!(code(&access, &[("host", host)]), expected, "{host}");
        }
    }

    #[test]
    fn on_the_socket_the_user_decides_what_they_may() {
        let may = |operators: Operators, uid: u32, gid: u32| {
            let access = socket(operators);
            let close = head("POST /tunnels/close", &[("host", "longhaul")]);
            let peer = Peer::User { uid, gid };
            let read = access.check(peer, &head("GET /status", &[]));
            assert_eq!(read.unwrap().who, format!("uid:{uid}"));
            let impact = head("POST /impact", &[]);
            assert!(access.check(peer, &impact).is_ok());
            access.check(peer, &close).is_ok()
        };
        let nobody = Operators::default;
        assert!(may(nobody(), ROOT, 8) && may(nobody(), 9, 8));
        assert!(!may(nobody(), 7, 0));
        let by_id = || Operators {
            anyone: false,
            uids: vec![7],
            gids: vec![8],
        };
        assert!(may(by_id(), 7, 1) && may(by_id(), 1, 8));
        assert!(!may(by_id(), 8, 7));
        let anyone = Operators {
            anyone: true,
            ..nobody()
        };
        assert!(may(anyone, 7, 7));
    }
}
