//! Back pressure and half-close on real sockets, and fairness on a stream that
//! never waits.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;

use super::super::bulk::{Bulk, Copying, Moved};
use super::super::relay::Relay;
use super::super::scratch;
use super::*;
use crate::metrics::delay;

const TOTAL: usize = 8 << 20;

/// Writes `bytes` from `at` on, until the socket refuses hundreds of times in a
/// row; says how far that was.
async fn fill(stream: &UnixStream, bytes: &[u8], mut at: usize) -> usize {
    let mut refused = 0;
    while refused < 500 && at < bytes.len() {
        match stream.try_write(&bytes[at..]) {
            Ok(written) => (at, refused) = (at + written, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                refused += 1;
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    at
}

#[tokio::test]
async fn a_reader_that_stalls_stalls_the_writer() {
    let registry = registry();
    let (client, near_client) = UnixStream::pair().unwrap();
    let (mut backend, near_backend) = UnixStream::pair().unwrap();
    let (tunnel, task) = start(
        &registry,
        &options(Framing::Opaque),
        near_client,
        near_backend,
    );
    let bytes: Vec<u8> = (0..TOTAL).map(|at| (at / 7 + at) as u8).collect();
    let mut written = fill(&client, &bytes, 0).await;
    assert!(written < 2 << 20, "{written} bytes have gone somewhere");
    assert!((tunnel.bytes_in() as usize) < written);

    let mut read = 0;
    let mut part = vec![0; 50_000];
    while read < TOTAL {
        if written < TOTAL && read + (256 << 10) > written {
            written = fill(&client, &bytes, written).await;
        }
        let count = backend.read(&mut part).await.unwrap();
        assert!(part[..count] == bytes[read..read + count]);
        read += count;
        // What the kernel holds for one socket, and one scratch buffer.
        assert!(tunnel.bytes_in() as usize - read < (1 << 20) + scratch::SIZE);
    }
    drop((client, backend));
    assert_eq!(task.await.unwrap().bytes_in as usize, TOTAL);
}

#[tokio::test]
async fn half_close_and_reset_on_real_sockets() {
    let registry = registry();
    let (mut client, near_client) = UnixStream::pair().unwrap();
    let (mut backend, near_backend) = UnixStream::pair().unwrap();
    let (_, task) = start(
        &registry,
        &options(Framing::Opaque),
        near_client,
        near_backend,
    );
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    backend.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    backend.write_all(b"answer").await.unwrap();
    drop(backend);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    let outcome = task.await.unwrap();
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Client, Cause::Eof)
    );

    let (client, near_client) = UnixStream::pair().unwrap();
    let (mut backend, near_backend) = UnixStream::pair().unwrap();
    let (_, task) = start(
        &registry,
        &options(Framing::Opaque),
        near_client,
        near_backend,
    );
    backend.write_all(b"unread").await.unwrap();
    client.readable().await.unwrap();
    // Closing with unread bytes resets a Unix socket's peer.
    drop(client);
    let mut rest = Vec::new();
    backend.read_to_end(&mut rest).await.unwrap();
    drop(backend);
    let outcome = task.await.unwrap();
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Client, Cause::Reset)
    );
}

/// On a thread of its own: a thread's first message is one of those measured.
#[test]
fn a_message_that_a_reader_does_not_take_is_as_late_as_it_takes_it() {
    let measured = std::thread::spawn(|| {
        let registry = Registry::new();
        let (mut client, near_client) = tokio::io::duplex(1024);
        let (mut backend, near_backend) = tokio::io::duplex(16);
        let ticket = registry.open(facts(1), &options(Framing::WebSocket));
        let mut relay = Box::pin(relay(leg(near_client), leg(near_backend), ticket));
        let mut context = Context::from_waker(Waker::noop());
        let message = [&[0x82, 0x80 | 50, 0, 0, 0, 0][..], &[7; 50]].concat();
        assert_eq!(done(client.write(&message)), message.len());
        assert!(relay.as_mut().poll(&mut context).is_pending());
        assert_eq!(
            delay::counted_here().iter().sum::<u64>(),
            0,
            "it is not through"
        );
        let held = Instant::now();
        while held.elapsed() < Duration::from_millis(110) {
            std::thread::yield_now();
        }
        let mut taken = 0;
        while taken < message.len() {
            taken += done(backend.read(&mut [0; 64]));
            assert!(relay.as_mut().poll(&mut context).is_pending());
        }
        delay::counted_here()
    });
    let measured = measured.join().unwrap();
    // Longer than the bound of 100 ms; on a busy machine than that of a second too.
    let place = measured.iter().position(|count| *count > 0);
    assert!(matches!(place, Some(9..=10)), "{measured:?}");
    assert_eq!(measured.iter().sum::<u64>(), 1, "{measured:?}");
}

/// What needs no waiting.
fn done<T>(future: impl Future<Output = std::io::Result<T>>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        Poll::Ready(value) => value.unwrap(),
        Poll::Pending => panic!("it waits"),
    }
}

/// Always has bytes and always takes them.
struct Endless;

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let all = buffer.remaining();
        buffer.advance(all);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// As the kernel may: half a MiB at once, again and again.
struct Torrent;

impl Bulk<Endless, Endless> for Torrent {
    fn poll_move(_: &mut Context<'_>, _: &mut Endless, _: &mut Endless, _: u64) -> Moved {
        Moved::Bytes(512 << 10)
    }

    fn progressed(_: &mut Endless) -> bool {
        false
    }
}

#[test]
fn a_stream_that_never_waits_does_not_keep_the_thread() {
    share_of::<Copying>();
    share_of::<Torrent>();
}

fn share_of<X: Bulk<Endless, Endless>>() {
    let ticket = Registry::new().open(facts(1), &options(Framing::Opaque));
    let tunnel = Arc::clone(ticket.tunnel());
    let mut relay = Relay::<_, _, X>::new(leg(Endless), leg(Endless), ticket);
    let mut context = Context::from_waker(Waker::noop());
    for polls in 1..=2 {
        assert!(Pin::new(&mut relay).poll(&mut context).is_pending());
        assert!(tunnel.bytes_in() > 0 && tunnel.bytes_out() == tunnel.bytes_in());
        assert!(tunnel.bytes_in() <= polls << 20);
    }
}
