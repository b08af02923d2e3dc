//! The outermost layer: turns refusals into responses and writes one access
//! line when the exchange is over, that is when the response body ends or is
//! dropped. Tunnels write their own lines (see [`crate::proxy`]).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tower::service_fn;

use crate::drain::Stage;
use crate::exchange::{Body, BodyError, Entry, Exchange, HttpService, Record, Refusal, Reply};
use crate::metrics::{Answer, Metrics, status_class};
use crate::net::InFlight;
use crate::ws::handshake::{Upgrade, upgrade_protocol};

/// By what requests are recorded.
#[derive(Clone, Debug)]
pub struct Recorder {
    pub metrics: Arc<Metrics>,
    /// The share of plain requests that went well which are logged.
    pub sample: f64,
}

/// The service that records what becomes of each request to `inner`.
pub fn record(by: Recorder, mut inner: impl HttpService) -> impl HttpService<Infallible> {
    service_fn(move |request: Request<Body>| -> Reply<Infallible> {
        let Some(exchange) = request.extensions().get::<Exchange>().cloned() else {
            // Only a caller that is not a connection leaves it out.
            let answer = inner.call(request);
            return Box::pin(async { Ok(answer.await.unwrap_or_else(Refusal::into_response)) });
        };
        // Before the future is first polled: hyper reads on in between.
        let in_flight = exchange.link.begin();
        let line = Line {
            record: exchange.record.clone(),
            by: by.clone(),
        };
        let asks_upgrade = upgrade_protocol(request.headers()) != Upgrade::None;
        if asks_upgrade {
            exchange.record.update(|entry| entry.is_handshake = true);
        }
        let answer = inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            // No answer, not even a refusal, may overtake an interim response.
            exchange.link.interim_sent().await;
            let mut response = match answer {
                Ok(response) => response,
                Err(refusal) => {
                    line.refused(&refusal);
                    refusal.into_response()
                }
            };
            if asks_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                // What the client sent behind its head may have been meant for
                // a tunnel; it must not be read as a request.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            line.record
                .update(|entry| entry.status = Some(response.status()));
            Ok(response.map(|inner| {
                Body::streamed(Recorded {
                    inner,
                    line,
                    _in_flight: in_flight,
                })
            }))
        })
    })
}

/// Writes the access line when dropped, so that a client that leaves before
/// the answer gets its line too.
struct Line {
    record: Record,
    by: Recorder,
}

impl Line {
    fn refused(&self, refusal: &Refusal) {
        self.by.metrics.refused(refusal.label());
        self.record.update(|entry| entry.refuse(refusal));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.record.update(|entry| conclude(entry, &self.by));
    }
}

fn conclude(entry: &mut Entry, by: &Recorder) {
    let metrics = &by.metrics;
    if entry.is_tunnel {
        return;
    }
    let outcome = match entry.status {
        Some(status) => {
            let status = status_class(status);
            metrics.requests.get(&Answer { status }).inc();
            let refused = entry.refusal.as_ref().map(|(label, _)| *label);
            refused.unwrap_or("answered")
        }
        None => {
            let refusal = match entry.client.place.watch.stage() {
                Stage::Ending => Refusal::Stopping,
                Stage::Running | Stage::Draining => Refusal::ClientLeft,
            };
            metrics.refused(refusal.label());
            entry.refuse(&refusal);
            refusal.label()
        }
    };
    if entry.is_handshake {
        let route = entry.route.as_ref();
        metrics.shaken(route, outcome, entry.started.elapsed());
        entry.end_span();
    }
    if entry.went_badly() || by.sample >= 1.0 || rand::random::<f64>() < by.sample {
        entry.log_request();
    }
}

/// A response body that is counted, and holds what lives until it ends.
struct Recorded {
    inner: Body,
    line: Line,
    _in_flight: InFlight,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.line.record.update(|entry| entry.bytes_out += bytes);
            }
            Some(Err(error)) => {
                let why = error.to_string();
                self.line.record.update(|entry| entry.cut = Some(why));
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
