//! Sends spans to a collector, by OTLP over HTTP in protobuf (`[traces]`).
//!
//! One task for the process, which gathers what waits and posts it. Requests and
//! tunnels never come here: they leave their spans in the queue.
//!
//! Invariant: a collector that is slow, dead or hostile holds up nobody but this
//! task, which holds one batch, and every span that it does not take is counted.

mod encode;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::config::Traces;
use crate::exchange::Body;
use crate::fetch::{AskError, Question, ask};
use crate::metrics::{Metrics, OfResult};
use crate::net::Resolver;
use crate::spans::{Span, Spans};

/// Spans in one request.
const BATCH: usize = 512;
/// How long they are gathered before it.
const GATHER: Duration = Duration::from_millis(200);
/// After a failure; doubled with each.
const AGAIN: Duration = Duration::from_secs(1);
/// What fails is tried again, at last so seldom.
const SELDOM: Duration = Duration::from_secs(30);
/// For the last of them when the process ends.
const LAST: Duration = Duration::from_secs(1);
/// Of an answer.
const MOST_ANSWER: usize = 64 * 1024;

/// A collector, and how it is reached.
#[derive(Debug)]
pub struct Collector {
    pub settings: Traces,
    /// `None` for plain HTTP.
    pub tls: Option<Arc<ClientConfig>>,
}

#[derive(Clone, Debug)]
enum Order {
    To(Option<Arc<Collector>>),
    /// Send what waits, and end.
    Last(Option<Arc<Collector>>),
}

impl Order {
    fn collector(&self) -> Option<&Arc<Collector>> {
        match self {
            Self::To(collector) | Self::Last(collector) => collector.as_ref(),
        }
    }
}

/// The task that sends; it ends when this is dropped.
#[derive(Debug)]
pub struct Exporter {
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Sends nothing until it is told where. Called within a runtime.
    pub fn start(spans: Arc<Spans>, metrics: Arc<Metrics>) -> Self {
        let (orders, receiver) = watch::channel(Order::To(None));
        let task = Sender {
            spans,
            metrics,
            orders: receiver,
            resolver: Resolver::default(),
            failures: 0,
            told: None,
        };
        Self {
            orders,
            task: tokio::spawn(task.run()),
        }
    }

    /// Goes on to this collector; nothing happens if it did so already.
    pub fn follow(&self, collector: Option<&Arc<Collector>>) {
        self.orders.send_if_modified(|order| {
            let is_same = match (order.collector(), collector) {
                (None, None) => true,
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                _ => false,
            };
            if !is_same {
                *order = Order::To(collector.cloned());
            }
            !is_same
        });
    }

    /// Sends what waits, for [`LAST`] at most.
    pub async fn end(mut self) {
        self.orders
            .send_modify(|order| *order = Order::Last(order.collector().cloned()));
        let _ = timeout(LAST, &mut self.task).await;
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What became of a batch.
enum Sent {
    /// How many of them the collector did not want.
    Taken {
        refused: u64,
    },
    Refused(AskError),
    /// It may be taken later.
    Failed(AskError),
}

struct Sender {
    spans: Arc<Spans>,
    metrics: Arc<Metrics>,
    orders: watch::Receiver<Order>,
    resolver: Resolver,
    /// In a row.
    failures: u32,
    /// Why the last one failed.
    told: Option<String>,
}

impl Sender {
    async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            let order = self.orders.borrow_and_update().clone();
            let is_last = matches!(order, Order::Last(_));
            let Some(collector) = order.collector() else {
                self.spans.forget(batch.len());
                batch.clear();
                if is_last || self.orders.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if batch.is_empty() {
                if !is_last && !self.gather().await {
                    continue;
                }
                batch = self.spans.take(BATCH);
                if batch.is_empty() {
                    match is_last {
                        true => return,
                        false => continue,
                    }
                }
            }
            let sent = self.send(collector, &batch).await;
            let is_done = self.settle(collector, sent, batch.len() as u64);
            if is_done {
                batch.clear();
            } else if is_last {
                return;
            } else {
                self.wait().await;
            }
        }
    }

    /// Waits for spans, and a moment for more of them; `false` if there is another
    /// order.
    async fn gather(&mut self) -> bool {
        let gathered = async {
            self.spans.some().await;
            sleep(GATHER).await;
        };
        tokio::select! {
            () = gathered => true,
            _ = self.orders.changed() => false,
        }
    }

    /// Before a batch is tried again; another order may have mended what was wrong.
    async fn wait(&mut self) {
        let doubled = 2_u32.saturating_pow(self.failures.saturating_sub(1));
        let pause = AGAIN.saturating_mul(doubled).min(SELDOM);
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.orders.changed() => {}
        }
    }

    async fn send(&self, collector: &Collector, batch: &[Span]) -> Sent {
        let settings = &collector.settings;
        let question = Question {
            url: &settings.endpoint,
            tls: collector.tls.as_ref(),
            resolver: &self.resolver,
            timeout: settings.timeout,
            most: MOST_ANSWER,
        };
        let body = encode::request(batch, &settings.service_name);
        match ask(&question, post(settings, body)).await {
            Ok(answer) => Sent::Taken {
                refused: refused(&answer),
            },
            Err(error) => match error {
                // It has taken them; what more it says has not come.
                AskError::Body(_) => Sent::Taken { refused: 0 },
                AskError::Status(status) if status.is_success() => Sent::Taken { refused: 0 },
                AskError::Status(status) if !is_retryable(status) => Sent::Refused(error),
                _ => Sent::Failed(error),
            },
        }
    }

    /// Counts and tells what became of so many; whether that was all for them.
    fn settle(&mut self, collector: &Collector, sent: Sent, length: u64) -> bool {
        let count = |result, of: u64| {
            self.metrics.spans.get(&OfResult { result }).inc_by(of);
        };
        let endpoint = &*collector.settings.endpoint.text;
        let (is_done, error) = match sent {
            Sent::Taken { refused } => {
                let refused = refused.min(length);
                count("exported", length - refused);
                count("refused", refused);
                if self.failures > 0 {
                    tracing::info!(endpoint, "spans can be exported again");
                }
                self.failures = 0;
                self.told = None;
                return true;
            }
            Sent::Refused(error) => {
                count("refused", length);
                self.failures = 0;
                (true, error)
            }
            Sent::Failed(error) => {
                self.failures = self.failures.saturating_add(1);
                (false, error)
            }
        };
        let error = error.to_string();
        if self.told.as_ref() != Some(&error) {
            tracing::warn!(endpoint, error, "spans are not exported");
            self.told = Some(error);
        }
        is_done
    }
}

/// By the protocol's own list; whatever else a collector says, it will say again.
fn is_retryable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// How many spans a collector that has answered did not want.
fn refused(answer: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(answer).ok();
    let partial = answer.and_then(|answer| answer.partial_success);
    partial.map_or(0, |it| u64::try_from(it.rejected_spans).unwrap_or(0))
}

fn post(settings: &Traces, body: Vec<u8>) -> Request<Body> {
    let mut request = Request::new(Body::full(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    for (name, value) in &settings.headers {
        headers.insert(name, value.clone());
    }
    let kind = HeaderValue::from_static("application/x-protobuf");
    headers.insert(header::CONTENT_TYPE, kind);
    let agent = concat!("longhaul/", env!("CARGO_PKG_VERSION"), " (traces)");
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    request
}
