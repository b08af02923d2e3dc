//! A transport that looks like HTTP/1.1 to a test and is HTTP/2 to longhaul:
//! each request head becomes a stream, an upgrade to WebSocket an extended
//! CONNECT, and what comes back is written as HTTP/1.1 again.
//!
//! One request at a time, as on a connection of HTTP/1.1. It judges nothing: an
//! answer that no HTTP/1.1 server would give comes out as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{H2, Stream};
use crate::kit::message::{Headers, Length, Request, fields};
use crate::kit::wire::{Transport, Wire};

pub struct Gateway {
    connection: H2,
    /// Of the connection's socket; a Unix socket has none.
    local_address: Option<String>,
    stream: Option<Stream>,
    sending: Sending,
    receiving: Receiving,
    /// What the test has written and was not sent.
    written: Vec<u8>,
    /// What the test is to read.
    text: Vec<u8>,
    /// Of the handshake under way.
    key: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Sending {
    Head,
    Body(usize),
    Chunk,
    Tunnel,
}

#[derive(Debug, PartialEq, Eq)]
enum Receiving {
    Nothing,
    Head,
    Body,
    Chunks,
    Tunnel,
}

impl Gateway {
    /// Begins HTTP/2 on this connection.
    pub async fn over(wire: Wire) -> Wire {
        let is_unix = matches!(wire.transport(), Transport::Unix(_));
        let local_address = (!is_unix).then(|| wire.local_address());
        let (transport, _) = wire.into_parts();
        let gateway = Self {
            connection: H2::over(transport).await,
            local_address,
            stream: None,
            sending: Sending::Head,
            receiving: Receiving::Nothing,
            written: Vec::new(),
            text: Vec::new(),
            key: None,
        };
        Wire::new(Transport::H2(Box::new(gateway)))
    }

    pub fn local_address(&self) -> Option<&str> {
        self.local_address.as_deref()
    }

    /// Resets the stream.
    pub fn abort(&self) {
        if let Some(stream) = &self.stream {
            stream.reset(super::Code::CANCEL);
        }
    }

