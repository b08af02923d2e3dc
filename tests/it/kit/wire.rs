//! One end of a byte stream (TCP, TLS or Unix) that a test reads and writes by hand.
//!
//! It does nothing by itself: no retries, no hidden requests, no read that
//! leaves bytes unseen. Every read has the kit's deadline.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::h2::Gateway;
use super::message::{Head, Headers, Length, Request, Response, fields};
use super::soon;
use super::ws::switching_for;

pub enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// HTTP/2 that looks like HTTP/1.1.
    H2(Box<Gateway>),
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN (and on TLS a close_notify before it).
    Eof,
    /// RST, or on TLS a FIN without close_notify.
    Reset,
}

pub struct Wire {
    transport: Transport,
    /// Read from the transport and not yet asked for.
    ahead: Vec<u8>,
    /// Of the last handshake that came.
    key: Option<String>,
}

impl Wire {
    pub fn new(transport: Transport) -> Self {
        if let Transport::Tcp(tcp) = &transport {
            tcp.set_nodelay(true).expect("TCP_NODELAY");
        }
        Self {
            transport,
            ahead: Vec::new(),
            key: None,
        }
    }

    /// The stream and what was read ahead of it.
    pub fn into_parts(self) -> (Transport, Vec<u8>) {
        (self.transport, self.ahead)
    }

    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    fn tcp(&self) -> &TcpStream {
        match &self.transport {
            Transport::Tcp(tcp) => tcp,
            Transport::Tls(tls) => tls.get_ref().0,
            Transport::Unix(_) => panic!("a Unix socket is not TCP"),
            Transport::H2(_) => panic!("a stream of HTTP/2 is not TCP"),
        }
    }

    pub fn tls(&self) -> &TlsStream<TcpStream> {
        match &self.transport {
            Transport::Tls(tls) => tls,
            _ => panic!("not TLS"),
        }
    }

