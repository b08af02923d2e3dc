//! Whose certificate a client has shown, for backends: `subject_header` of
//! `client_certificates`.
//!
//! Every listener takes off the headers that any of them sets: a client must not
//! be able to come by another door and say itself what this one would have proved.
//!
//! Invariant: a backend sees such a header only if longhaul has verified the
//! certificate that it tells of.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request};

use crate::config::{Config, Listener};
use crate::exchange::headers::withdraw;
use crate::exchange::{Body, Exchange};

/// The headers that tell of certificates.
#[derive(Debug)]
pub struct Subject {
    /// Of the listener itself.
    own: Option<HeaderName>,
    /// Of all listeners.
    all: Vec<HeaderName>,
}

impl Subject {
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
            all,
        }
    }

    pub(super) fn settle(&self, request: &mut Request<Body>) {
        let exchange = request.extensions().get::<Exchange>();
        let Some(exchange) = exchange.filter(|_| !self.all.is_empty()) else {
            return;
        };
        let client = Arc::clone(&exchange.client);
        for name in &self.all {
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
