//! A bare TCP relay: the floor that any proxy in user space stands on.
//!
//! It deliberately knows no protocol, no timeouts, no limits and no logs: accept, connect, copy through one shared
//! buffer of 64 KiB, half-close. Edge-triggered epoll, one thread.
//! Invariant: bytes that could not be written are kept and nothing more is read for that direction until they are gone.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use anyhow::Result;

use crate::poll::{Poll, Ready};

const LISTENER: u64 = u64::MAX;

struct Side {
    socket: TcpStream,
    /// Bytes that wait to be written to this side.
    rest: Vec<u8>,
    ended: bool,
    read_done: bool,
}

/// Relays every connection of `listen` to `backend`, for ever.
///
/// # Errors
/// When the listener or epoll fails.
pub fn run(listen: SocketAddr, backend: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen)?;
    rustix::net::listen(&listener, 16_384)?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add_listener(&listener, LISTENER)?;
    let mut pairs: Vec<Option<[Side; 2]>> = Vec::new();
    let mut free = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let mut events = Vec::new();
    println!("ready");
    loop {
        poll.wait(None, &mut events)?;
        for ready in &events {
            if ready.token == LISTENER {
                accept(&listener, backend, &poll, &mut pairs, &mut free)?;
                continue;
            }
            let slot = (ready.token >> 1) as usize;
            let Some(pair) = pairs[slot].as_mut() else {
                continue;
            };
            if !serve(pair, *ready, &mut buffer) {
                pairs[slot] = None;
                free.push(slot);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    backend: SocketAddr,
    poll: &Poll,
    pairs: &mut Vec<Option<[Side; 2]>>,
    free: &mut Vec<usize>,
) -> Result<()> {
    loop {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        // Blocking: over loopback the kernel answers a connect before the call returns.
        let server = match TcpStream::connect(backend) {
            Ok(server) => server,
            Err(e) => {
                eprintln!("the backend: {e}");
                continue;
            }
        };
        let slot = free.pop().unwrap_or_else(|| {
            pairs.push(None);
            pairs.len() - 1
        });
        for (i, socket) in [&client, &server].into_iter().enumerate() {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            poll.add(socket, (slot as u64) << 1 | i as u64)?;
        }
        let side = |socket| Side {
            socket,
            rest: Vec::new(),
            ended: false,
            read_done: false,
        };
        pairs[slot] = Some([side(client), side(server)]);
    }
}

// False when the pair is over.
fn serve(pair: &mut [Side; 2], ready: Ready, buffer: &mut [u8]) -> bool {
    let [a, b] = pair;
    let (this, that) = if ready.token & 1 == 0 { (a, b) } else { (b, a) };
    this.ended |= ready.ended;
    let fine = (!ready.readable || pump(this, that, buffer).is_ok())
        && (!ready.writable || this.rest.is_empty() || pump(that, this, buffer).is_ok());
    fine && !(this.read_done && that.read_done && this.rest.is_empty() && that.rest.is_empty())
}

fn pump(from: &mut Side, to: &mut Side, buffer: &mut [u8]) -> io::Result<()> {
    if !to.rest.is_empty() {
        let written = write(&mut to.socket, &to.rest)?;
        to.rest.drain(..written);
        if !to.rest.is_empty() {
            return Ok(());
        }
        to.rest = Vec::new();
        if from.read_done {
            to.socket.shutdown(Shutdown::Write).ok();
        }
    }
    while !from.read_done {
        let n = match from.socket.read(buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        if n == 0 {
            from.read_done = true;
            to.socket.shutdown(Shutdown::Write).ok();
            return Ok(());
        }
        let written = write(&mut to.socket, &buffer[..n])?;
        if written < n {
            to.rest.extend_from_slice(&buffer[written..n]);
            return Ok(());
        }
        // A short read emptied the socket; the next byte raises a new edge. After FIN no new edge comes.
        if n < buffer.len() && !from.ended {
            return Ok(());
        }
    }
    Ok(())
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
