//! Who may ask what: on the Unix socket its file's mode has decided who may read,
//! and the user who else; over TCP a token or a certificate does; and nobody's web
//! page may.
//!
//! Invariant: over TCP nothing but the dashboard's page, which shows nothing by itself, is answered without
//! one of them, also while a file cannot be read.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use http::request::Parts;
use http::{HeaderMap, StatusCode, header};

use super::endpoints::changes;
use super::fields::Wrong;
use super::pages::{self, forbidden};
use super::person::{CERTIFICATE, Caller, Certified, Peer, Person, Role};
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
    Tcp(Shown),
}

/// What lets somebody in who comes by TCP, beside certificates.
#[derive(Debug, Default)]
pub(super) struct Shown(Vec<TokenFile>);

/// A file of tokens, and what they are good for.
#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    /// That names it in the configuration.
    key: &'static str,
    role: Role,
    /// Why it was not usable when it was last read; told once, however many ask.
    told: Mutex<Option<String>>,
}

impl Access {
    pub(super) fn of_socket(settings: &config::Admin) -> Self {
        Self::Socket {
            operators: settings.operators.clone(),
            own: rustix::process::geteuid().as_raw(),
        }
    }

    pub(super) fn of_tcp(settings: &config::Admin) -> Self {
        let files = [
            (&settings.token_file, "token_file", Role::Operator),
            (&settings.read_token_file, "read_token_file", Role::Reader),
        ];
        let file = |(path, key, role): (&Option<PathBuf>, _, _)| {
            let path = path.as_ref()?;
            Some(TokenFile::new(path.clone(), key, role))
        };
        Self::Tcp(Shown(files.into_iter().filter_map(file).collect()))
    }

    #[cfg(test)]
    pub(super) fn of_token_file(path: PathBuf) -> Self {
        let file = TokenFile::new(path, "token_file", Role::Operator);
        Self::Tcp(Shown(vec![file]))
    }

    /// The token files that are not usable now.
    pub(super) fn unusable(&self) -> Vec<(PathBuf, TokenError)> {
        let Self::Tcp(Shown(files)) = self else {
            return Vec::new();
        };
        let error = |file: &TokenFile| Some((file.path.clone(), Tokens::read(&file.path).err()?));
        files.iter().filter_map(error).collect()
    }

    /// Whether a request may be answered, and to whom.
    ///
    /// # Errors
    /// With what is to be said instead.
    pub(super) fn check(&self, caller: &Caller, head: &Parts) -> Result<Person, Wrong> {
        pages::not_from_another(&head.headers, caller.is_tls)?;
        let person = self.person(caller, &head.headers)?;
        if person.role == Role::Reader && changes(&head.method, head.uri.path()) {
            return Err(self.only_reads(&person));
        }
        Ok(person)
    }

    fn person(&self, caller: &Caller, headers: &HeaderMap) -> Result<Person, Wrong> {
        let peer = caller.peer;
        let (who, role) = match self {
            Self::Socket { operators, own } => {
                pages::to_this_socket(headers)?;
                of_user(peer, operators, *own)
            }
            Self::Tcp(shown) => shown.of(caller, headers)?,
        };
        Ok(Person { who, role, peer })
    }

