//! Asks a running longhaul at its admin API; blocks.
//!
//! It knows HTTP, TLS and JSON, and of their content only who answers.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

use crate::admin::Endpoint;
use crate::config::BackendAddress;
use crate::tls;

/// Of a question about the process; others may have a million tunnels to look at.
const PATIENCE: Duration = Duration::from_secs(2);
const LONG_PATIENCE: Duration = Duration::from_secs(20);
/// Of an answer: more than ten thousand backends or tunnels say.
const MOST: u64 = 16 * 1024 * 1024;

type Dressed = StreamOwned<ClientConnection, TcpStream>;

/// What a running process says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub pid: u32,
    /// What its listeners are bound to, by name.
    pub listeners: BTreeMap<String, String>,
}

/// Why there is no answer, or another than was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What longhaul says is wrong with the question.
    #[error("{0}")]
    Refused(String),
}

/// Where a running longhaul answers operators.
#[derive(Clone, Debug)]
pub enum AdminApi {
    Socket(PathBuf),
    Tcp {
        /// Host and port, as a URL has them.
        authority: String,
        token: Option<String>,
        /// `None`: in plain HTTP.
        tls: Option<Tls>,
    },
}

/// Whom to believe that it is the longhaul that was meant, and what to show it.
#[derive(Clone, Debug)]
pub struct Tls {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

impl AdminApi {
    /// As a person writes it: a path, or `http://` or `https://` with host and port.
    /// `token` and `config` are for the latter two and the last.
    ///
    /// # Errors
    /// If it is a URL of something else.
    pub fn parse(
        written: &str,
        token: Option<String>,
        config: Option<Arc<ClientConfig>>,
    ) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{written}: expected the path of a socket, http://HOST:PORT or https://HOST:PORT"
            )
        };
        let Some((scheme, rest)) = written.split_once("://") else {
            return Ok(Self::Socket(written.into()));
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let known = authority.parse::<http::uri::Authority>();
        let known = known.ok().filter(|it| it.port_u16().is_some());
        let known = known.filter(|_| !authority.contains('@'));
        let host = known.as_ref().map(|it| it.host()).ok_or_else(wrong)?;
        let tls = match (scheme, config) {
            ("http", _) => None,
            ("https", Some(config)) => {
                let address = BackendAddress::Tcp {
                    host: host.to_owned(),
                    port: 0,
                };
                let name = tls::server_name(None, &address);
                let name = name.map_err(|error| format!("{written}: {error}"))?;
                Some(Tls { config, name })
            }
            _ => return Err(wrong()),
        };
        Ok(Self::Tcp {
            authority: authority.to_owned(),
            token,
            tls,
        })
    }

    /// # Errors
    /// Nobody is there (`NotFound`, `ConnectionRefused`), or the answer is none.
    pub fn ask(&self) -> io::Result<Running> {
        let question = format!("GET {}", Endpoint::Status.path());
        let (_, status) = self.exchange(&question, None, PATIENCE)?;
        running(&status).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The answer to a GET; `target` is the path of an [`Endpoint`], with a query if
    /// there is one.
    ///
    /// # Errors
    /// Nobody is there, or it refuses.
    pub fn get(&self, target: &str) -> Result<Value, AskError> {
        told(self.exchange(&format!("GET {target}"), None, LONG_PATIENCE)?)
    }

    /// The answer to a POST.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post(&self, endpoint: Endpoint, body: &Value) -> Result<Value, AskError> {
        let question = format!("POST {}", endpoint.path());
        told(self.exchange(&question, Some(body), LONG_PATIENCE)?)
    }

    fn exchange(
        &self,
        line: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> io::Result<(u16, Value)> {
        let question = self.question(line, body);
        let answer = match self {
            Self::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                spoken(stream, &question)?
            }
            Self::Tcp { authority, tls, .. } => {
                let stream = connect(authority, patience)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                match tls {
                    None => spoken(stream, &question)?,
                    Some(tls) => spoken(dressed(tls, stream)?, &question)?,
                }
            }
        };
        parsed(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn question(&self, line: &str, body: Option<&Value>) -> String {
        let (host, token) = match self {
            Self::Socket(_) => ("longhaul", None),
            Self::Tcp {
                authority, token, ..
            } => (&**authority, token.as_deref()),
        };
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let token = token.unwrap_or_default();
        let body = body.map(ToString::to_string).unwrap_or_default();
        let length = body.len();
        format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{token}\
             Content-Length: {length}\r\n\r\n{body}"
        )
    }
}

impl fmt::Display for AdminApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "the admin socket {}", path.display()),
            Self::Tcp { authority, tls, .. } => {
                let scheme = tls.as_ref().map_or("http", |_| "https");
                write!(f, "the admin API at {scheme}://{authority}")
            }
        }
    }
}

/// To the first of its addresses that answers.
fn connect(authority: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// After its handshake, so that what is wrong there is told as such.
fn dressed(tls: &Tls, mut stream: TcpStream) -> io::Result<Dressed> {
    let connection = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone());
    let mut connection = connection.map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

fn spoken(mut stream: impl Read + Write, question: &str) -> io::Result<Vec<u8>> {
    // Refused before it was read to its end, it is answered all the same.
    let written = stream.write_all(question.as_bytes());
    let mut answer = Vec::new();
    let read = stream.take(MOST).read_to_end(&mut answer);
    if answer.is_empty() {
        written.and(read)?;
    }
    Ok(answer)
}

fn told((code, answer): (u16, Value)) -> Result<Value, AskError> {
    match code {
        200 => Ok(answer),
        code => Err(AskError::Refused(match answer["error"].as_str() {
            Some(error) => error.to_owned(),
            None => format!("the answer has status {code}"),
        })),
    }
}

fn parsed(answer: &[u8]) -> Option<(u16, Value)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, serde_json::from_str(body).ok()?))
}

fn running(status: &Value) -> Option<Running> {
    let listeners = status["listeners"].as_array()?;
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let listener = |value: &Value| Some((text(&value["name"])?, text(&value["address"])?));
    Some(Running {
        pid: status["pid"].as_u64()?.try_into().ok()?,
        listeners: listeners.iter().filter_map(listener).collect(),
    })
}
