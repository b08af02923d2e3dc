//! Spans of handshakes and tunnels, as a collector gets them: decoded by OpenTelemetry's own
//! messages.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::kit::{
    Authority, Echo, End, Over, Proxy, RawBackend, Setup, Site, Wire, handshake, nobody, over_each,
    soon,
};

over_each!(
    a_handshake_and_its_tunnel_are_spans_of_one_trace,
    a_refused_handshake_is_a_span_and_what_nobody_samples_is_none,
    what_a_collector_does_not_take_holds_nobody_up_and_comes_later,
    a_collector_is_verified_and_is_shown_the_headers_it_wants,
    the_last_spans_come_before_the_end,
    nothing_is_sent_or_rewritten_without_a_collector,
);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{CALLER}-{flags}\r\n")
}

fn traces(address: &str) -> String {
    format!("[traces]\nendpoint = 'http://{address}/v1/traces'\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Attributes as text, by key.
fn attributes(of: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |it: &KeyValue| match it.value.as_ref().and_then(|it| it.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    of.iter().map(|it| (it.key.as_str(), text(it))).collect()
}

/// The next request to the collector, which is not answered yet.
async fn posted(collector: &RawBackend) -> (Wire, ExportTraceServiceRequest) {
    let mut wire = collector.accept().await;
    let request = wire.request().await;
    assert_eq!((&*request.method, &*request.target), ("POST", "/v1/traces"));
    let header = |name| request.header(name).unwrap_or_default().to_owned();
    assert_eq!(header("content-type"), "application/x-protobuf");
    let length = header("content-length").parse().expect("a length");
    let body = wire.take(length).await;
    let decoded = ExportTraceServiceRequest::decode(&*body).expect("OTLP");
    (wire, decoded)
}

async fn answer(mut wire: Wire, status: &str) {
    wire.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"))
        .await;
}

/// So many spans, in the order in which they come; every request is taken.
async fn spans(collector: &RawBackend, wanted: usize) -> Vec<Span> {
    let mut found = Vec::new();
    while found.len() < wanted {
        let (wire, request) = posted(collector).await;
        answer(wire, "200 OK").await;
        for of in request.resource_spans {
            let resource = of.resource.expect("a resource");
            assert_eq!(attributes(&resource.attributes)["service.name"], "longhaul");
            found.extend(of.scope_spans.into_iter().flat_map(|it| it.spans));
        }
    }
    assert_eq!(found.len(), wanted, "{found:?}");
    found
}

async fn a_handshake_and_its_tunnel_are_spans_of_one_trace(over: Over) {
    let (backend, collector) = (Echo::start("a").await, RawBackend::start().await);
    let site = Site::one(backend.address())
        .route("name = 'chat'")
        .more(&traces(collector.address()));
    let proxy = Proxy::start(site).await.over(over);
    let mut ws = proxy
        .ws_with("/room?token=secret", &traceparent("01"))
        .await;
    assert_eq!(ws.greeting().await, "a");
    ws.echo("hello").await;
    ws.close(1000).await;
    let spans = spans(&collector, 2).await;
    let (shake, tunnel) = (&spans[0], &spans[1]);
    // The client's span is above the handshake's, and that above the tunnel's and whatever
    // the backend does.
    for span in [shake, tunnel] {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert_eq!(span.status, None);
    }
    assert_eq!(hex(&shake.parent_span_id), CALLER);
    assert_eq!(tunnel.parent_span_id, shake.span_id);
    let seen = backend.requests().pop().expect("a request");
    let passed = format!("00-{TRACE}-{}-01", hex(&shake.span_id));
    assert_eq!(seen.header("traceparent"), Some(&*passed));

    let facts = attributes(&shake.attributes);
    for (key, value) in [
        ("url.path", "/room"),
        ("url.query", "token=*"),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
        ("longhaul.route", "chat"),
        ("longhaul.upstream", "app"),
        ("longhaul.backend", "a"),
    ] {
        assert_eq!(facts[key], value, "{key}");
    }
    assert!(facts.contains_key("longhaul.dial_ms"), "{facts:?}");
    let (status, version) = match over {
        Over::Http1 => ("101", "1.1"),
        Over::Http2 => ("200", "2"),
    };
    assert_eq!(facts["http.response.status_code"], status);
    assert_eq!(facts["network.protocol.version"], version);
    // SERVER and INTERNAL.
    assert_eq!((shake.kind, tunnel.kind), (2, 1));
    assert_eq!(tunnel.name, "tunnel chat");
    let facts = attributes(&tunnel.attributes);
    let closed = proxy.log.wait("tunnel closed", &[]).await;
    for key in ["ended_by", "cause"] {
        assert_eq!(facts[&*format!("longhaul.{key}")], closed.text(key));
    }
    for key in ["id", "bytes_in", "bytes_out", "messages_in", "messages_out"] {
        let told = &facts[&*format!("longhaul.{key}")];
        assert_eq!(*told, closed.number(key).to_string(), "{key}");
    }
    let exported = "longhaul_spans_total{result=\"exported\"}";
    assert_eq!(proxy.metric(exported).await, 2.0);
}

async fn a_refused_handshake_is_a_span_and_what_nobody_samples_is_none(over: Over) {
    let (backend, collector) = (Echo::start("a").await, RawBackend::start().await);
    let dead = nobody().await;
    let site = Site::one(backend.address())
        .route("allowed_origins = ['https://here.test']\nmissing_origin = 'refuse'")
        .more(&format!(
            "[[routes]]\npath = '/dead'\nupstream = 'dead'\n\
             [upstreams.dead]\nbackends = [{{ address = '{dead}' }}]\n{}sample = 0\n",
            traces(collector.address())
        ));
    let proxy = Proxy::start(site).await.over(over);
    for (target, lines, status) in [
        // Neither by the client nor by `sample`, and no plain request.
        ("/", traceparent("00"), 403),
        ("/", String::new(), 403),
        ("/", traceparent("01"), 403),
        ("/dead", traceparent("01"), 502),
    ] {
        let mut wire = proxy.connect().await;
        wire.send(handshake(target, "localhost", &lines)).await;
        assert_eq!(wire.response_head().await.status, status);
    }
    assert_eq!(
        proxy.get_with("/", &traceparent("01")).await.head.status,
        200
    );
    let spans = spans(&collector, 2).await;
    let facts = attributes(&spans[0].attributes);
    assert_eq!(facts["longhaul.refusal"], "origin_not_allowed");
    assert_eq!(facts["http.response.status_code"], "403");
    assert_eq!(spans[0].status, None, "it is the client's error");
    let facts = attributes(&spans[1].attributes);
    assert_eq!(facts["error.type"], facts["longhaul.refusal"]);
    assert_eq!(spans[1].status.as_ref().map(|it| it.code), Some(2));
    let seen = backend.requests().pop().expect("the plain request");
    let passed = traceparent("01");
    assert_eq!(
        Some(passed.trim_end().trim_start_matches("traceparent: ")),
        seen.header("traceparent")
    );
}

async fn what_a_collector_does_not_take_holds_nobody_up_and_comes_later(over: Over) {
    let (backend, collector) = (Echo::start("a").await, RawBackend::start().await);
    let dead = nobody().await;
    let site = |more: &str| Site::one(backend.address()).more(more);
    let proxy = Proxy::start(site(&traces(&dead))).await.over(over);
    let warned = async |word: &str| {
        let not_taken = |event: &crate::kit::Event| {
            event.message == "spans are not exported" && event.text("error").contains(word)
        };
        proxy.log.wait_for(not_taken).await;
    };
    let tunnel = async || {
        let mut ws = proxy.ws("/").await;
        assert_eq!(ws.greeting().await, "a");
        ws.echo("hello").await;
        ws.close(1000).await;
    };
    tunnel().await;
    warned("connecting failed").await;
    tunnel().await;
    // One that takes the connection and says nothing.
    let silent = format!("{}timeout = '50ms'\n", traces(collector.address()));
    proxy.reload(site(&silent)).await;
    let (held, _) = posted(&collector).await;
    warned("no answer within timeout").await;
    drop(held);
    // One that cannot now: the same comes again.
    proxy.reload(site(&traces(collector.address()))).await;
    let (wire, first) = posted(&collector).await;
    answer(wire, "503 Busy").await;
    warned("503").await;
    let (wire, again) = posted(&collector).await;
    assert_eq!(first, again);
    answer(wire, "200 OK").await;
    spans(&collector, 2).await;
    // One that does not want it, which it will not want later either.
    tunnel().await;
    let (wire, _) = posted(&collector).await;
    answer(wire, "400 No").await;
    warned("400").await;
    let refused = async || {
        proxy
            .metric("longhaul_spans_total{result=\"refused\"}")
            .await
    };
    assert!(refused().await >= 1.0);
    let exported = "longhaul_spans_total{result=\"exported\"}";
    assert_eq!(proxy.metric(exported).await, 4.0);
}

/// By its 200 it has taken them: what breaks behind that loses no span and doubles none.
///
/// Over HTTP/1.1 alone: it is about the way to the collector.
#[tokio::test]
async fn what_a_collector_has_taken_is_not_sent_again_though_its_answer_breaks() {
    let (backend, collector) = (Echo::start("a").await, RawBackend::start().await);
    let site = Site::one(backend.address())
        .route("allowed_origins = ['https://here.test']\nmissing_origin = 'refuse'")
        .more(&traces(collector.address()));
    let proxy = Proxy::start(site).await;
    let mut seen = BTreeSet::new();
    for end in [End::Eof, End::Reset] {
        let (mut wire, span) = posted_alone(&proxy, &collector).await;
        assert!(seen.insert(span), "it came again");
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            .await;
        match end {
            End::Eof => drop(wire),
            End::Reset => wire.abort(),
        }
    }
    let (wire, span) = posted_alone(&proxy, &collector).await;
    assert!(seen.insert(span), "it came again");
    answer(wire, "200 OK").await;
    let spans = async |result: &str| {
        let name = format!("longhaul_spans_total{{result=\"{result}\"}}");
        proxy.metric(&name).await
    };
    soon("the last to be counted", async {
        while spans("exported").await < 3.0 {}
    })
    .await;
    assert_eq!(spans("exported").await, 3.0);
    assert_eq!(spans("refused").await + spans("dropped").await, 0.0);
    let warned = proxy
        .log
        .all(|line| line.message == "spans are not exported");
    assert!(warned.is_empty(), "{warned:?}");
}

/// The post with the one span that a refused handshake leaves, not answered yet, and
/// the span's id.
async fn posted_alone(proxy: &Proxy, collector: &RawBackend) -> (Wire, Vec<u8>) {
    let mut wire = proxy.connect().await;
    wire.send(handshake("/", "localhost", &traceparent("01")))
        .await;
    assert_eq!(wire.response_head().await.status, 403);
    let (post, request) = posted(collector).await;
    let of = request.resource_spans.into_iter();
    let mut spans = of.flat_map(|it| it.scope_spans).flat_map(|it| it.spans);
    let span = spans.next().expect("a span");
    assert_eq!(spans.next(), None);
    (post, span.span_id)
}

async fn a_collector_is_verified_and_is_shown_the_headers_it_wants(over: Over) {
    let backend = Echo::start("a").await;
    let (right, wrong) = (Authority::new(), Authority::new());
    let pair = right.pair(&["127.0.0.1"]);
    let collector = RawBackend::tls(right.acceptor(&pair, None)).await;
    let setup = Setup::new();
    setup.write("right.pem", right.pem());
    setup.write("wrong.pem", wrong.pem());
    let site = |ca: &str| {
        Site::one(backend.address()).more(&format!(
            "[traces]\nendpoint = 'https://{}/v1/traces'\nca = '{ca}.pem'\n\
             service_name = 'edge'\nheaders = {{ X-Token = 'secret' }}\n",
            collector.address()
        ))
    };
    let proxy = setup.start(site("wrong")).await.over(over);
    let mut ws = proxy.ws("/").await;
    assert_eq!(ws.greeting().await, "a");
    assert!(collector.try_accept().await.is_err());
    let told = proxy.log.wait("spans are not exported", &[]).await;
    assert!(told.text("error").contains("tls handshake failed"));
    proxy.reload(site("right")).await;
    let mut wire = collector.accept().await;
    let request = wire.request().await;
    assert_eq!(request.header("x-token"), Some("secret"));
    let length = request.header("content-length").expect("a length");
    let body = wire.take(length.parse().expect("a number")).await;
    let decoded = ExportTraceServiceRequest::decode(&*body).expect("OTLP");
    let resource = decoded.resource_spans[0].resource.as_ref();
    let facts = attributes(&resource.expect("a resource").attributes);
    assert_eq!(facts["service.name"], "edge");
    answer(wire, "200 OK").await;
    ws.close(1000).await;
    // What it is shown is for nobody else.
    assert!(
        proxy
            .log
            .all(|event| event.line.contains("secret"))
            .is_empty()
    );
}

async fn the_last_spans_come_before_the_end(over: Over) {
    let (backend, collector) = (Echo::start("a").await, RawBackend::start().await);
    let site = Site::one(backend.address())
        .more(&traces(collector.address()))
        .more("[drain]\nwindow = '0s'");
    let proxy = Proxy::start(site).await.over(over);
    let mut ws = proxy.ws("/").await;
    assert_eq!(ws.greeting().await, "a");
    spans(&collector, 1).await;
    proxy.terminate();
    assert_eq!(ws.closed().await, Some(1012));
    let span = spans(&collector, 1).await.pop().expect("a span");
    assert_eq!(attributes(&span.attributes)["longhaul.cause"], "drain");
    assert!(proxy.exit().await.success());
}

async fn nothing_is_sent_or_rewritten_without_a_collector(over: Over) {
    let (backend, collector) = (Echo::start("a").await, RawBackend::start().await);
    let site = |more: &str| Site::one(backend.address()).more(more);
    let setup = Setup::new();
    let proxy = setup
        .start(site(&traces(collector.address())))
        .await
        .over(over);
    let mut old = proxy.ws("/").await;
    assert_eq!(old.greeting().await, "a");
    spans(&collector, 1).await;
    proxy.reload(site("")).await;
    let mut new = proxy.ws_with("/", &traceparent("01")).await;
    assert_eq!(new.greeting().await, "a");
    let seen = backend.requests().pop().expect("a request");
    let told = format!("00-{TRACE}-{CALLER}-01");
    assert_eq!(seen.header("traceparent"), Some(&*told));
    old.close(1000).await;
    new.close(1000).await;
    // Switched on again: what ended meanwhile is told to nobody.
    proxy.reload(site(&traces(collector.address()))).await;
    let last = proxy.ws_with("/", &traceparent("01")).await;
    let span = spans(&collector, 1).await.pop().expect("a span");
    assert_eq!(hex(&span.trace_id), TRACE);
    last.close(1000).await;
}
