//! The client's first flight: read until rustls knows the ClientHello, or until
//! it is clear that there will be none.
//!
//! It answers what is not TLS, and computes nothing.
//!
//! Invariant: rustls is fed a record at its beginning, so that its buffer stays
//! at the size of one read. It keeps that buffer for the connection's life.

use std::io;
use std::time::Duration;

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::accept::{AcceptError, Opening};
use crate::proxy_protocol;

/// The type of the first record of a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;

/// As much as rustls takes at once, and more than any usual ClientHello has.
const READ: usize = 4096;

/// After the answer to plain HTTP, for the client to read it: closing with
/// unread bytes would send a reset that overtakes it.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes that are read and dropped meanwhile.
pub(super) const LINGER_BYTES: u64 = 64 * 1024;

const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 55\r\n\
    connection: close\r\n\
    \r\n\
    this port speaks https; the request came in plain http\n";

/// Reads the ClientHello.
///
/// # Errors
/// After the alert that the protocol asks for, or an HTTP answer if the client
/// spoke plain HTTP.
pub(super) async fn hello<S>(stream: &mut S, deadline: Instant) -> Result<Accepted, AcceptError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut acceptor = Acceptor::default();
    let mut buffer = vec![0; READ];
    let mut first = true;
    loop {
        let read = timeout_at(deadline, stream.read(&mut buffer)).await;
        let length = read.map_err(|_| AcceptError::Timeout)??;
        if length == 0 {
            return Err(AcceptError::Eof);
        }
        if std::mem::take(&mut first) {
            check_first(stream, &buffer[..length], deadline).await?;
        }
        let mut unread = &buffer[..length];
        while !unread.is_empty() {
            acceptor.read_tls(&mut unread)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                alert.write_all(&mut bytes)?;
                // The verdict stands, whether or not the client takes it.
                let _ = timeout_at(deadline, stream.write_all(&bytes)).await;
                return Err(AcceptError::from_rustls(&error));
            }
        }
    }
}

async fn check_first<S>(stream: &mut S, read: &[u8], deadline: Instant) -> Result<(), AcceptError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match read[0] {
        HANDSHAKE => Ok(()),
        _ if proxy_protocol::begins(read) => Err(AcceptError::NotTls(Opening::ProxyHeader)),
        // Methods are upper case by custom (RFC 9110 section 9.1). What else begins
        // so gets an answer it does not understand, which harms nobody.
        first if first.is_ascii_uppercase() => {
            // The verdict stands, whether or not the client takes the answer.
            let _ = timeout_at(deadline, answer_plain_http(stream)).await;
            Err(AcceptError::NotTls(Opening::PlainHttp))
        }
        _ => Err(AcceptError::NotTls(Opening::Garbage)),
    }
}

async fn answer_plain_http<S>(stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(PLAIN_HTTP_ANSWER).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(LINGER_BYTES);
    let mut sink = tokio::io::sink();
    let drained = tokio::io::copy(&mut rest, &mut sink);
    let _ = timeout_at(Instant::now() + LINGER, drained).await;
    Ok(())
}
