//! A stream's received side as a message body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{Broken, Stream};

/// The body that the peer sends, with its trailers.
#[derive(Debug)]
pub struct StreamBody {
    /// `None`: there is no body, whatever comes on the stream.
    stream: Option<Arc<Stream>>,
    /// What the message's head says of it.
    length: Option<u64>,
    /// One of the streams that their connection counts.
    _use: Option<Arc<()>>,
}

impl StreamBody {
    pub fn new(stream: Arc<Stream>, length: Option<u64>) -> Self {
        Self {
            stream: Some(stream),
            length,
            _use: None,
        }
    }

    /// To be counted as long as it lasts.
    pub fn holding(self, count: Arc<()>) -> Self {
        Self {
            _use: Some(count),
            ..self
        }
    }

    /// For a request whose stream is to be a tunnel.
    pub fn none() -> Self {
        Self {
            stream: None,
            length: Some(0),
            _use: None,
        }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let Some(stream) = &this.stream else {
            return Poll::Ready(None);
        };
        Poll::Ready(match ready!(stream.poll_take(cx)) {
            Some(Ok(bytes)) => {
                let count = bytes.len() as u64;
                this.length = this.length.map(|length| length.saturating_sub(count));
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(broken)) => Some(Err(broken)),
            None => stream.take_trailers().map(|t| Ok(Frame::trailers(t))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream
            .as_ref()
            .is_none_or(|stream| stream.is_drained())
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}
