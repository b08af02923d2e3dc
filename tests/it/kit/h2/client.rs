//! A client that keeps the rules of HTTP/2: windows, acknowledgements, pings.
//!
//! Two tasks move frames; what a stream receives waits until it is read, and
//! only then gives its credit back.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use loona_hpack::{Decoder, Encoder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::{Code, Flag, Frame, Kind, PREFACE, Setting};
use crate::kit::message::Headers;
use crate::kit::soon;
use crate::kit::wire::Transport;

/// Bytes that wait to be written before writers have to wait.
const MOST_WAITING: usize = 256 * 1024;
/// A window wide enough for every test.
const WIDE: u32 = 1 << 30;

#[derive(Clone)]
pub struct H2 {
    shared: Arc<Shared>,
    tasks: Arc<[AbortHandle; 2]>,
}

struct Shared {
    state: Mutex<State>,
    to_write: Notify,
}

struct State {
    encoder: Encoder<'static>,
    out: Vec<u8>,
    streams: HashMap<u32, Half>,
    next: u32,
    window: i64,
    initial_window: i64,
    settings: HashMap<u16, u32>,
    goaway: Option<(u32, u32)>,
    /// The test is done with it.
    closing: bool,
    closed: bool,
    wakers: Vec<Waker>,
}

/// What is known of a stream.
#[derive(Default)]
struct Half {
    heads: VecDeque<Headers>,
    received: VecDeque<u8>,
    trailers: Headers,
    ended: bool,
    reset: Option<u32>,
    window: i64,
    finished: bool,
}

/// One stream, read and written like a socket.
pub struct Stream {
    connection: H2,
    pub id: u32,
}

impl H2 {
    /// Begins a connection and waits for the server's settings.
    pub async fn over(transport: Transport) -> Self {
        let mut out = PREFACE.to_vec();
        out.extend(Frame::settings(&[(Setting::ENABLE_PUSH, 0)]).bytes());
        out.extend(Frame::credit(0, WIDE).bytes());
        let state = State {
            encoder: Encoder::new(),
            out,
            streams: HashMap::new(),
            next: 1,
            window: 65_535,
            initial_window: 65_535,
            settings: HashMap::new(),
            goaway: None,
            closing: false,
            closed: false,
            wakers: Vec::new(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            to_write: Notify::new(),
        });
        shared.to_write.notify_one();
        let (reader, writer) = tokio::io::split(transport);
        let tasks = [
            tokio::spawn(read(reader, Arc::clone(&shared))).abort_handle(),
            tokio::spawn(write(writer, Arc::clone(&shared))).abort_handle(),
        ];
        let this = Self {
            shared,
            tasks: Arc::new(tasks),
        };
        this.when("the server's settings", |state| {
            (!state.settings.is_empty()).then_some(())
        })
        .await;
        this
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no panic")
    }

    /// Waits until `fact` has something.
    async fn when<T>(&self, what: &str, mut fact: impl FnMut(&mut State) -> Option<T>) -> T {
        soon(what, poll_fn(|cx| self.poll_when(cx, |state| fact(state)))).await
    }

