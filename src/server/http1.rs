//! HTTP/1.1 on one connection, through hyper.
//!
//! A connection that becomes a tunnel leaves here at the 101: its socket goes to
//! [`crate::proxy`], and this task ends.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::connection::{log_refusal, of_fault, read_deadlines};
use super::entrance::Entrance;
use crate::config::Config;
use crate::drain::{Stage, Watch};
use crate::exchange::{Body, ClientUpgrade, Refusal, Reply};
use crate::net::{ClientIo, ClientLink, ReadDeadlines, Transport};

/// How long and how much is read of a client that has been told goodbye.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1024;

/// hyper's smallest read buffer.
const MIN_BUFFER: usize = 8 * 1024;

/// The number of headers for which hyper has room on its stack; it allocates and
/// fills memory for each head once it is told a number, even this one.
const HYPERS_HEADERS: usize = 100;

/// How HTTP/1.1 is spoken on one connection.
pub(super) struct Http1 {
    builder: http1::Builder,
    deadlines: ReadDeadlines,
    /// For a client that takes no bytes.
    patience: Duration,
}

impl Http1 {
    pub(super) fn new(config: &Config) -> Self {
        let limits = &config.limits;
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // `ClientIo` has deadlines of its own, which tell waiting for a
            // request from receiving one.
            .header_read_timeout(None)
            .preserve_header_case(true)
            .max_header_size(limits.max_request_head)
            .max_buf_size(limits.max_request_head.max(MIN_BUFFER));
        if limits.max_request_headers != HYPERS_HEADERS {
            builder.max_headers(limits.max_request_headers);
        }
        let deadlines = read_deadlines(limits);
        Self {
            builder,
            deadlines,
            patience: config.tcp.user_timeout,
        }
    }

    /// `ahead` has been read from the transport before.
    pub(super) async fn serve(
        self,
        (transport, ahead): (Transport, Bytes),
        entrance: Entrance,
        mut watch: Watch,
        mut listener: Watch,
    ) {
        let (client, link) = (Arc::clone(&entrance.client), Arc::<ClientLink>::default());
        let metrics = Arc::clone(&entrance.context.state.metrics);
        let refused_upgrade = Arc::default();
        let io = ClientIo::new(transport, ahead, Arc::clone(&link), self.deadlines)
            .with_patience(self.patience);
        let service = Service {
            entrance,
            link: Arc::clone(&link),
            refused_upgrade: Arc::clone(&refused_upgrade),
        };
        let connection = self
            .builder
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        // Polled whenever the connection is, so there is one for each thing to come.
        let (mut next, mut removed) = (Stage::Draining, false);
        let ended = loop {
            tokio::select! {
                biased;
                () = watch.reached(next) => {
                    if next == Stage::Ending {
                        return;
                    }
                    next = Stage::Ending;
                }
                // An edit has removed the listener.
                () = listener.reached(Stage::Draining), if !removed => removed = true,
                ended = &mut connection => break ended,
            }
            connection.as_mut().graceful_shutdown();
        };
        // hyper gives up a connection that was asked to upgrade, whatever the
        // answer, and leaves its end to whoever asked.
        let left_over = refused_upgrade
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(left_over) = left_over {
            shut_down(left_over).await;
        }
        if let Err(error) = &ended {
            tracing::debug!(client = %client.peer, %error, "client connection ended");
        }
        if let Some(refusal) = refusal(&link, ended.as_ref().err()) {
            log_refusal(&client, &metrics, &refusal);
        }
    }
}

/// What went wrong before there was a request; requests have their own lines.
fn refusal(link: &ClientLink, error: Option<&hyper::Error>) -> Option<Refusal> {
    match (link.fault(), error) {
        (Some(fault), _) => of_fault(fault),
        (None, Some(error)) if error.is_parse() => {
            let text = error.to_string();
            let status = match error.is_parse_too_large() {
                true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                // hyper has no other name for this one (and answers it with 414).
                false if text.contains("URI too long") => StatusCode::URI_TOO_LONG,
                false => StatusCode::BAD_REQUEST,
            };
            Some(Refusal::BadHead(status, text))
        }
        // A client that goes away is not worth a line.
        (None, _) => None,
    }
}

/// What hyper calls for each request.
struct Service {
    entrance: Entrance,
    link: Arc<ClientLink>,
    /// Of the last request that asked for an upgrade and did not get it.
    refused_upgrade: Arc<Mutex<Option<OnUpgrade>>>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Reply<Infallible>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let extensions = request.extensions_mut();
        let Some(asked) = extensions.remove::<OnUpgrade>() else {
            return self.entrance.call(request, &self.link);
        };
        extensions.insert(ClientUpgrade::of_connection(asked.clone()));
        let answer = self.entrance.call(request, &self.link);
        let refused_upgrade = Arc::clone(&self.refused_upgrade);
        Box::pin(async move {
            let response = answer.await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let mut slot = refused_upgrade
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *slot = Some(asked);
            }
            Ok(response)
        })
    }
}

/// Ends a connection that hyper has left to us: says goodbye, and reads on for
/// a moment, because closing with unread bytes would reset the client before it
/// has read the answer.
async fn shut_down(left_over: OnUpgrade) {
    let ending = async {
        let mut io = TokioIo::new(left_over.await.ok()?);
        io.shutdown().await.ok()?;
        let mut rest = io.take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink())
            .await
            .ok()
    };
    // Whatever comes of it, the connection goes.
    let _ = timeout(LINGER, ending).await;
}
