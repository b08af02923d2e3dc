//! What a request is called by those who follow it: its `X-Request-Id`, and the
//! trace that its `traceparent` names (W3C Trace Context).
//!
//! An id is passed on from trusted proxies and otherwise made; a trace is passed
//! on from anyone, or begun if the config says so. Where spans are exported
//! (`[traces]`), a handshake of a sampled trace gets one, and what is passed on
//! names it as the parent.
//!
//! Invariant: with `request_id` set, a backend never sees an id of an untrusted
//! peer, and exactly one.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::{Settled, is_trusted};
use crate::config::TraceContext;
use crate::exchange::headers::{REQUEST_ID, remove};
use crate::exchange::{Body, Exchange};
use crate::spans::{Begun, Spans, some_id};
use crate::ws::handshake::{Upgrade, upgrade_protocol};

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest id that is taken from a trusted proxy.
const LONGEST_ID: usize = 128;

/// The only version of `traceparent` that there is, and its length.
const VERSION: &str = "00";
const LENGTH: usize = 55;

/// Names the request, and notes the names in its record.
pub(super) fn settle(request: &mut Request<Body>, by: &Settled) {
    let Some(exchange) = request.extensions().get::<Exchange>() else {
        return;
    };
    let trusted = is_trusted(&exchange.client, &by.trusted);
    let record = exchange.record.clone();
    let headers = request.headers_mut();
    let id = by.request_id.then(|| request_id(headers, trusted));
    let (trace, span) = match &by.tracing {
        Some(tracing) if upgrade_protocol(headers) != Upgrade::None => tracing.begin(headers),
        _ => (trace(headers, by.trace_context), None),
    };
    if id.is_some() || trace.is_some() {
        record.update(|entry| {
            entry.request_id = id;
            entry.trace_id = trace;
            entry.span = span;
        });
    }
}

/// Sees to it that there is one id, and says which.
fn request_id(headers: &mut HeaderMap, trusted: bool) -> Box<str> {
    let told = headers.get(&REQUEST_ID).filter(|_| trusted);
    let told = told.and_then(|id| id.to_str().ok());
    let usable = |id: &&str| (1..=LONGEST_ID).contains(&id.len()) && !id.contains(' ');
    let id = match told.filter(usable) {
        Some(told) => told.to_owned(),
        None => format!("{:032x}", rand::random::<u128>()),
    };
    remove(headers, &REQUEST_ID);
    if let Ok(value) = HeaderValue::try_from(id.as_str()) {
        headers.insert(REQUEST_ID, value);
    }
    id.into()
}

/// The id of the trace that the request belongs to; begins one if there is none and
/// `context` says so.
fn trace(headers: &mut HeaderMap, context: TraceContext) -> Option<Box<str>> {
    let told = told(headers);
    if told.is_some() || context == TraceContext::Pass {
        return told.map(|told| told.trace_id());
    }
    // Sampled: many who come after record only what the first one asked for.
    let begun = Parent::new(SAMPLED);
    begun.write(headers);
    // It belongs to the parent that was none.
    headers.remove(&TRACE_STATE);
    Some(begun.trace_id())
}

/// Who has spans of handshakes.
#[derive(Debug)]
pub struct Tracing {
    pub spans: Arc<Spans>,
    /// Of the handshakes that belong to no trace.
    pub sample: f64,
}

impl Tracing {
    /// The trace of a handshake, which is begun if it has none, and its span if the
    /// trace is sampled.
    fn begin(&self, headers: &mut HeaderMap) -> (Option<Box<str>>, Option<Box<Begun>>) {
        let told = told(headers);
        let mut parent = told.unwrap_or_else(|| {
            headers.remove(&TRACE_STATE);
            let is_sampled = rand::random::<f64>() < self.sample;
            Parent::new(if is_sampled { SAMPLED } else { 0 })
        });
        let trace = Some(parent.trace_id());
        if parent.flags & SAMPLED == 0 {
            if told.is_none() {
                parent.write(headers);
            }
            return (trace, None);
        }
        let of = told.map(|told| told.span);
        let span = Begun::new(&self.spans, parent.trace, of);
        parent.span = span.id;
        parent.write(headers);
        (trace, Some(Box::new(span)))
    }
}

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace: u128,
    span: u64,
    flags: u8,
}

/// The flag that the others are to record too.
const SAMPLED: u8 = 1;

impl Parent {
    /// Of a new trace.
    fn new(flags: u8) -> Self {
        Self {
            // Zero would be no id.
            trace: rand::random::<u128>().max(1),
            span: some_id(),
            flags,
        }
    }

    fn trace_id(&self) -> Box<str> {
        format!("{:032x}", self.trace).into()
    }

    fn write(&self, headers: &mut HeaderMap) {
        let Self { trace, span, flags } = self;
        let value = format!("{VERSION}-{trace:032x}-{span:016x}-{flags:02x}");
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(TRACE_PARENT, value);
        }
    }
}

fn told(headers: &HeaderMap) -> Option<Parent> {
    let mut told = headers.get_all(&TRACE_PARENT).iter();
    match (told.next(), told.next()) {
        (Some(one), None) => one.to_str().ok().and_then(parent),
        _ => None,
    }
}

