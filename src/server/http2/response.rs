//! Sends an answer on a stream.
//!
//! One part of the body at a time is taken from its source, when the one before
//! it has found its place in the stream's window.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::response::Parts;
use http::{HeaderMap, Response, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::exchange::Body;
use crate::exchange::headers::strip_answer;
use crate::net::http2::{Broken, Stream};

/// Sends the whole answer, or as much of it as there is; a body that breaks off
/// is reset, so that it cannot be taken for a whole one.
pub(super) async fn send(stream: &Arc<Stream>, response: Response<Body>, patience: Duration) {
    let (head, mut body) = response.into_parts();
    let last = body.is_end_stream();
    if send_head(stream, head, last).is_err() || last {
        return;
    }
    let whole = tokio::select! {
        biased;
        _ = stream.broken() => return,
        whole = send_body(stream, &mut body, patience) => whole,
    };
    match whole {
        // An error means that nobody listens any more.
        Ok(trailers) => drop(stream.finish(trailers)),
        // What did come arrives, and then the reset.
        Err(Cut::Source) => {
            // Whether or not the client takes it.
            let _ = timeout(patience, stream.sent()).await;
            stream.cut();
        }
        Err(Cut::Stalled) => stream.reset(Reason::ENHANCE_YOUR_CALM),
        Err(Cut::Client) => {}
    }
}

/// # Errors
/// If the stream is broken.
pub(super) fn send_head(stream: &Stream, head: Parts, last: bool) -> Result<(), Broken> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = head.headers;
    // RFC 9113 section 8.2.2: what concerns an HTTP/1.1 connection makes the
    // message malformed.
    strip_answer(response.headers_mut());
    stream.respond(response, last)
}

/// Why a body was not sent whole.
enum Cut {
    /// It broke off.
    Source,
    /// The client has opened no window for too long.
    Stalled,
    Client,
}

/// Sends the body up to its trailers, which are returned.
async fn send_body(
    stream: &Stream,
    body: &mut Body,
    patience: Duration,
) -> Result<Option<HeaderMap>, Cut> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Cut::Source)?;
        match frame.into_data() {
            Ok(data) => send_data(stream, data, patience).await?,
            Err(frame) => return Ok(frame.into_trailers().ok()),
        }
    }
    Ok(None)
}

async fn send_data(stream: &Stream, mut data: Bytes, patience: Duration) -> Result<(), Cut> {
    while !data.is_empty() {
        let sent = poll_fn(|cx| {
            let wanted = data.len();
            stream.poll_send(cx, wanted, |count| data.split_to(count))
        });
        match timeout(patience, sent).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(Cut::Client),
            Err(_) => return Err(Cut::Stalled),
        }
    }
    Ok(())
}
