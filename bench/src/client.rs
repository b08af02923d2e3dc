//! One client connection: TCP or TLS 1.3, then HTTP/1.1 or a WebSocket, every byte of every answer checked.
//!
//! It deliberately decides nothing about when to send: that is the load's part. Invariant: answers come in the order of
//! the messages, and a byte that differs from the pattern ends the run.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

use crate::cert::NAME;
use crate::frame::{HeaderReader, Pattern};
use crate::tickets::Tickets;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// TLS settings that are the same for every target: TLS 1.3, AES-256-GCM, X25519. Older OpenSSL has no post-quantum
/// exchange, so nobody uses one here.
///
/// # Errors
/// When the certificate cannot be read.
pub fn tls_config(certificate: &std::path::Path, resume: bool) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(std::fs::read(certificate)?))?;
    let mut crypto = provider::default_provider();
    crypto.cipher_suites = vec![provider::cipher_suite::TLS13_AES_256_GCM_SHA384];
    crypto.kx_groups = vec![provider::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = if resume {
        Resumption::store(Arc::new(Tickets::default()))
    } else {
        Resumption::disabled()
    };
    Ok(Arc::new(config))
}

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
    pub socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    kind: Kind,
    state: State,
    stream: u32,
    sent: u64,
    received: u64,
    reader: HeaderReader,
    /// Payload bytes seen of the message that is coming in.
    at: Option<usize>,
    head: Vec<u8>,
    rest: Vec<u8>,
    request: Arc<[u8]>,
    ended: bool,
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
        let family = if to.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd =
            rustix::net::socket_with(family, SocketType::STREAM, flags, None).context("socket")?;
        match rustix::net::connect(&fd, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(e) => bail!("connect to {to}: {e}"),
        }
        let socket = TcpStream::from(fd);
        socket.set_nodelay(true)?;
        let tls = match tls {
            None => None,
            Some(config) => {
                let mut tls =
                    ClientConnection::new(Arc::clone(config), ServerName::try_from(NAME)?)?;
                tls.set_buffer_limit(None);
                Some(Box::new(tls))
            }
        };
        Ok(Self {
            socket,
            tls,
            kind,
            state: State::Connecting,
            stream,
            sent: 0,
            received: 0,
            reader: HeaderReader::default(),
            at: None,
            head: Vec::new(),
            rest: Vec::new(),
            request,
            ended: false,
        })
    }

    /// Whether the TLS handshake was a resumed one.
    pub fn resumed(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    /// Sends the next message of this connection.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn send_message(&mut self, pattern: &Pattern, scratch: &mut Vec<u8>) -> Result<()> {
        scratch.clear();
        pattern.push_message(self.stream, self.sent, scratch);
        self.sent += 1;
        self.send(scratch)
    }

    /// Sends one plain request.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn send_request(&mut self) -> Result<()> {
        let request = Arc::clone(&self.request);
        self.send(&request)
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
        self.ended |= ended;
        if self.state == State::Connecting {
            if let Some(e) = self.socket.take_error()? {
                bail!("connect: {e}");
            }
            match self.socket.peer_addr() {
                Err(e) if e.kind() == io::ErrorKind::NotConnected => return Ok(Outcome::Nothing),
                other => other?,
            };
            self.state = State::Upgrading;
            if self.kind == Kind::Requests {
                // A plain connection is open as soon as it is connected: the load sends the requests.
                self.state = State::Open;
                self.flush()?;
                return Ok(Outcome::Opened);
            }
            self.send_request()?;
        }
        self.flush()?;
        let mut total = Outcome::Nothing;
        loop {
            let n = match self.socket.read(buffer) {
                Ok(0) => return Ok(Outcome::Ended),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(total),
                Err(e) => return Err(e.into()),
            };
            let outcome = if self.tls.is_some() {
                self.decrypt(&buffer[..n], plain)?;
                self.take(plain, pattern)?
            } else {
                self.take(&buffer[..n], pattern)?
            };
            total = match (total, outcome) {
                (Outcome::Answers(a), Outcome::Answers(b)) => Outcome::Answers(a + b),
                (before, Outcome::Nothing) => before,
                (_, after) => after,
            };
            if n < buffer.len() && !self.ended {
                return Ok(total);
            }
        }
    }

    fn decrypt(&mut self, mut cipher: &[u8], plain: &mut Vec<u8>) -> Result<()> {
        plain.clear();
        let Some(tls) = self.tls.as_mut() else {
            return Ok(());
        };
        while !cipher.is_empty() {
            tls.read_tls(&mut cipher)?;
            let state = tls.process_new_packets()?;
            let from = plain.len();
            plain.resize(from + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut plain[from..])?;
        }
        self.flush()
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
            Kind::WebSocket => self.messages(bytes, pattern)?,
            Kind::Requests => self.responses(bytes, pattern)?,
        };
        Ok(if answers > 0 {
            Outcome::Answers(answers)
        } else {
            Outcome::Nothing
        })
    }

    fn messages(&mut self, mut bytes: &[u8], pattern: &Pattern) -> Result<u32> {
        let mut answers = 0;
        while !bytes.is_empty() {
            let at = match self.at {
                Some(at) => at,
                None => {
                    let Some(header) = self.reader.read(&mut bytes) else {
                        break;
                    };
                    ensure!(
                        header.first == 0x82
                            && header.len == pattern.size() as u64
                            && header.mask.is_none(),
                        "an unexpected frame: {header:?}"
                    );
                    0
                }
            };
            let expected = &pattern.payload(self.stream, self.received)[at..];
            let take = expected.len().min(bytes.len());
            ensure!(
                bytes[..take] == expected[..take],
                "message {} differs at or after byte {at}",
                self.received
            );
            bytes = &bytes[take..];
            self.at = (take < expected.len()).then_some(at + take);
            if self.at.is_none() {
                self.received += 1;
                answers += 1;
            }
        }
        Ok(answers)
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

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(tls) = self.tls.as_mut() {
            tls.writer().write_all(bytes)?;
            return self.flush();
        }
        let done = if self.rest.is_empty() {
            write(&mut self.socket, bytes)?
        } else {
            0
        };
        self.rest.extend_from_slice(&bytes[done..]);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if let Some(tls) = self.tls.as_mut() {
            while tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e.into()),
                }
            }
        } else if !self.rest.is_empty() {
            let done = write(&mut self.socket, &self.rest)?;
            self.rest.drain(..done);
        }
        Ok(())
    }
}

fn find_end(head: &[u8]) -> Option<usize> {
    head.windows(4).position(|w| w == b"\r\n\r\n")
}

fn write(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match socket.write(&bytes[done..]) {
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
