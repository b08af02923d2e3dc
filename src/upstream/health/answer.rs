//! What a probe says and hears behind the head of an answer: the body's text,
//! a Ping and its Pong, and a polite end.
//!
//! It reads frames one after the other and looks at nothing but their heads
//! and the Pong that was asked for.
//!
//! Invariant: at most [`MOST`] bytes are read.

use std::io;
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::ProbeError;
use crate::ws::close::close_frame;
use crate::ws::ping::ping_frame;

/// What a backend may say before what is waited for.
const MOST: usize = 64 * 1024;
/// For the backend's end of a tunnel that a probe has opened.
const PARTING: Duration = Duration::from_millis(250);
const OPCODE: u8 = 0x0f;
const PONG: u8 = 0x0a;
const NORMAL: u16 = 1000;

/// What is left when the verdict stands.
pub(super) enum Heard {
    Enough,
    Tunnel(Upgraded),
}

/// # Errors
/// If the first part of the body does not contain the text.
pub(super) async fn expect_in_body(
    response: Response<Incoming>,
    text: &str,
) -> Result<(), ProbeError> {
    let mut body = response.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            read.extend_from_slice(&data[..data.len().min(MOST - read.len())]);
        }
        if contains(&read, text.as_bytes()) {
            return Ok(());
        }
        if read.len() == MOST {
            break;
        }
    }
    Err(ProbeError::Body)
}

fn contains(read: &[u8], text: &[u8]) -> bool {
    read.windows(text.len()).any(|window| window == text)
}

/// Sends a Ping and waits for its Pong (RFC 6455 section 5.5.3).
///
/// # Errors
/// If something else than frames comes, too much of them, or the end.
pub(super) async fn ping(tunnel: &mut Upgraded) -> io::Result<()> {
    let payload: [u8; 8] = rand::random();
    let mut io = TokioIo::new(tunnel);
    io.write_all(&ping_frame(payload, Some(rand::random())))
        .await?;
    io.flush().await?;
    hear_pong(&mut io, payload).await
}

async fn hear_pong(io: &mut (impl AsyncRead + Unpin), payload: [u8; 8]) -> io::Result<()> {
    let mut left = MOST;
    loop {
        let mut head = [0; 2];
        io.read_exact(&mut head).await?;
        // A server masks nothing (RFC 6455 section 5.1).
        let length = match head[1] {
            0..=125 => usize::from(head[1]),
            126 => usize::from(io.read_u16().await?),
            127 => usize::try_from(io.read_u64().await?).unwrap_or(usize::MAX),
            _ => return Err(io::Error::other("a masked frame came")),
        };
        left = left
            .checked_sub(length.saturating_add(head.len()))
            .ok_or_else(|| io::Error::other("too much came before the pong"))?;
        let mut data = vec![0; length];
        io.read_exact(&mut data).await?;
        if head[0] & OPCODE == PONG && data == payload {
            return Ok(());
        }
    }
}

/// Ends what a probe has opened: a Close frame, the end of the stream, and the
/// backend's own end if it comes soon.
pub(super) async fn part(heard: Heard) {
    if let Heard::Tunnel(tunnel) = heard {
        // Nothing depends on how it goes.
        let _ = timeout(PARTING, say_goodbye(TokioIo::new(tunnel))).await;
    }
}

async fn say_goodbye(mut io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let frame = close_frame(Some(NORMAL), "", Some(rand::random()));
    io.write_all(&frame).await?;
    io.flush().await?;
    let mut scratch = [0; 1024];
    let mut left = MOST;
    while left > 0 {
        match io.read(&mut scratch).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_pong_is_found_behind_other_frames() {
        let payload = *b"12345678";
        let mut bytes = b"\x81\x05hello\x82\x7e\x00\x80".to_vec();
        bytes.extend([0; 128]);
        bytes.extend(b"\x8a\x0812345679\x8a\x0812345678");
        hear_pong(&mut bytes.as_slice(), payload).await.unwrap();
        let cut = &bytes[..bytes.len() - 1];
        hear_pong(&mut { cut }, payload).await.unwrap_err();
    }

    #[tokio::test]
    async fn no_length_makes_it_read_more_than_its_bound() {
        for head in [
            &b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\x82\x85",
        ] {
            let error = hear_pong(&mut { head }, [0; 8]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Other);
        }
        let endless = [0x82, 0].repeat(MOST);
        let error = hear_pong(&mut endless.as_slice(), [0; 8])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other);
    }

    #[test]
    fn a_text_is_found_anywhere() {
        assert!(contains(b"all is ok", b"ok"));
        assert!(!contains(b"o", b"ok"));
    }
}
