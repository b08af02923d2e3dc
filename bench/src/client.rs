//! One client connection of HTTP/1.1: an upgrade and a WebSocket, or requests; every byte of every answer checked.
//!
//! It deliberately decides nothing about when to send: that is the load's part. Invariant: answers come in the order of
//! the messages, and a byte that differs from the pattern ends the run.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Result, ensure};
use rustls::ClientConfig;

use crate::answers::Answers;
use crate::cert::NAME;
use crate::frame::Pattern;
use crate::transport::{Read, Transport};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a connection asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    WebSocket,
    Requests,
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    /// The 101 came and was right.
    Opened,
    /// So many whole answers came and were right.
    Answers(u32),
    /// The other side ended the connection.
    Ended,
}

#[derive(PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    Open,
}

/// See the module.
pub struct Client {
    transport: Transport,
    kind: Kind,
    state: State,
    sent: u64,
    answers: Answers,
    head: Vec<u8>,
    request: Arc<[u8]>,
}

/// The head of an upgrade request or of a plain one.
pub fn request(kind: Kind, path: &str, protocol: &str) -> Arc<[u8]> {
    let upgrade = match kind {
        Kind::WebSocket => format!(
            "Upgrade: {protocol}\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
        ),
        Kind::Requests => String::new(),
    };
    format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\nUser-Agent: lhbench\r\n{upgrade}\r\n")
        .into_bytes()
        .into()
}

impl Client {
    /// Begins to connect; the answer comes as an event.
    ///
    /// # Errors
    /// When no socket can be had or the address refuses at once.
    pub fn connect(
        to: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        kind: Kind,
        request: Arc<[u8]>,
        stream: u32,
    ) -> Result<Self> {
        Ok(Self {
            transport: Transport::connect(to, tls)?,
            kind,
            state: State::Connecting,
            sent: 0,
            answers: Answers::new(stream),
            head: Vec::new(),
            request,
        })
    }

    /// Where its events come from.
    pub fn socket(&self) -> &TcpStream {
        &self.transport.socket
    }

    /// Whether the TLS handshake was a resumed one.
    pub fn resumed(&self) -> bool {
        self.transport.resumed()
    }

    /// Sends the next message of this connection.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn send_message(&mut self, pattern: &Pattern, scratch: &mut Vec<u8>) -> Result<()> {
        scratch.clear();
        pattern.push_message(self.answers.stream, self.sent, scratch);
        self.sent += 1;
        self.transport.send(scratch)
    }

    /// Sends one plain request.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn send_request(&mut self) -> Result<()> {
        let request = Arc::clone(&self.request);
        self.transport.send(&request)
    }

    /// Handles an event of the socket.
    ///
    /// # Errors
    /// When the socket fails, TLS fails, or an answer is not what was expected.
    pub fn ready(
        &mut self,
        ended: bool,
        pattern: &Pattern,
        buffer: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<Outcome> {
        if ended {
            self.transport.end();
        }
        if self.state == State::Connecting {
            if !self.transport.connected()? {
                return Ok(Outcome::Nothing);
            }
            self.state = State::Upgrading;
            if self.kind == Kind::Requests {
                // A plain connection is open as soon as it is connected: the load sends the requests.
                self.state = State::Open;
                self.transport.flush()?;
                return Ok(Outcome::Opened);
            }
            self.send_request()?;
        }
        self.transport.flush()?;
        let mut total = Outcome::Nothing;
        loop {
            let (bytes, more) = match self.transport.read(buffer, plain)? {
                Read::Bytes(bytes, more) => (bytes, more),
                Read::Nothing => return Ok(total),
                Read::Ended => return Ok(Outcome::Ended),
            };
            let outcome = self.take(bytes, pattern)?;
            total = match (total, outcome) {
                (Outcome::Answers(a), Outcome::Answers(b)) => Outcome::Answers(a + b),
                (before, Outcome::Nothing) => before,
                (_, after) => after,
            };
            if !more {
                return Ok(total);
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8], pattern: &Pattern) -> Result<Outcome> {
        let mut opened = false;
        if self.state == State::Upgrading {
            self.head.extend_from_slice(bytes);
            let Some(end) = find_end(&self.head) else {
                return Ok(Outcome::Nothing);
            };
            let head = String::from_utf8_lossy(&self.head[..end]);
            ensure!(
                head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT),
                "no upgrade but: {head}"
            );
            ensure!(self.head.len() == end + 4, "bytes after the 101");
            self.head = Vec::new();
            self.state = State::Open;
            opened = true;
            bytes = &[];
        }
        if opened {
            return Ok(Outcome::Opened);
        }
        let answers = match self.kind {
            Kind::WebSocket => self.answers.take(bytes, pattern)?,
            Kind::Requests => self.responses(bytes, pattern)?,
        };
        Ok(if answers > 0 {
            Outcome::Answers(answers)
        } else {
            Outcome::Nothing
        })
    }

    fn responses(&mut self, bytes: &[u8], pattern: &Pattern) -> Result<u32> {
        self.head.extend_from_slice(bytes);
        let mut answers = 0;
        while let Some(end) = find_end(&self.head) {
            let whole = end + 4 + pattern.size();
            if self.head.len() < whole {
                break;
            }
            ensure!(
                self.head.starts_with(b"HTTP/1.1 200"),
                "no 200 but: {}",
                String::from_utf8_lossy(&self.head[..end])
            );
            ensure!(
                self.head[end + 4..whole] == *pattern.payload(0, 0),
                "a body differs"
            );
            self.head.drain(..whole);
            answers += 1;
        }
        Ok(answers)
    }
}

fn find_end(head: &[u8]) -> Option<usize> {
    head.windows(4).position(|w| w == b"\r\n\r\n")
}