    /// Our end of it, as longhaul logs its `client`.
    pub fn local_address(&self) -> String {
        if let Transport::H2(gateway) = &self.transport {
            return gateway.local_address().expect("an address").to_owned();
        }
        self.tcp().local_addr().expect("an address").to_string()
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("to send");
    }

    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        soon("to send", async {
            self.transport.write_all(bytes.as_ref()).await?;
            self.transport.flush().await
        })
        .await
    }

    /// One segment for each byte.
    pub async fn send_slowly(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// Sends until the other side has taken no byte for `quiet`; says how much it took.
    pub async fn send_until_stalled(&mut self, quiet: Duration) -> usize {
        let block = vec![0x55; 64 * 1024];
        let mut sent = 0;
        while let Ok(written) = tokio::time::timeout(quiet, self.transport.write(&block)).await {
            sent += written.expect("to send");
        }
        sent
    }

    /// Sends all of `bytes` while receiving as many as `expected` at the same time.
    pub async fn exchange(&mut self, bytes: &[u8], expected: usize) -> Vec<u8> {
        assert!(self.ahead.is_empty(), "unread bytes");
        let (mut reader, mut writer) = tokio::io::split(&mut self.transport);
        let mut received = vec![0; expected];
        let both = async {
            tokio::try_join!(
                async {
                    writer.write_all(bytes).await?;
                    writer.flush().await
                },
                reader.read_exact(&mut received),
            )
        };
        soon("to send and receive at once", both)
            .await
            .expect("to send and receive");
        received
    }

    /// Ends our half of the stream.
    pub async fn finish(&mut self) {
        soon("to finish", self.transport.shutdown())
            .await
            .expect("to finish");
    }

    /// Ends the stream by RST, or RST_STREAM.
    pub fn abort(self) {
        if let Transport::H2(gateway) = &self.transport {
            return gateway.abort();
        }
        self.tcp().set_zero_linger().expect("SO_LINGER");
    }

    /// Reads once more. `Ok(0)` is the end.
    async fn fill(&mut self) -> io::Result<usize> {
        soon("to receive", self.transport.read_buf(&mut self.ahead)).await
    }

    /// Whether there is something to read within a moment.
    pub async fn has_arrived(&mut self) -> bool {
        let moment = Duration::from_millis(1);
        matches!(
            tokio::time::timeout(moment, self.readable()).await,
            Ok(true)
        )
    }

    /// Waits, without deadline, until there is something to read; `false` is the end.
    pub async fn readable(&mut self) -> bool {
        !self.ahead.is_empty() || matches!(self.transport.read_buf(&mut self.ahead).await, Ok(1..))
    }

    /// The bytes up to and with `mark`; `None` if the stream ends before the first.
    async fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            let from = searched.min(self.ahead.len());
            if let Some(at) = find(&self.ahead[from..], mark) {
                return Some(self.ahead.drain(..from + at + mark.len()).collect());
            }
            searched = self.ahead.len().saturating_sub(mark.len());
            match self.fill().await {
                Ok(0) if self.ahead.is_empty() => return None,
                Ok(0) => panic!(
                    "end in the middle: {:?}",
                    String::from_utf8_lossy(&self.ahead)
                ),
                Ok(_) => {}
                Err(_) if self.ahead.is_empty() => return None,
                Err(error) => panic!("{error} in the middle: {:?}", self.ahead),
            }
        }
    }

    /// The next request head; `None` if the stream ends instead.
    pub async fn next_request(&mut self) -> Option<Request> {
        let request = Request::parse(&self.until(b"\r\n\r\n").await?);
        self.key = request.header("sec-websocket-key").map(str::to_owned);
        Some(request)
    }

    /// Answers the last handshake with the right 101; `extra` as in [`switching`].
    pub async fn switch(&mut self, extra: &str) {
        let key = self.key.as_deref().expect("a handshake");
        self.send(switching_for(key, extra)).await;
    }

    pub async fn request(&mut self) -> Request {
        self.next_request()
            .await
            .expect("a request, not the end of the stream")
    }

    /// The next response head; `None` if the stream ends instead.
    pub async fn next_response_head(&mut self) -> Option<Head> {
        self.until(b"\r\n\r\n").await.map(|raw| Head::parse(&raw))
    }

    pub async fn response_head(&mut self) -> Head {
        self.next_response_head()
            .await
            .expect("a response, not the end of the stream")
    }

    /// The whole response to a GET.
    pub async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    pub async fn response_to(&mut self, method: &str) -> Response {
        let head = self.response_head().await;
        let length = head.length(method);
        let (body, trailers) = self.body(length).await;
        Response {
            head,
            body,
            trailers,
        }
    }

    pub async fn body(&mut self, length: Length) -> (Vec<u8>, Headers) {
        match length {
            Length::None => (Vec::new(), Vec::new()),
            Length::Bytes(n) => (self.take(n).await, Vec::new()),
            Length::ToTheEnd => (self.rest().await, Vec::new()),
            Length::Chunked => {
                let mut body = Vec::new();
                while let Some(chunk) = self.chunk().await {
                    body.extend(chunk);
                }
                (body, self.trailers().await)
            }
        }
    }

    /// Reads a body of which nothing is wanted; `false` if it does not arrive whole.
    pub async fn discard(&mut self, length: Length) -> bool {
        match length {
            Length::None => true,
            Length::ToTheEnd => false,
            Length::Bytes(n) => self.try_take(n).await.is_some(),
            Length::Chunked => loop {
                let Some(line) = self.try_line().await else {
                    return false;
                };
                let size = usize::from_str_radix(line.trim(), 16).expect("a chunk size");
                if self.try_take(size + 2).await.is_none() || size == 0 {
                    return size == 0;
                }
            },
        }
    }

    /// `None` if the stream ends before.
    pub async fn try_take(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.ahead.len() < n {
            if !matches!(self.fill().await, Ok(1..)) {
                return None;
            }
        }
        Some(self.ahead.drain(..n).collect())
    }

    async fn try_line(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = find(&self.ahead, b"\r\n") {
                break at + 2;
            }
            if !matches!(self.fill().await, Ok(1..)) {
                return None;
            }
        };
        Some(String::from_utf8_lossy(&self.ahead.drain(..end).collect::<Vec<_>>()).into_owned())
    }

    /// One chunk of a chunked body; `None` is the last. Its trailers come next.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self
            .until(b"\r\n")
            .await
            .expect("a chunk, not the end of the stream");
        let text = std::str::from_utf8(&line[..line.len() - 2]).expect("a chunk size");
        let size = usize::from_str_radix(text.split(';').next().unwrap_or_default(), 16)
            .unwrap_or_else(|_| panic!("not a chunk size: {text:?}"));
        if size == 0 {
            return None;
        }
        let data = self.take(size).await;
        assert_eq!(self.take(2).await, b"\r\n", "a chunk ends in CRLF");
        Some(data)
    }

    pub async fn trailers(&mut self) -> Headers {
        let mut text = String::new();
        loop {
            let line = self
                .until(b"\r\n")
                .await
                .expect("trailers, not the end of the stream");
            if line == b"\r\n" {
                return fields(&text);
            }
            text.push_str(&String::from_utf8_lossy(&line));
        }
    }

    pub async fn take(&mut self, n: usize) -> Vec<u8> {
        while self.ahead.len() < n {
            let read = self.fill().await.expect("to receive");
            assert!(read > 0, "end after {} of {n} bytes", self.ahead.len());
        }
        self.ahead.drain(..n).collect()
    }

    /// The next bytes, with nothing read ahead of what follows.
    pub async fn take_exactly(&mut self, n: usize) -> Vec<u8> {
        assert!(self.ahead.is_empty(), "bytes that were read ahead");
        let mut bytes = vec![0; n];
        soon("to receive", self.transport.read_exact(&mut bytes))
            .await
            .expect("to receive");
        bytes
    }

    /// Everything up to a clean end.
    pub async fn rest(&mut self) -> Vec<u8> {
        let (bytes, end) = self.rest_and_end().await;
        assert_eq!(end, End::Eof, "after {:?}", String::from_utf8_lossy(&bytes));
        bytes
    }

    pub async fn rest_and_end(&mut self) -> (Vec<u8>, End) {
        let end = loop {
            match self.fill().await {
                Ok(0) => break End::Eof,
                Ok(_) => {}
                Err(_) => break End::Reset,
            }
        };
        (std::mem::take(&mut self.ahead), end)
    }

    /// The end of the stream; bytes before it fail the test.
    pub async fn end(&mut self) -> End {
        let (bytes, end) = self.rest_and_end().await;
        assert!(
            bytes.is_empty(),
            "bytes before the end: {:?}",
            String::from_utf8_lossy(&bytes)
        );
        end
    }

    pub async fn eof(&mut self) {
        assert_eq!(self.end().await, End::Eof);
    }

    /// Neither a byte nor the end comes within `time`.
    pub async fn silent_for(&mut self, time: Duration) {
        assert!(
            self.ahead.is_empty(),
            "unread: {:?}",
            String::from_utf8_lossy(&self.ahead)
        );
        let read = tokio::time::timeout(time, self.transport.read_buf(&mut self.ahead)).await;
        if let Ok(result) = read {
            let text = String::from_utf8_lossy(&self.ahead);
            panic!("not silent: {result:?}, {text:?}");
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

macro_rules! each {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self.get_mut() {
            Transport::Tcp($inner) => $call,
            Transport::Unix($inner) => $call,
            Transport::Tls($inner) => $call,
            Transport::H2($inner) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}