/// What a `traceparent` says, if it is one (section 3.2.2). Of versions to come,
/// what they have in common with the first.
fn parent(value: &str) -> Option<Parent> {
    let hex = |part: &str, length: usize| {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        part.len() == length && part.bytes().all(digit)
    };
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let mut parts = value.splitn(5, '-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (parent, flags) = (parts.next()?, parts.next()?);
    let whole = version != VERSION || value.len() == LENGTH;
    let good = hex(version, 2)
        && version != "ff"
        && whole
        && hex(trace, 32)
        && !zero(trace)
        && hex(parent, 16)
        && !zero(parent)
        && hex(flags, 2);
    let found = Parent {
        trace: u128::from_str_radix(trace, 16).ok()?,
        span: u64::from_str_radix(parent, 16).ok()?,
        flags: u8::from_str_radix(flags, 16).ok()?,
    };
    good.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TraceContext::{Begin, Pass};

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn trace_id(value: &str) -> Option<Box<str>> {
        parent(value).map(|parent| parent.trace_id())
    }

    fn tracing(sample: f64) -> Tracing {
        let spans = Arc::default();
        Tracing { spans, sample }
    }

    #[test]
    fn a_sampled_trace_gets_a_span_that_is_passed_on_as_the_parent() {
        let mut told = headers(&[("traceparent", PARENT), ("tracestate", "a=1")]);
        let (trace, span) = tracing(0.0).begin(&mut told);
        assert_eq!(trace.as_deref(), Some(TRACE));
        let span = span.unwrap();
        let passed = parent(told[TRACE_PARENT].to_str().unwrap()).unwrap();
        assert_eq!((passed.span, passed.flags), (span.id, SAMPLED));
        assert_eq!(passed.trace_id(), trace.unwrap());
        assert_eq!(told[TRACE_STATE], "a=1");
        // Whoever began it does not want it recorded.
        let unsampled = PARENT.replace("-01", "-00");
        let mut told = headers(&[("traceparent", &unsampled)]);
        let (trace, span) = tracing(1.0).begin(&mut told);
        assert_eq!(trace.as_deref(), Some(TRACE));
        assert!(span.is_none());
        assert_eq!(told[TRACE_PARENT], *unsampled);
    }

    #[test]
    fn a_trace_is_begun_with_the_flag_of_its_sample() {
        for sample in [0.0, 1.0] {
            let mut told = headers(&[("traceparent", "what"), ("tracestate", "a=1")]);
            let (trace, span) = tracing(sample).begin(&mut told);
            let passed = parent(told[TRACE_PARENT].to_str().unwrap()).unwrap();
            assert_eq!(f64::from(passed.flags), sample);
            assert_eq!(Some(passed.trace_id()), trace);
            assert_eq!(span.map(|span| span.id).unwrap_or(passed.span), passed.span);
            assert_eq!(told.len(), 1);
        }
    }

    #[test]
    fn what_is_a_trace_parent() {
        assert_eq!(trace_id(PARENT).as_deref(), Some(TRACE));
        let later = format!("{}-more", PARENT.replacen("00", "cc", 1));
        assert_eq!(trace_id(&later).as_deref(), Some(TRACE));
        for wrong in [
            &PARENT.replacen("00", "ff", 1),
            &PARENT.to_uppercase(),
            &PARENT.replace("4bf", "4bg"),
            &PARENT.replace(TRACE, &"0".repeat(32)),
            &PARENT.replace("00f067aa0ba902b7", "0000000000000000"),
            &format!("{PARENT}-more"),
            &PARENT[..LENGTH - 1].to_owned(),
            &String::new(),
        ] {
            assert_eq!(trace_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_trace_is_passed_on_untouched_or_begun() {
        let mut told = headers(&[("traceparent", PARENT), ("tracestate", "a=1")]);
        let before = told.clone();
        for context in [Pass, Begin] {
            assert_eq!(trace(&mut told, context).as_deref(), Some(TRACE));
            assert_eq!(told, before);
        }
        let wrong = [("traceparent", "what"), ("tracestate", "a=1")];
        let twice = [("traceparent", PARENT), ("traceparent", PARENT)];
        for pairs in [&[][..], &wrong, &twice] {
            let mut told = headers(pairs);
            let before = told.clone();
            assert_eq!(trace(&mut told, Pass), None);
            assert_eq!(told, before);
            let begun = trace(&mut told, Begin).unwrap();
            let value = told[TRACE_PARENT].to_str().unwrap();
            assert_eq!(trace_id(value), Some(begun));
            assert_eq!(
                (told.get_all(TRACE_PARENT).iter().count(), told.len()),
                (1, 1)
            );
        }
    }

    #[test]
    fn an_id_is_believed_of_trusted_proxies_only() {
        let told = || {
            headers(&[
                ("x-request-id", "abc-1"),
                ("x_request_id", "evil"),
                ("x-request_id", "evil"),
            ])
        };
        let mut believed = told();
        assert_eq!(&*request_id(&mut believed, true), "abc-1");
        let seen = believed[REQUEST_ID].to_str().unwrap();
        assert_eq!((seen, believed.len()), ("abc-1", 1));
        let long = "a".repeat(LONGEST_ID + 1);
        for (mut told, trusted) in [
            (told(), false),
            (headers(&[]), true),
            (headers(&[("x-request-id", long.as_str())]), true),
            (headers(&[("x-request-id", "a b")]), true),
        ] {
            let id = request_id(&mut told, trusted);
            assert_eq!(id.len(), 32, "{id}");
            assert_eq!((told[REQUEST_ID].to_str().unwrap(), told.len()), (&*id, 1));
        }
    }
}