    fn poll_when<T>(
        &self,
        cx: &Context<'_>,
        fact: impl FnOnce(&mut State) -> Option<T>,
    ) -> Poll<T> {
        let mut state = self.state();
        match fact(&mut state) {
            Some(value) => {
                drop(state);
                self.shared.to_write.notify_one();
                Poll::Ready(value)
            }
            None => {
                state.wakers.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// A setting of the server's.
    pub fn setting(&self, name: u16) -> Option<u32> {
        self.state().settings.get(&name).copied()
    }

    /// The server's GOAWAY: last stream and error code.
    pub async fn goaway(&self) -> (u32, u32) {
        self.when("a GOAWAY", |state| state.goaway).await
    }

    pub async fn closed(&self) {
        let closed = |state: &mut State| state.closed.then_some(());
        self.when("the end of the connection", closed).await;
    }

    pub fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_when(cx, |state| state.closed.then_some(()))
    }

    /// Sends what is left and ends the connection.
    pub fn close(&self) {
        self.state().closing = true;
        self.shared.to_write.notify_one();
    }

    /// Drops the socket without a word.
    pub fn kill(&self) {
        self.state().closed = true;
        self.tasks.iter().for_each(AbortHandle::abort);
    }

    /// Begins a stream; `last`: without a body.
    pub fn request(&self, headers: &[(&str, &str)], last: bool) -> Stream {
        let mut state = self.state();
        let id = state.next;
        state.next += 2;
        let fields = headers.iter();
        let block = state
            .encoder
            .encode(fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let end = if last { Flag::END_STREAM } else { Flag::NONE };
        let frame = Frame::new(Kind::HEADERS, Flag::END_HEADERS | end, id, block);
        state.out.extend(frame.bytes());
        let half = Half {
            window: state.initial_window,
            finished: last,
            ..Half::default()
        };
        state.streams.insert(id, half);
        drop(state);
        self.shared.to_write.notify_one();
        Stream {
            connection: self.clone(),
            id,
        }
    }

    /// An extended CONNECT for WebSocket (RFC 8441 section 5.1).
    pub fn connect(&self, path: &str, authority: &str, extra: &[(&str, &str)]) -> Stream {
        let mut headers = vec![
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", path),
            (":authority", authority),
            ("sec-websocket-version", "13"),
        ];
        headers.extend(extra);
        self.request(&headers, false)
    }
}

impl Stream {
    /// The next head: interim responses, then the final one.
    pub async fn head(&self) -> Headers {
        soon("a response head", poll_fn(|cx| self.poll_head(cx)))
            .await
            .expect("a response head, not the end of the stream")
    }

    pub async fn status(&self) -> u16 {
        let head = self.head().await;
        assert_eq!(head[0].0, ":status", "{head:?}");
        head[0].1.parse().expect("a status")
    }

    pub fn poll_head(&self, cx: &Context<'_>) -> Poll<io::Result<Headers>> {
        self.connection.poll_when(cx, |state| {
            let closed = state.closed;
            let half = state.half(self.id);
            if let Some(head) = half.heads.pop_front() {
                return Some(Ok(head));
            }
            (half.reset.is_some() || closed).then(|| Err(reset()))
        })
    }

    /// Resets the stream.
    pub fn reset(&self, code: u32) {
        let mut state = self.connection.state();
        state.half(self.id).reset = Some(code);
        state.out.extend(Frame::reset(self.id, code).bytes());
        drop(state);
        self.connection.shared.to_write.notify_one();
    }

    /// Waits for the server's reset and says its code.
    pub async fn was_reset(&self) -> u32 {
        let id = self.id;
        self.connection
            .when("a reset of the stream", |state| state.half(id).reset)
            .await
    }

    /// Whether there is no window to send in.
    pub fn is_stalled(&self) -> bool {
        let mut state = self.connection.state();
        let all = state.window;
        all.min(state.half(self.id).window) <= 0
    }

    /// Ends our side with trailers.
    pub fn finish_with(&self, trailers: &Headers) {
        let mut state = self.connection.state();
        let fields = trailers.iter();
        let fields: Vec<(String, &String)> = fields.map(|(n, v)| (n.to_lowercase(), v)).collect();
        let fields = fields.iter();
        let block = state
            .encoder
            .encode(fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let flags = Flag::END_HEADERS | Flag::END_STREAM;
        let frame = Frame::new(Kind::HEADERS, flags, self.id, block);
        state.out.extend(frame.bytes());
        state.half(self.id).finished = true;
        drop(state);
        self.connection.shared.to_write.notify_one();
    }

    pub fn trailers(&self) -> Headers {
        self.connection.state().half(self.id).trailers.clone()
    }

    /// Whether the stream has ended with nothing behind the head.
    pub fn is_bare(&self) -> bool {
        let mut state = self.connection.state();
        let half = state.half(self.id);
        half.ended && half.received.is_empty() && half.trailers.is_empty()
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let id = self.id;
        self.connection.poll_when(cx, |state| {
            let closed = state.closed;
            let half = state.half(id);
            let count = half.received.len().min(buf.remaining());
            if count == 0 {
                if half.ended {
                    return Some(Ok(()));
                }
                return (half.reset.is_some() || closed).then(|| Err(reset()));
            }
            let bytes: Vec<u8> = half.received.drain(..count).collect();
            buf.put_slice(&bytes);
            let open = !half.ended && half.reset.is_none();
            if open {
                let credit = u32::try_from(count).expect("a credit");
                state.out.extend(Frame::credit(id, credit).bytes());
            }
            Some(Ok(()))
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let id = self.id;
        self.connection.poll_when(cx, |state| {
            let (all, waiting, closed) = (state.window, state.out.len(), state.closed);
            let half = state.half(id);
            if half.reset.is_some() || closed {
                return Some(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let window = usize::try_from(half.window.min(all)).unwrap_or(0);
            let count = buf.len().min(window).min(16_384);
            if count == 0 || waiting > MOST_WAITING {
                return None;
            }
            half.window -= count as i64;
            state.window -= count as i64;
            state.out.extend(Frame::data(id, &buf[..count]).bytes());
            Some(Ok(count))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.connection.state();
        let half = state.half(self.id);
        if !half.finished && half.reset.is_none() {
            half.finished = true;
            state.out.extend(Frame::data(self.id, []).ending().bytes());
        }
        drop(state);
        self.connection.shared.to_write.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.connection.state();
        let closed = state.closed;
        let half = state.half(self.id);
        let over = half.reset.is_some() || half.ended && half.finished;
        if !over && !closed {
            state
                .out
                .extend(Frame::reset(self.id, Code::CANCEL).bytes());
        }
        state.streams.remove(&self.id);
        drop(state);
        self.connection.shared.to_write.notify_one();
    }
}

impl State {
    fn half(&mut self, id: u32) -> &mut Half {
        self.streams.get_mut(&id).expect("a stream of ours")
    }

    /// Takes a frame in. `block` is a header block in the making.
    fn receive(&mut self, frame: &Frame, decoder: &mut Decoder<'static>) {
        match frame.kind {
            Kind::DATA => {
                assert!(!frame.has(Flag::PADDED), "longhaul pads nothing");
                if let Some(half) = self.streams.get_mut(&frame.stream) {
                    half.received.extend(&frame.payload);
                    half.ended |= frame.has(Flag::END_STREAM);
                }
                if !frame.payload.is_empty() {
                    let credit = u32::try_from(frame.payload.len()).expect("a credit");
                    self.out.extend(Frame::credit(0, credit).bytes());
                }
            }
            Kind::HEADERS => {
                assert!(frame.has(Flag::END_HEADERS), "a block in one frame");
                let fields = decoder.decode(&frame.payload).expect("HPACK");
                let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
                let fields: Headers = fields
                    .into_iter()
                    .map(|(n, v)| (text(n), text(v)))
                    .collect();
                if let Some(half) = self.streams.get_mut(&frame.stream) {
                    match fields.first() {
                        Some((name, _)) if name == ":status" => half.heads.push_back(fields),
                        _ => half.trailers = fields,
                    }
                    half.ended |= frame.has(Flag::END_STREAM);
                }
            }
            Kind::RST_STREAM => {
                if let Some(half) = self.streams.get_mut(&frame.stream) {
                    half.reset = Some(frame.number(0));
                }
            }
            Kind::SETTINGS if !frame.has(Flag::ACK) => self.apply(frame),
            Kind::PING if !frame.has(Flag::ACK) => {
                let pong = Frame::new(Kind::PING, Flag::ACK, 0, frame.payload.clone());
                self.out.extend(pong.bytes());
            }
            Kind::GOAWAY => self.goaway = Some((frame.number(0), frame.number(4))),
            Kind::WINDOW_UPDATE => {
                let credit = i64::from(frame.number(0));
                match self.streams.get_mut(&frame.stream) {
                    Some(half) => half.window += credit,
                    None if frame.stream == 0 => self.window += credit,
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn apply(&mut self, frame: &Frame) {
        for (name, value) in frame.read_settings() {
            if name == Setting::INITIAL_WINDOW_SIZE {
                let change = i64::from(value) - self.initial_window;
                self.initial_window = value.into();
                for half in self.streams.values_mut() {
                    half.window += change;
                }
            }
            self.settings.insert(name, value);
        }
        let ack = Frame::new(Kind::SETTINGS, Flag::ACK, 0, []);
        self.out.extend(ack.bytes());
    }
}

async fn read(mut reader: impl AsyncRead + Unpin, shared: Arc<Shared>) {
    let mut decoder = Decoder::new();
    loop {
        let frame = next(&mut reader).await;
        let mut state = shared.state.lock().expect("no panic");
        let ended = frame.is_err();
        match frame {
            Ok(frame) => state.receive(&frame, &mut decoder),
            Err(_) => state.closed = true,
        }
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        shared.to_write.notify_one();
        wakers.into_iter().for_each(Waker::wake);
        if ended {
            return;
        }
    }
}

async fn next(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut header = [0; Frame::HEADER];
    reader.read_exact(&mut header).await?;
    let (mut frame, length) = Frame::parse_header(&header);
    frame.payload = vec![0; length];
    reader.read_exact(&mut frame.payload).await?;
    Ok(frame)
}

async fn write(mut writer: impl AsyncWrite + Unpin, shared: Arc<Shared>) {
    loop {
        shared.to_write.notified().await;
        let (bytes, wakers, last) = {
            let mut state = shared.state.lock().expect("no panic");
            if state.closed {
                return;
            }
            if state.out.is_empty() && !state.closing {
                continue;
            }
            (
                std::mem::take(&mut state.out),
                std::mem::take(&mut state.wakers),
                state.closing,
            )
        };
        // Those who wait for room.
        wakers.into_iter().for_each(Waker::wake);
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return;
        }
        if last {
            // The server closes its side in turn.
            let _ = writer.shutdown().await;
            return;
        }
    }
}
