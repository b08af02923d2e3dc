//! The first bytes of a connection, which say whether it is HTTP/2 (RFC 9113
//! sections 3.3 and 3.4) or HTTP/1.1.
//!
//! It gives back all that it has read: often a whole request head, so that whoever
//! reads on has it without another system call.

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::http2::PREFACE;
use super::{ClientFault, ReadDeadlines, Transport};

/// Most bytes that are read; what a silent connection holds meanwhile.
const MOST: usize = 1024;

/// What the first bytes say, and the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    Http1(Bytes),
    Http2(Bytes),
}

impl Opening {
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Http1(bytes) | Self::Http2(bytes) => bytes,
        }
    }
}

/// Reads until it is clear what the client speaks. A client that leaves speaks
/// HTTP/1.1, whose server will see that it has left.
///
/// # Errors
/// If a deadline passes.
pub async fn read_opening(
    transport: &mut Transport,
    deadlines: &ReadDeadlines,
) -> Result<Opening, ClientFault> {
    let mut read = BytesMut::with_capacity(MOST);
    let mut deadline = Instant::now() + deadlines.first_byte;
    loop {
        let first = read.is_empty();
        let Ok(more) = timeout_at(deadline, transport.read_buf(&mut read)).await else {
            return Err(match first {
                true => ClientFault::FirstByte,
                false => ClientFault::RequestHead,
            });
        };
        let told = read.len().min(PREFACE.len());
        if !matches!(more, Ok(1..)) || read[..told] != PREFACE[..told] {
            return Ok(Opening::Http1(read.freeze()));
        }
        if told == PREFACE.len() {
            return Ok(Opening::Http2(read.freeze()));
        }
        if first {
            deadline = Instant::now() + deadlines.request_head;
        }
    }
}
