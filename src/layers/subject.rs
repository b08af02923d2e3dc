//! Whose certificate a client has shown, for backends: `subject_header` of
//! `client_certificates`.
//!
//! Every listener takes off the headers that any of them sets: a client must not
//! be able to come by another door and say itself what this one would have proved.
//!
//! Invariant: a backend sees such a header only if longhaul has verified the
//! certificate that it tells of.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};

use crate::config::{Config, Listener};
use crate::exchange::headers::withdraw;
use crate::exchange::{Body, Client, Exchange, Refusal};

#[derive(Clone, Debug)]
pub struct SubjectLayer {
    /// Of the listener itself.
    own: Option<HeaderName>,
    /// Of all listeners.
    all: Arc<[HeaderName]>,
}

impl SubjectLayer {
    /// For requests that come by `listener`.
    pub fn by(config: &Config, listener: Option<&Listener>) -> Self {
        let of = |listener: &Listener| {
            listener
                .client_certificates
                .as_ref()?
                .subject_header
                .clone()
        };
        let mut all: Vec<_> = config.listeners.values().filter_map(of).collect();
        all.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        all.dedup();
        Self {
            own: listener.and_then(of),
            all: all.into(),
        }
    }

    fn write(&self, client: &Client, request: &mut Request<Body>) {
        for name in &*self.all {
            withdraw(request, name);
        }
        let tls = client.tls.as_ref();
        let subject = tls.and_then(|tls| tls.client_subject.as_deref());
        // A certificate without a subject names nobody.
        let subject = subject.filter(|subject| !subject.is_empty());
        let value = subject.and_then(|subject| HeaderValue::from_str(subject).ok());
        if let (Some(name), Some(value)) = (&self.own, value) {
            request.headers_mut().insert(name, value);
        }
    }
}

#[derive(Clone, Debug)]
pub struct SubjectService<S> {
    inner: S,
    layer: SubjectLayer,
}

impl<S> Layer<S> for SubjectLayer {
    type Service = SubjectService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SubjectService {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S> Service<Request<Body>> for SubjectService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Refusal>,
{
    type Response = Response<Body>;
    type Error = Refusal;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if !self.layer.all.is_empty()
            && let Some(exchange) = request.extensions().get::<Exchange>()
        {
            let client = Arc::clone(&exchange.client);
            self.layer.write(&client, &mut request);
        }
        self.inner.call(request)
    }
}
