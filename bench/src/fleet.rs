//! All tunnels (or plain connections) of one load, by number, whatever carries them: a connection of HTTP/1.1 for each,
//! or connections of HTTP/2 with many on each.
//!
//! It deliberately decides nothing about when to send. Invariant: every answer is checked, and silence is an error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::backend::BODY;
use crate::cert::NAME;
use crate::client::{Client, Kind, Outcome, request};
use crate::frame::Pattern;
use crate::hpack;
use crate::load::Setup;
use crate::poll::{Poll, Ready};
use crate::session::Session;
use crate::streams;

/// Tunnels that are being opened at the same time.
const OPENING: usize = 64;
/// A load without any event for so long has lost something.
const STALLED: Duration = Duration::from_secs(10);

/// What happened to one tunnel.
pub type Event = (usize, Result<Outcome>);

/// See the module.
pub struct Fleet<'a> {
    setup: &'a Setup,
    kind: Kind,
    poll: Poll,
    /// Of HTTP/1.1; with HTTP/2 there are none.
    pub clients: Vec<Option<Client>>,
    pub free: Vec<usize>,
    /// Of HTTP/2: tunnel i is stream i mod n of connection i / n.
    sessions: Vec<Session>,
    streams: usize,
    /// Connections of HTTP/2 on which something was sent since the last flush.
    unflushed: Vec<usize>,
    pattern: Pattern,
    request: Arc<[u8]>,
    buffer: Vec<u8>,
    plain: Vec<u8>,
    scratch: Vec<u8>,
    ready: Vec<Ready>,
    came: streams::Events,
    last_event: Instant,
    /// All connections send the same messages (a room).
    pub one_stream: bool,
}

impl<'a> Fleet<'a> {
    /// A fleet without a tunnel.
    ///
    /// # Errors
    /// When there is no epoll.
    pub fn new(setup: &'a Setup, kind: Kind) -> Result<Self> {
        let size = if kind == Kind::Requests {
            BODY
        } else {
            setup.size
        };
        let request = match setup.http2 {
            None => request(kind, &setup.path, &setup.protocol),
            Some(_) => {
                let secure = setup.tls.is_some();
                hpack::connect_block(secure, NAME, &setup.path, &setup.protocol).into()
            }
        };
        Ok(Self {
            setup,
            kind,
            poll: Poll::new()?,
            clients: Vec::new(),
            free: Vec::new(),
            sessions: Vec::new(),
            streams: 0,
            unflushed: Vec::new(),
            pattern: Pattern::new(size),
            request,
            buffer: vec![0; 256 << 10],
            plain: Vec::new(),
            scratch: Vec::new(),
            ready: Vec::new(),
            came: Vec::new(),
            last_event: Instant::now(),
            one_stream: false,
        })
    }

    // How many numbers were given.
    fn len(&self) -> usize {
        self.clients.len().max(self.streams)
    }

