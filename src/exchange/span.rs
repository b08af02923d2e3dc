//! What the span of a handshake says, in the words of OpenTelemetry's semantic
//! conventions for HTTP where there are any.

use super::Entry;
use crate::spans::Span;

impl Entry {
    /// Ends the span of a handshake, if it has one, and has it sent.
    pub fn end_span(&self) {
        let Some(begun) = &self.span else {
            return;
        };
        let route = self.route.as_deref().unwrap_or_default();
        let name = format!("{} {route}", self.method);
        begun.end(name.trim_end().to_owned(), self.started.elapsed(), |span| {
            span.is_server = true;
            self.tell_request(span);
            self.tell_client(span);
            self.tell_answer(span);
            if let Some(dial) = begun.dial {
                span.number("longhaul.dial_ms", dial.as_millis());
            }
        });
    }

    fn tell_request(&self, span: &mut Span) {
        span.text("http.request.method", &self.method);
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*self.path, None),
        };
        span.text("url.path", path);
        span.text_of("url.query", query);
        let is_secure = self.client.is_secure();
        span.text("url.scheme", if is_secure { "https" } else { "http" });
        span.text("server.address", &self.host);
        span.text("network.protocol.name", "http");
        span.text("network.protocol.version", self.client.http.label());
        let tls = self.client.tls.as_ref();
        let version = tls.map(|tls| tls.version.trim_start_matches("TLSv"));
        span.text_of("tls.protocol.version", version);
    }

    fn tell_client(&self, span: &mut Span) {
        let peer = self.client.peer.ip();
        match &self.forwarded_for {
            Some(told) => span.text("client.address", told),
            None => span.text_of("client.address", peer),
        }
        span.text_of("network.peer.address", peer);
    }

    fn tell_answer(&self, span: &mut Span) {
        if let Some(status) = self.status {
            span.number("http.response.status_code", status.as_u16());
        }
        // 4xx is the client's error, not this span's.
        span.is_error = self.status.is_none_or(|status| status.is_server_error());
        if let Some((label, _)) = &self.refusal {
            span.text("longhaul.refusal", label);
            if span.is_error {
                span.text("error.type", label);
            }
        } else if let Some(status) = self.status.filter(|_| span.is_error) {
            span.text("error.type", status.as_u16());
        }
        span.number("longhaul.id", self.id);
        span.text("longhaul.listener", &self.client.listener);
        span.text_of("longhaul.route", self.route.as_deref());
        span.text_of("longhaul.upstream", self.upstream.as_deref());
        span.text_of("longhaul.backend", self.backend.as_deref());
    }
}
