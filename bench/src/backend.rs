//! The backend of every target: a WebSocket echo, a plain response, a room that sends to everybody in it.
//!
//! It deliberately does no more than the benchmark asks: no fragments, no extensions, whole requests without bodies.
//! Invariant: what a connection has not taken yet is kept for it, and an echo connection is not read meanwhile.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};

use crate::frame::{Header, HeaderReader, Pattern, accept_of, push_header, push_unmasked};
use crate::poll::Poll;

/// Bytes in the body of the plain response.
pub const BODY: usize = 125;
const LISTENER: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Http,
    Echo,
    Room,
}

struct Conn {
    socket: TcpStream,
    role: Role,
    head: Vec<u8>,
    rest: Vec<u8>,
    reader: HeaderReader,
    frame: Option<(Header, u64)>,
    /// Whole frames of a room member come together here before they are sent to all.
    room: Vec<u8>,
    ended: bool,
    closing: bool,
}

struct Server {
    poll: Poll,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    members: Vec<usize>,
    response: Vec<u8>,
    out: Vec<u8>,
}

/// Serves for ever.
///
/// # Errors
/// When the listener or epoll fails.
pub fn run(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).context("bind the backend")?;
    rustix::net::listen(&listener, 16_384)?;
    listener.set_nonblocking(true)?;
    let poll = Poll::new()?;
    poll.add_listener(&listener, LISTENER)?;
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {BODY}\r\n\r\n").into_bytes();
    response.extend_from_slice(Pattern::new(BODY).payload(0, 0));
    let mut server = Server {
        poll,
        conns: Vec::new(),
        free: Vec::new(),
        members: Vec::new(),
        response,
        out: Vec::new(),
    };
    let mut buffer = vec![0; 256 << 10];
    let mut events = Vec::new();
    println!("ready");
    loop {
        server.poll.wait(None, &mut events)?;
        for ready in &events {
            if ready.token == LISTENER {
                server.accept(&listener)?;
                continue;
            }
            let slot = ready.token as usize;
            let Some(mut conn) = server.conns[slot].take() else {
                continue;
            };
            conn.ended |= ready.ended;
            if server.serve(slot, &mut conn, &mut buffer).unwrap_or(false) {
                server.conns[slot] = Some(conn);
            } else {
                server.free.push(slot);
                server.members.retain(|m| *m != slot);
            }
        }
    }
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        loop {
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            self.poll.add(&socket, slot as u64)?;
            self.conns[slot] = Some(Conn {
                socket,
                role: Role::Http,
                head: Vec::new(),
                rest: Vec::new(),
                reader: HeaderReader::default(),
                frame: None,
                room: Vec::new(),
                ended: false,
                closing: false,
            });
        }
    }

    // False when the connection is over.
    fn serve(&mut self, slot: usize, conn: &mut Conn, buffer: &mut [u8]) -> io::Result<bool> {
        if !flush(conn)? {
            return Ok(true);
        }
        loop {
            let n = match conn.socket.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            };
            self.out.clear();
            self.take(slot, conn, &buffer[..n]);
            let out = std::mem::take(&mut self.out);
            let written = send(conn, &out);
            self.out = out;
            written?;
            if conn.closing && conn.rest.is_empty() {
                conn.socket.shutdown(Shutdown::Write).ok();
            }
            if !conn.rest.is_empty() || (n < buffer.len() && !conn.ended) {
                return Ok(true);
            }
        }
    }

    fn take(&mut self, slot: usize, conn: &mut Conn, bytes: &[u8]) {
        if conn.role != Role::Http {
            self.frames(conn, bytes);
            return;
        }
        conn.head.extend_from_slice(bytes);
        while let Some(end) = conn.head.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&conn.head[..end]).into_owned();
            conn.head.drain(..end + 4);
            let key = head.split("\r\n").find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("sec-websocket-key")
                    .then(|| value.trim())
            });
            let Some(key) = key else {
                self.out.extend_from_slice(&self.response);
                continue;
            };
            let accept = accept_of(key);
            // Whatever protocol is asked for: the benchmark also sends frames under a name that no proxy knows.
            let protocol = head.split("\r\n").find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("upgrade").then(|| value.trim())
            });
            let protocol = protocol.unwrap_or("websocket");
            self.out.extend_from_slice(
                format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes(),
            );
            conn.role = if head.contains("/room") {
                Role::Room
            } else {
                Role::Echo
            };
            if conn.role == Role::Room {
                self.members.push(slot);
            }
            let early = std::mem::take(&mut conn.head);
            self.frames(conn, &early);
            return;
        }
    }

    fn frames(&mut self, conn: &mut Conn, mut bytes: &[u8]) {
        let mut out = std::mem::take(&mut self.out);
        let before = out.len();
        while !bytes.is_empty() {
            let (header, at) = match conn.frame {
                Some(frame) => frame,
                None => match conn.reader.read(&mut bytes) {
                    Some(header) => {
                        push_header(header.first, header.len, None, &mut out);
                        conn.closing |= header.first & 0x0f == 8;
                        (header, 0)
                    }
                    None => break,
                },
            };
            let take = usize::try_from(header.len - at)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            push_unmasked(
                &bytes[..take],
                header.mask.unwrap_or_default(),
                at,
                &mut out,
            );
            bytes = &bytes[take..];
            let at = at + take as u64;
            conn.frame = (at < header.len).then_some((header, at));
        }
        if conn.role == Role::Room {
            conn.room.extend_from_slice(&out[before..]);
            out.truncate(before);
            if conn.frame.is_none() && conn.reader.is_empty() && !conn.room.is_empty() {
                let frames = std::mem::take(&mut conn.room);
                for member in &self.members {
                    if let Some(other) = self.conns[*member].as_mut() {
                        // A member that is gone is found when its own event comes.
                        send(other, &frames).ok();
                    }
                }
                out.extend_from_slice(&frames);
            }
        }
        self.out = out;
    }
}

// True when nothing waits any more.
fn flush(conn: &mut Conn) -> io::Result<bool> {
    if conn.rest.is_empty() {
        return Ok(true);
    }
    let rest = std::mem::take(&mut conn.rest);
    send(conn, &rest)?;
    Ok(conn.rest.is_empty())
}

fn send(conn: &mut Conn, bytes: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() && conn.rest.is_empty() {
        match conn.socket.write(&bytes[done..]) {
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    conn.rest.extend_from_slice(&bytes[done..]);
    Ok(())
}
