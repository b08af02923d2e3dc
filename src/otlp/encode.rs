//! Spans as a request of OTLP, in protobuf.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{self, ResourceSpans, ScopeSpans, Status};
use prost::Message;

use crate::spans::{Span, Value};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Of `flags` (W3C Trace Context): all that are sent are.
const SAMPLED: u32 = 1;

/// A request with all of these, as the service of this name.
pub(super) fn request(spans: &[Span], service: &str) -> Vec<u8> {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    let resource = Resource {
        attributes: vec![
            text("service.name", service),
            text("service.version", VERSION),
            text("host.name", &host),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "longhaul".to_owned(),
        version: VERSION.to_owned(),
        ..InstrumentationScope::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.iter().map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}

fn span(span: &Span) -> v1::Span {
    use v1::span::SpanKind;
    use v1::status::StatusCode;
    let kind = match span.is_server {
        true => SpanKind::Server,
        false => SpanKind::Internal,
    };
    let parent = span.parent.map(|id| id.to_be_bytes().to_vec());
    v1::Span {
        trace_id: span.trace_id.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        parent_span_id: parent.unwrap_or_default(),
        flags: SAMPLED,
        name: span.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: nanoseconds(span.start),
        end_time_unix_nano: nanoseconds(span.end),
        attributes: span.attributes.iter().map(attribute).collect(),
        status: span.is_error.then(|| Status {
            code: StatusCode::Error.into(),
            ..Status::default()
        }),
        ..v1::Span::default()
    }
}

fn attribute((key, value): &(&'static str, Value)) -> KeyValue {
    match value {
        Value::Text(value) => text(key, value),
        Value::Number(number) => key_value(key, Any::IntValue(*number)),
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    key_value(key, Any::StringValue(value.to_owned()))
}

fn key_value(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
