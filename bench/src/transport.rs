//! One connection of the load: TCP, or TLS 1.3 over it, without waiting for either.
//!
//! It deliberately knows nothing of what is said on it. Invariant: bytes leave in the order in which they were sent;
//! what the socket does not take waits here.

use std::io::{self, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

use crate::cert::NAME;
use crate::tickets::Tickets;

/// TLS settings that are the same for every target: TLS 1.3, AES-256-GCM, X25519. Older OpenSSL has no post-quantum
/// exchange, so nobody uses one here. `alpn` is the one protocol that is offered.
///
/// # Errors
/// When the certificate cannot be read.
pub fn tls_config(
    certificate: &std::path::Path,
    resume: bool,
    alpn: &[u8],
) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(std::fs::read(certificate)?))?;
    let mut crypto = provider::default_provider();
    crypto.cipher_suites = vec![provider::cipher_suite::TLS13_AES_256_GCM_SHA384];
    crypto.kx_groups = vec![provider::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = if resume {
        Resumption::store(Arc::new(Tickets::default()))
    } else {
        Resumption::disabled()
    };
    Ok(Arc::new(config))
}

/// What one read gave.
pub enum Read<'a> {
    /// Bytes as they were before TLS, and whether more may be there.
    Bytes(&'a [u8], bool),
    Nothing,
    Ended,
}

/// See the module.
pub struct Transport {
    pub socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    rest: Vec<u8>,
    ended: bool,
}

impl Transport {
    /// Begins to connect; the answer comes as an event.
    ///
    /// # Errors
    /// When no socket can be had or the address refuses at once.
    pub fn connect(to: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
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
            rest: Vec::new(),
            ended: false,
        })
    }

    /// Whether there is a connection by now.
    ///
    /// # Errors
    /// When there will be none.
    pub fn connected(&self) -> Result<bool> {
        if let Some(e) = self.socket.take_error()? {
            bail!("connect: {e}");
        }
        match self.socket.peer_addr() {
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(true),
        }
    }

    /// Whether the TLS handshake was a resumed one.
    pub fn resumed(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    /// The other side chose `alpn`; without TLS there is nothing to choose.
    ///
    /// # Errors
    /// When it did not.
    pub fn ensure_chosen(&self, alpn: &[u8]) -> Result<()> {
        let chosen = self.tls.as_ref().map(|tls| tls.alpn_protocol());
        ensure!(
            chosen.is_none_or(|chosen| chosen == Some(alpn)),
            "chose no {}",
            String::from_utf8_lossy(alpn)
        );
        Ok(())
    }

    /// The peer will send no more: reads go on to the end.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Reads once; `buffer` and `plain` are scratch.
    ///
    /// # Errors
    /// When the socket or TLS fails.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8], plain: &'a mut Vec<u8>) -> Result<Read<'a>> {
        let n = match self.socket.read(buffer) {
            Ok(0) => return Ok(Read::Ended),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Read::Nothing),
            Err(e) => return Err(e.into()),
        };
        let more = n == buffer.len() || self.ended;
        if self.tls.is_none() {
            return Ok(Read::Bytes(&buffer[..n], more));
        }
        self.decrypt(&buffer[..n], plain)?;
        Ok(Read::Bytes(plain, more))
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

    /// Sends what can be sent now and keeps the rest.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
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

    /// Sends what was kept.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn flush(&mut self) -> Result<()> {
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

/// Writes as many bytes as the socket takes.
///
/// # Errors
/// As write(2), but for a socket that takes no more.
pub fn write(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
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