    fn only_reads(&self, person: &Person) -> Wrong {
        let who = &person.who;
        forbidden(&match self {
            Self::Tcp(_) if who.starts_with(CERTIFICATE) => {
                format!(
                    "{who} may only read: `operators` of `client_certificates` in [admin] does \
                     not name it"
                )
            }
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

impl Shown {
    /// By the token, if one is shown; else by the certificate.
    fn of(&self, caller: &Caller, headers: &HeaderMap) -> Result<(String, Role), Wrong> {
        let token = bearer(headers).map(Cow::Borrowed);
        let token = token.or_else(|| offered(headers).map(Cow::Owned));
        match (token, &caller.certificate) {
            (Some(token), _) => self.of_token(&token),
            (None, Some(certificate)) => of_certificate(certificate),
            (None, None) => Err(unauthorized()),
        }
    }

    fn of_token(&self, shown: &str) -> Result<(String, Role), Wrong> {
        for file in &self.0 {
            if let Some(name) = file.name_of(shown) {
                let name = name.map(|name| format!(":{name}"));
                return Ok((
                    format!("{}{}", file.key, name.unwrap_or_default()),
                    file.role,
                ));
            }
        }
        Err(unauthorized())
    }
}

impl TokenFile {
    fn new(path: PathBuf, key: &'static str, role: Role) -> Self {
        Self {
            path,
            key,
            role,
            told: Mutex::default(),
        }
    }

    /// Whose token it is, if the file holds it. It is read each time, so that another
    /// token holds at once.
    fn name_of(&self, shown: &str) -> Option<Option<String>> {
        let tokens = Tokens::read(&self.path);
        self.tell(tokens.as_ref().err().map(ToString::to_string));
        tokens.ok()?.name_of(shown)
    }

    fn tell(&self, error: Option<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error.as_ref().filter(|error| told.as_ref() != Some(error)) {
            let file = self.path.display();
            tracing::warn!(%file, error, "admin token is not usable");
        }
        *told = error;
    }
}

/// It was good at the handshake; who watches for long outlives it.
fn of_certificate(certificate: &Certified) -> Result<(String, Role), Wrong> {
    if SystemTime::now() > certificate.not_after {
        return Err(unauthorized());
    }
    Ok((certificate.who(), certificate.role))
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
        message:
            "needed: the header `Authorization: Bearer TOKEN` with a token that is good, or a \
                  client certificate where they are asked for"
                .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::time::Duration;

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
            .check(&Caller::plain(SOMEBODY), &head)
            .map_or_else(|it| it.status.as_u16(), |_| 200)
    }

    fn socket(operators: Operators) -> Access {
        Access::Socket { operators, own: 9 }
    }

    #[test]
    fn where_nothing_is_shown_only_who_asks_by_address() {
        let open = socket(Operators::default());
        for host in [
            "127.0.0.1:9000",
            "127.0.0.1",
            "[::1]:9000",
            "localhost:9000",
            "LOCALHOST",
            "longhaul",
            "",
        ] {
            assert_eq!(code(&open, &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example:9000",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "[::1",
        ] {
            assert_eq!(code(&open, &[("host", host)]), 403, "{host}");
        }
        assert_eq!(code(&open, &[]), 200);
        let twice = [("host", "127.0.0.1"), ("host", "evil.example")];
        assert_eq!(code(&open, &twice), 403);
    }

    #[test]
    fn no_page_of_another_origin_may_ask() {
        let directory = tempfile::tempdir().unwrap();
        let (file, token) = (directory.path().join("token"), "0123456789abcdef");
        std::fs::write(&file, token).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let shown = ("authorization", &*format!("Bearer {token}"));
        for access in [Access::of_token_file(file), socket(Operators::default())] {
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
                let got = code(&access, &[host, shown, (name, value)]);
                assert_eq!(got, expected, "{access:?} {name}: {value}");
            }
        }
    }

    /// By a certificate of so many seconds from now on.
    fn certified(role: Role, seconds: i64) -> Caller {
        let now = SystemTime::now();
        let time = Duration::from_secs(seconds.unsigned_abs());
        let certificate = Certified {
            subject: "CN=alice".to_owned(),
            role,
            not_after: if seconds < 0 { now - time } else { now + time },
        };
        Caller {
            peer: SOMEBODY,
            is_tls: true,
            certificate: Some(Arc::new(certificate)),
        }
    }

    #[test]
    fn a_certificate_lets_in_while_it_is_good() {
        let access = Access::Tcp(Shown::default());
        let host = [("host", "admin.example:9443")];
        let (read, close) = (head("GET /status", &host), head("POST /backends", &host));
        let alice = certified(Role::Operator, 60);
        assert_eq!(
            access.check(&alice, &close).unwrap().who,
            "certificate:CN=alice"
        );
        let reader = certified(Role::Reader, 60);
        assert_eq!(access.check(&reader, &read).unwrap().role, Role::Reader);
        let refused = access.check(&reader, &close).unwrap_err();
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        // Who watches for longer than that is asked again.
        let over = access.check(&certified(Role::Operator, -1), &read);
        assert_eq!(over.unwrap_err().status, StatusCode::UNAUTHORIZED);
        // None is no certificate, on whatever machine.
        let local = head("GET /status", &[("host", "127.0.0.1")]);
        let nobody = access.check(&Caller::plain(SOMEBODY), &local);
        assert_eq!(nobody.unwrap_err().status, StatusCode::UNAUTHORIZED);
        // And a token that nobody asks for is none either.
        let shown = [host[0], ("authorization", "Bearer 0123456789abcdef")];
        let wrong = access.check(&alice, &head("GET /status", &shown));
        assert_eq!(wrong.unwrap_err().status, StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn over_tls_a_page_is_of_the_same_origin_by_its_scheme_too() {
        let access = Access::Tcp(Shown::default());
        for (origin, good) in [
            ("https://admin.example", true),
            ("http://admin.example", false),
            ("https://admin.example:444", false),
        ] {
            let headers = [("host", "admin.example"), ("origin", origin)];
            let head = head("GET /status", &headers);
            let checked = access.check(&certified(Role::Reader, 60), &head);
            assert_eq!(checked.is_ok(), good, "{origin}");
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
            let caller = Caller::plain(Peer::User { uid, gid });
            let read = access.check(&caller, &head("GET /status", &[]));
            assert_eq!(read.unwrap().who, format!("uid:{uid}"));
            let impact = head("POST /impact", &[]);
            assert!(access.check(&caller, &impact).is_ok());
            access.check(&caller, &close).is_ok()
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
