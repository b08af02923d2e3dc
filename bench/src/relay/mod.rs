//! A bare TCP relay: the floor that any proxy in user space stands on.
//!
//! It deliberately knows no protocol, no timeouts, no limits and no logs: accept, connect, copy through one shared
//! buffer of 64 KiB or splice through a pipe for each direction, half-close. Edge-triggered epoll, one thread.
//! Invariant: bytes that could not be written are kept and nothing more is read for that direction until they are gone.

mod pipe;

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use anyhow::Result;

use self::pipe::Pipe;
use crate::poll::{Poll, Ready};
use crate::transport::write;

const LISTENER: u64 = u64::MAX;

struct Side {
    socket: TcpStream,
    rest: Rest,
    ended: bool,
    read_done: bool,
}

/// Bytes that wait to be written to a side.
enum Rest {
    Copied(Vec<u8>),
    Spliced(Pipe),
}

impl Rest {
    fn new(splices: bool) -> io::Result<Self> {
        Ok(match splices {
            true => Self::Spliced(Pipe::new()?),
            false => Self::Copied(Vec::new()),
        })
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Copied(bytes) => bytes.is_empty(),
            Self::Spliced(pipe) => pipe.is_empty(),
        }
    }

    fn write_to(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Copied(bytes) => {
                let written = write(socket, bytes)?;
                bytes.drain(..written);
                if bytes.is_empty() {
                    *bytes = Vec::new();
                }
                Ok(())
            }
            Self::Spliced(pipe) => pipe.drain(socket),
        }
    }
}

/// Relays every connection of `listen` to `backend`, for ever.
///
/// # Errors
/// When the listener or epoll fails.
pub fn run(listen: SocketAddr, backend: SocketAddr, splices: bool) -> Result<()> {
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
                accept(&listener, (backend, splices), &poll, &mut pairs, &mut free)?;
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
    (backend, splices): (SocketAddr, bool),
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
        let side = |socket| {
            Ok::<_, io::Error>(Side {
                socket,
                rest: Rest::new(splices)?,
                ended: false,
                read_done: false,
            })
        };
        pairs[slot] = Some([side(client)?, side(server)?]);
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
        to.rest.write_to(&mut to.socket)?;
        if !to.rest.is_empty() {
            return Ok(());
        }
        if from.read_done {
            to.socket.shutdown(Shutdown::Write).ok();
        }
    }
    while !from.read_done {
        let (moved, may_be_more) = match carry(from, to, buffer) {
            Ok(carried) => carried,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        if moved == 0 {
            from.read_done = true;
            to.socket.shutdown(Shutdown::Write).ok();
        }
        if !to.rest.is_empty() || !may_be_more {
            return Ok(());
        }
    }
    Ok(())
}

// Moves some bytes; says how many, and whether more may be there: after a short read the next byte raises a new edge.
// After FIN no new edge comes, and a short splice says nothing.
fn carry(from: &mut Side, to: &mut Side, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    match &mut to.rest {
        Rest::Copied(rest) => {
            let n = from.socket.read(buffer)?;
            let written = write(&mut to.socket, &buffer[..n])?;
            rest.extend_from_slice(&buffer[written..n]);
            Ok((n, n == buffer.len() || from.ended))
        }
        Rest::Spliced(pipe) => {
            let n = pipe.fill(&from.socket)?;
            pipe.drain(&to.socket)?;
            Ok((n, true))
        }
    }
}