    /// Sends what can be sent of what was written.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.written.is_empty() {
            match self.sending {
                Sending::Head => {
                    let Some(end) = position(&self.written, b"\r\n\r\n") else {
                        return Poll::Ready(Ok(()));
                    };
                    let head: Vec<u8> = self.written.drain(..end + 4).collect();
                    self.begin(&Request::parse(&head));
                }
                Sending::Body(left) => {
                    let count = left.min(self.written.len());
                    let sent = ready!(self.poll_write_some(cx, count))?;
                    self.sending = Sending::Body(left - sent);
                    if left == sent {
                        self.end(cx);
                    }
                }
                Sending::Chunk => {
                    let Some(end) = position(&self.written, b"\r\n") else {
                        return Poll::Ready(Ok(()));
                    };
                    let size = std::str::from_utf8(&self.written[..end]).expect("a size");
                    let size = usize::from_str_radix(size, 16).expect("a chunk size");
                    if size == 0 {
                        let Some(last) = position(&self.written, b"\r\n\r\n") else {
                            return Poll::Ready(Ok(()));
                        };
                        let trailers: Vec<u8> = self.written.drain(..last + 4).collect();
                        self.end_with(cx, &trailers[end + 2..]);
                        continue;
                    }
                    let whole = end + 2 + size + 2;
                    if self.written.len() < whole {
                        return Poll::Ready(Ok(()));
                    }
                    let data = self.written[end + 2..][..size].to_vec();
                    let stream = self.stream.as_mut().expect("a stream");
                    let sent = ready!(Pin::new(stream).poll_write(cx, &data))?;
                    self.written.drain(..whole);
                    if sent < size {
                        let rest = format!("{:x}\r\n", size - sent).into_bytes();
                        let rest = [&rest[..], &data[sent..], b"\r\n"].concat();
                        self.written.splice(..0, rest);
                    }
                }
                Sending::Tunnel => {
                    ready!(self.poll_write_some(cx, self.written.len()))?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>, count: usize) -> Poll<io::Result<usize>> {
        let stream = self.stream.as_mut().expect("a stream");
        let sent = ready!(Pin::new(stream).poll_write(cx, &self.written[..count]))?;
        self.written.drain(..sent);
        Poll::Ready(Ok(sent))
    }

    /// `lines`: trailers, each with CRLF, and an empty line.
    fn end_with(&mut self, cx: &mut Context<'_>, lines: &[u8]) {
        let text = std::str::from_utf8(lines).expect("UTF-8");
        let trailers = fields(text.trim_end_matches("\r\n"));
        if trailers.is_empty() {
            return self.end(cx);
        }
        let stream = self.stream.as_mut().expect("a stream");
        stream.finish_with(&trailers);
        self.sending = Sending::Head;
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        let stream = self.stream.as_mut().expect("a stream");
        let _ = Pin::new(stream).poll_shutdown(cx);
        self.sending = Sending::Head;
    }

    /// Turns a request head into a stream.
    fn begin(&mut self, request: &Request) {
        let upgrade = request.header("upgrade").map(str::to_owned);
        self.key = request.header("sec-websocket-key").map(str::to_owned);
        let host = request.header("host").expect("a Host");
        let mut headers = vec![
            (":method".to_owned(), request.method.clone()),
            (":scheme".to_owned(), "http".to_owned()),
            (":path".to_owned(), request.target.clone()),
            (":authority".to_owned(), host.to_owned()),
        ];
        if let Some(protocol) = &upgrade {
            headers[0].1 = "CONNECT".into();
            headers.push((":protocol".into(), protocol.clone()));
        }
        for (name, value) in &request.headers {
            let name = name.to_ascii_lowercase();
            let kept = !matches!(
                &name[..],
                "host" | "connection" | "upgrade" | "sec-websocket-key" | "transfer-encoding"
            );
            if kept {
                headers.push((name, value.clone()));
            }
        }
        self.sending = match (upgrade, request.length()) {
            (Some(_), _) => Sending::Tunnel,
            (None, Length::Bytes(left @ 1..)) => Sending::Body(left),
            (None, Length::Chunked) => Sending::Chunk,
            (None, _) => Sending::Head,
        };
        let last = self.sending == Sending::Head;
        let fields: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        self.stream = Some(self.connection.request(&fields, last));
        self.receiving = Receiving::Head;
    }

    /// Writes a response head as HTTP/1.1 would have it.
    fn answered(&mut self, head: &Headers) {
        let mut status: u16 = head[0].1.parse().expect("a status");
        let mut lines = String::new();
        let tunnel = self.sending == Sending::Tunnel;
        if tunnel && status == 200 {
            status = 101;
            lines.push_str("Upgrade: websocket\r\nConnection: Upgrade\r\n");
            let key = self.key.as_deref().unwrap_or_default();
            let accept = derive_accept_key(key.as_bytes());
            lines.push_str(&format!("Sec-WebSocket-Accept: {accept}\r\n"));
        } else if tunnel && status >= 200 {
            self.sending = Sending::Head;
        }
        let has_length = head.iter().any(|(name, _)| name == "content-length");
        let bare = self.stream.as_ref().is_some_and(Stream::is_bare);
        self.receiving = match status {
            101 => Receiving::Tunnel,
            100..200 => Receiving::Head,
            _ if has_length || matches!(status, 204 | 304) => Receiving::Body,
            _ if bare => {
                lines.push_str("content-length: 0\r\n");
                Receiving::Body
            }
            _ => {
                lines.push_str("transfer-encoding: chunked\r\n");
                Receiving::Chunks
            }
        };
        for (name, value) in &head[1..] {
            lines.push_str(&format!("{name}: {value}\r\n"));
        }
        self.text
            .extend(format!("HTTP/1.1 {status} Status\r\n{lines}\r\n").into_bytes());
    }

    /// Adds to the text what has come, or is ready without at the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = self
            .stream
            .as_mut()
            .filter(|_| self.receiving != Receiving::Nothing)
        else {
            return self.connection.poll_closed(cx).map(Ok);
        };
        if self.receiving == Receiving::Head {
            let head = ready!(stream.poll_head(cx))?;
            self.answered(&head);
            return Poll::Ready(Ok(()));
        }
        let mut space = [0; 16 * 1024];
        let mut space = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut space))?;
        let bytes = space.filled();
        match (&self.receiving, bytes.is_empty()) {
            (Receiving::Tunnel, true) => {}
            (Receiving::Chunks, false) => {
                self.text
                    .extend(format!("{:x}\r\n", bytes.len()).into_bytes());
                self.text.extend(bytes);
                self.text.extend(b"\r\n");
            }
            (Receiving::Chunks, true) => {
                let mut lines = "0\r\n".to_owned();
                for (name, value) in stream.trailers() {
                    lines.push_str(&format!("{name}: {value}\r\n"));
                }
                self.text.extend(format!("{lines}\r\n").into_bytes());
                self.receiving = Receiving::Nothing;
            }
            (_, true) => {
                self.receiving = Receiving::Nothing;
                return self.poll_receive(cx);
            }
            (_, false) => self.text.extend(bytes),
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Its stream first, so that a reset goes before the end.
        self.stream = None;
        self.connection.close();
    }
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

impl AsyncRead for Gateway {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What waits for credit is sent while the test reads.
        let _ = this.poll_send(cx)?;
        if this.text.is_empty() {
            ready!(this.poll_receive(cx))?;
        }
        let count = this.text.len().min(buf.remaining());
        let bytes: Vec<u8> = this.text.drain(..count).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gateway {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if ready!(this.poll_send(cx)).is_err() || this.sending == Sending::Tunnel {
            let stream = this.stream.as_mut().expect("a stream");
            return Pin::new(stream).poll_write(cx, buf);
        }
        this.written.extend(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        match &mut this.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