    /// Begins to open one more; its number.
    ///
    /// # Errors
    /// When no socket can be had or the address refuses at once.
    pub fn open(&mut self) -> Result<usize> {
        if let Some(each) = self.setup.http2 {
            return self.open_stream(each.get());
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        let client = Client::connect(
            self.setup.target,
            self.setup.tls.as_ref(),
            self.kind,
            Arc::clone(&self.request),
            self.pattern_of(slot),
        )?;
        self.poll.add(client.socket(), slot as u64)?;
        self.clients[slot] = Some(client);
        Ok(slot)
    }

    fn open_stream(&mut self, each: usize) -> Result<usize> {
        let slot = self.streams;
        let at = slot / each;
        if at == self.sessions.len() {
            let tls = self.setup.tls.as_ref();
            let session = Session::connect(self.setup.target, tls, Arc::clone(&self.request))?;
            self.poll.add(&session.transport.socket, at as u64)?;
            self.sessions.push(session);
        }
        self.streams += 1;
        let pattern = self.pattern_of(slot);
        self.sessions[at].streams.open(pattern);
        self.unflushed.push(at);
        Ok(slot)
    }

    fn pattern_of(&self, slot: usize) -> u32 {
        if self.one_stream { 0 } else { slot as u32 }
    }

    /// Drops a connection of HTTP/1.1.
    pub fn close(&mut self, slot: usize) {
        self.clients[slot] = None;
        self.free.push(slot);
    }

    /// Sends the next message or request; over HTTP/2 with all others of this turn, when the fleet waits.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn send(&mut self, slot: usize) -> Result<()> {
        if let Some(each) = self.setup.http2 {
            let at = slot / each.get();
            let streams = &mut self.sessions[at].streams;
            streams.send_message(slot % each.get(), &self.pattern, &mut self.scratch);
            if self.unflushed.last() != Some(&at) {
                self.unflushed.push(at);
            }
            return Ok(());
        }
        let Some(client) = self.clients[slot].as_mut() else {
            return Ok(());
        };
        match self.kind {
            Kind::WebSocket => client.send_message(&self.pattern, &mut self.scratch),
            Kind::Requests => client.send_request(),
        }
    }

    /// Waits for what happens, at most `timeout`.
    ///
    /// # Errors
    /// When nothing has happened for long, or a connection of HTTP/2 fails to send.
    pub fn wait(&mut self, timeout: Duration, events: &mut Vec<Event>) -> Result<()> {
        events.clear();
        for at in self.unflushed.drain(..) {
            self.sessions[at].flush()?;
        }
        self.poll.wait(Some(timeout), &mut self.ready)?;
        let ready = std::mem::take(&mut self.ready);
        for each in &ready {
            match self.setup.http2 {
                None => self.client_ready(each, events),
                Some(streams) => self.session_ready(each, streams.get(), events),
            }
        }
        if ready.is_empty() {
            ensure!(
                self.last_event.elapsed() < STALLED,
                "no answer for {STALLED:?}"
            );
        } else {
            self.last_event = Instant::now();
        }
        self.ready = ready;
        Ok(())
    }

    fn client_ready(&mut self, ready: &Ready, events: &mut Vec<Event>) {
        let slot = ready.token as usize;
        let Some(client) = self.clients[slot].as_mut() else {
            return;
        };
        match client.ready(
            ready.ended,
            &self.pattern,
            &mut self.buffer,
            &mut self.plain,
        ) {
            Ok(Outcome::Nothing) => {}
            other => events.push((slot, other)),
        }
    }

    fn session_ready(&mut self, ready: &Ready, each: usize, events: &mut Vec<Event>) {
        let at = ready.token as usize;
        let scratch = (&mut self.buffer[..], &mut self.plain);
        let done = self.sessions[at].ready(ready.ended, &self.pattern, scratch, &mut self.came);
        let first = at * each;
        events.extend(
            self.came
                .drain(..)
                .map(|(i, outcome)| (first + i, Ok(outcome))),
        );
        if let Err(error) = done {
            events.push((first, Err(error)));
        }
    }

    /// Opens until `to` are up; `echo_once`: each is up when it has had an answer.
    ///
    /// # Errors
    /// When one fails.
    pub fn fill(&mut self, to: usize, echo_once: bool) -> Result<()> {
        let (mut started, mut up) = (self.len(), self.len());
        let mut events = Vec::new();
        while up < to {
            while started < to && started - up < OPENING {
                self.open()?;
                started += 1;
            }
            self.wait(Duration::from_millis(100), &mut events)?;
            for (slot, outcome) in events.drain(..) {
                match outcome? {
                    Outcome::Opened if echo_once => self.send(slot)?,
                    Outcome::Opened | Outcome::Answers(_) => up += 1,
                    Outcome::Ended => bail!("a connection was ended while {up} of {to} were up"),
                    Outcome::Nothing => {}
                }
            }
        }
        Ok(())
    }
}
