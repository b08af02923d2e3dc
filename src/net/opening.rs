//! The first bytes of a connection, which say whether it is HTTP/2 (RFC 9113
//! sections 3.3 and 3.4) or HTTP/1.1.
//!
//! It reads no more than it needs to tell, and gives back all that it has read.

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::http2::PREFACE;
use super::{ClientFault, ReadDeadlines, Transport};

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
    let mut read = BytesMut::with_capacity(PREFACE.len());
    let mut deadline = Instant::now() + deadlines.first_byte;
    loop {
        let mut space = (&mut *transport).take((PREFACE.len() - read.len()) as u64);
        let first = read.is_empty();
        let Ok(more) = timeout_at(deadline, space.read_buf(&mut read)).await else {
            return Err(match first {
                true => ClientFault::FirstByte,
                false => ClientFault::RequestHead,
            });
        };
        if !matches!(more, Ok(1..)) || !PREFACE.starts_with(&read) {
            return Ok(Opening::Http1(read.freeze()));
        }
        if read.len() == PREFACE.len() {
            return Ok(Opening::Http2(read.freeze()));
        }
        if first {
            deadline = Instant::now() + deadlines.request_head;
        }
    }
}
