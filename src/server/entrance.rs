//! Where requests come in, whichever protocol they came by: takes the snapshot
//! of the moment, makes a record, and runs the listener's stack of that snapshot.
//!
//! It neither reads nor writes the connection.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body::Body as HttpBody;

use super::Context;
use crate::exchange::{
    self, Body, BodyError, Client, ContinueGate, Exchange, Hidden, Record, Reply, RequestBody,
};
use crate::net::ClientLink;
use crate::state::{ListenerState, Snapshot};

/// One connection's way in.
pub(super) struct Entrance {
    pub(super) context: Arc<Context>,
    pub(super) client: Arc<Client>,
    /// For a listener that an edit has removed: its connections go on.
    pub(super) last: Arc<ListenerState>,
}

impl Entrance {
    /// Answers one request.
    pub(super) fn call<B>(&self, request: Request<B>, link: &Arc<ClientLink>) -> Reply<Infallible>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        BodyError: From<B::Error>,
    {
        if let Some(proof) = self.proof(&request) {
            return Box::pin(async { Ok(Response::new(Body::full(proof))) });
        }
        let snapshot = self.context.state.snapshot();
        let listener = snapshot
            .listeners
            .get(&*self.client.listener)
            .unwrap_or(&self.last);
        let request = self.dress(request, link, &snapshot);
        listener.stack.call(request)
    }

    /// What a CA is shown that looks for a token: on a plain listener, before
    /// anything that could turn it away.
    fn proof<B>(&self, request: &Request<B>) -> Option<String> {
        if self.client.tls.is_some() || request.method() != Method::GET {
            return None;
        }
        let proof = self.context.state.acme.answer(request.uri().path())?;
        let client = &self.client;
        tracing::info!(listener = &*client.listener, client = %client.peer, "acme proof shown");
        Some(proof)
    }

    /// Makes a received request one of ours.
    fn dress<B>(
        &self,
        request: Request<B>,
        link: &Arc<ClientLink>,
        snapshot: &Snapshot,
    ) -> Request<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        BodyError: From<B::Error>,
    {
        let host = host(&request);
        let config = &snapshot.config;
        let hidden = match config.log.query_values {
            // No route is known yet that could say which of them is its token.
            true => Hidden::Named(&snapshot.token_queries),
            false => Hidden::All,
        };
        let path = exchange::loggable_path(request.uri(), hidden);
        let record = Record::new(
            Arc::clone(&self.client),
            request.method().clone(),
            host,
            path,
        );
        let gate = expects_continue(request.headers()).then(ContinueGate::default);
        let timeout = config.limits.request_body_timeout;
        let mut request = request.map(|incoming| {
            let link = Arc::clone(link);
            RequestBody::wrap(incoming, link, record.clone(), timeout, gate.clone())
        });
        let extensions = request.extensions_mut();
        if let Some(gate) = gate {
            extensions.insert(gate);
        }
        extensions.insert(Exchange {
            client: Arc::clone(&self.client),
            link: Arc::clone(link),
            record,
            client_ip: self.client.peer.ip(),
            is_placed: true,
            speaks_for_others: false,
            secure: self.client.is_secure(),
            certified: false,
        });
        request
    }
}

fn host<B>(request: &Request<B>) -> String {
    let named = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or(named)
        .unwrap_or("")
        .to_owned()
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
