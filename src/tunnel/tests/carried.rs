//! A stream of HTTP/2 on a socket of a random life: its far end is a stream of the
//! `h2` client, worked by hand, its near end what a tunnel gets of a client that
//! speaks HTTP/2.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Buf;
use h2::ext::Protocol;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream, client, server};
use http::{Method, Request, Response};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::ground::FarSocket;
use super::rig::{Near, turn};
use super::*;
use crate::net::http2::{Bounds, Calm, Chunk, Io, Place, Ready, Stream, Tunnel};
use crate::net::{Limiter, Socket, Transport};

/// A patience that only a hang outlasts.
const HANGS: Duration = Duration::from_secs(30);

/// For a window to open: more than any life needs.
const PATIENCE: Duration = Duration::from_secs(600);
const BOUNDS: Bounds = Bounds {
    head: 16 * 1024,
    streams: 1,
    // What HTTP/2 begins with (RFC 9113 section 6.5.2).
    window: 65_535,
};

/// A far end that is a stream of HTTP/2.
pub(super) struct Carried {
    send: SendStream<Part>,
    /// Held by every part that waits to be sent.
    unsent: Arc<()>,
    receive: RecvStream,
    held: Bytes,
    /// What reading says behind that.
    end: Option<Result<usize, ErrorKind>>,
    /// Of the connection, if it is TCP.
    socket: Option<TcpStream>,
    /// Of the connection's tasks at both ends.
    runtime: Rc<Runtime>,
}

/// Some bytes on their way out.
struct Part {
    bytes: Bytes,
    _unsent: Arc<()>,
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// Has both ends of a socket carry one stream that is to be a tunnel.
pub(super) fn carry(far: FarSocket, near: Near, runtime: &Rc<Runtime>) -> (FarSocket, Near) {
    let socket = far.tcp().map(|stream| stream.try_clone().unwrap());
    let near_socket = near.another();
    let (asked, tunnel) =
        runtime.block_on(async { tokio::join!(ask(far.into_tokio()), accept(near.into_tokio())) });
    let (send, receive) = asked;
    let far = Carried {
        send,
        unsent: Arc::new(()),
        receive,
        held: Bytes::new(),
        end: None,
        socket,
        runtime: Rc::clone(runtime),
    };
    let near = Near::Http2 {
        tunnel,
        socket: near_socket,
        runtime: Rc::clone(runtime),
    };
    (FarSocket::Http2(Box::new(far)), near)
}

/// The client's part: an extended CONNECT (RFC 8441 section 4), and its answer.
async fn ask(socket: Socket) -> (SendStream<Part>, RecvStream) {
    // Else `h2` takes many small frames that wait to be read for an attack, and a life
    // has reads of one byte.
    let shaken = client::Builder::new()
        .data_frame_budget(usize::MAX)
        .handshake::<_, Part>(socket)
        .await;
    let (mut requests, connection) = shaken.unwrap();
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://localhost/")
        .extension(Protocol::from_static("websocket"))
        .body(())
        .unwrap();
    let (answer, send) = requests.send_request(request, false).unwrap();
    tokio::spawn(async move {
        // Without it the connection would end with its stream.
        let _more = requests;
        // The test sees it by the stream.
        let _ = connection.await;
    });
    (send, answer.await.unwrap().into_body())
}

/// Longhaul's part, as its server plays it.
async fn accept(socket: Socket) -> Tunnel {
    let calm = Arc::new(Calm::new(u32::MAX, u32::MAX));
    let transport = Transport::Plain(socket);
    let io = Io::new(transport, Bytes::new(), BOUNDS, calm);
    let mut builder = server::Builder::new();
    builder.enable_connect_protocol();
    let mut frames = Frames {
        connection: builder.handshake(io).await.unwrap(),
        ready: Arc::default(),
    };
    let (request, respond) = frames.next().await.unwrap().unwrap();
    let stream = Stream::accepted(request.into_body(), respond, &frames.ready);
    stream.respond(Response::new(()), false).unwrap();
    tokio::spawn(async move { while let Some(Ok(_)) = frames.next().await {} });
    let permit = Limiter::new(1, None).admit(None).unwrap();
    Tunnel::new(stream, PATIENCE, Place::Client(permit))
}

struct Frames {
    connection: Connection<Io, Chunk>,
    ready: Arc<Ready>,
}

type Arrival = (Request<RecvStream>, SendResponse<Chunk>);

impl Frames {
    async fn next(&mut self) -> Option<Result<Arrival, h2::Error>> {
        poll_fn(|cx| {
            self.ready.begin();
            let arrival = self.connection.poll_accept(cx);
            self.ready.settle(cx.waker());
            arrival
        })
        .await
    }
}

impl Carried {
    pub(super) fn socket(&self) -> Option<&TcpStream> {
        self.socket.as_ref()
    }

    /// Has the connection's tasks do a part of what they can do now.
    pub(super) fn pump(&self) {
        turn(&self.runtime);
    }

    /// Waits until there is something to read.
    pub(super) fn wait(&mut self) {
        let runtime = Rc::clone(&self.runtime);
        let comes = async { timeout(HANGS, poll_fn(|cx| self.poll_held(cx))).await };
        runtime.block_on(comes).expect("the end does not come");
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.held.is_empty() && self.end.is_none() {
            match ready!(self.receive.poll_data(cx)) {
                None => self.end = Some(Ok(0)),
                Some(Err(_)) => self.end = Some(Err(ErrorKind::ConnectionReset)),
                Some(Ok(bytes)) => {
                    // It fails only for more than was received.
                    let flow = self.receive.flow_control();
                    flow.release_capacity(bytes.len()).unwrap();
                    self.held = bytes;
                }
            }
        }
        Poll::Ready(())
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let cx = &mut Context::from_waker(Waker::noop());
        if self.poll_held(cx).is_pending() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if let Some(end) = self.end.filter(|_| self.held.is_empty()) {
            return end.map_err(io::Error::from);
        }
        let count = self.held.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.held.split_to(count));
        Ok(count)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let broken = |_: h2::Error| io::Error::from(ErrorKind::BrokenPipe);
        self.send.reserve_capacity(bytes.len());
        while self.send.capacity() == 0 {
            let cx = &mut Context::from_waker(Waker::noop());
            match self.send.poll_capacity(cx) {
                Poll::Pending => return Err(ErrorKind::WouldBlock.into()),
                Poll::Ready(None) => return Err(ErrorKind::BrokenPipe.into()),
                Poll::Ready(Some(capacity)) => capacity.map_err(broken)?,
            };
        }
        let count = self.send.capacity().min(bytes.len());
        let part = self.part(&bytes[..count]);
        self.send.send_data(part, false).map_err(broken)?;
        Ok(count)
    }

    /// END_STREAM.
    pub(super) fn end(&mut self) {
        // It may have been reset.
        let _ = self.send.send_data(self.part(b""), true);
    }

    fn part(&self, bytes: &[u8]) -> Part {
        Part {
            bytes: Bytes::copy_from_slice(bytes),
            _unsent: Arc::clone(&self.unsent),
        }
    }

    /// Whether the connection has yet to take what was given to it.
    pub(super) fn is_flushing(&self) -> bool {
        Arc::strong_count(&self.unsent) > 1
    }

    pub(super) fn reset(mut self) {
        self.send.send_reset(Reason::CANCEL);
    }
}
