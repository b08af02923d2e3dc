//! One client connection of HTTP/2 with the tunnels of `streams` on it.
//!
//! What is sent waits for `flush`, as in any client that gathers what one turn of its loop has to say. Invariant: after
//! a flush nothing waits but what the socket or a window does not take.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use rustls::ClientConfig;

use crate::client::Outcome;
use crate::frame::Pattern;
use crate::streams::{Events, Streams};
use crate::transport::{Read, Transport};

/// See the module.
pub struct Session {
    pub transport: Transport,
    pub streams: Streams,
    connected: bool,
}

impl Session {
    /// Begins to connect; `block` is the header block of each request.
    ///
    /// # Errors
    /// When no socket can be had or the address refuses at once.
    pub fn connect(
        to: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        block: Arc<[u8]>,
    ) -> Result<Self> {
        Ok(Self {
            transport: Transport::connect(to, tls)?,
            streams: Streams::new(block),
            connected: false,
        })
    }

    /// Sends what has gathered.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn flush(&mut self) -> Result<()> {
        let out = &mut self.streams.outgoing.out;
        if self.connected && !out.is_empty() {
            self.transport.send(out)?;
            out.clear();
        }
        Ok(())
    }

    /// Handles an event of the socket; what comes of it is appended to `events`.
    ///
    /// # Errors
    /// When the socket or TLS fails, or the streams do.
    pub fn ready(
        &mut self,
        ended: bool,
        pattern: &Pattern,
        (buffer, plain): (&mut [u8], &mut Vec<u8>),
        events: &mut Events,
    ) -> Result<()> {
        if ended {
            self.transport.end();
        }
        if !self.connected {
            self.connected = self.transport.connected()?;
            if !self.connected {
                return Ok(());
            }
        }
        self.transport.flush()?;
        loop {
            match self.transport.read(buffer, plain)? {
                Read::Bytes([], false) | Read::Nothing => break,
                Read::Bytes([], true) => {}
                Read::Bytes(bytes, more) => {
                    self.transport.ensure_chosen(b"h2")?;
                    self.streams.take(bytes, pattern, events)?;
                    if !more {
                        break;
                    }
                }
                Read::Ended => {
                    events.push((0, Outcome::Ended));
                    return Ok(());
                }
            }
        }
        self.flush()
    }
}
