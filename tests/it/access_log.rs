//! Access lines in places of their own, in formats of one's own, and what requests
//! are called in them.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::Value;
use tokio::net::UnixDatagram;

use crate::kit::{Echo, Over, Proxy, Setup, Site, eventually, handshake, over_each, soon};

over_each!(
    an_id_is_made_or_passed_on_from_trusted_proxies,
    a_trace_is_passed_on_or_begun,
    a_file_gets_them_as_json_and_is_begun_again_at_a_signal,
    a_format_of_ones_own_on_standard_output,
    of_plain_requests_a_sample_is_logged_and_all_that_go_badly,
);

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The file's lines once there are so many.
async fn has_lines(path: &Path, count: usize) -> Vec<String> {
    let what = format!("{count} lines in {}", path.display());
    eventually(what, || lines(path).len() >= count).await;
    let found = lines(path);
    assert_eq!(found.len(), count, "{found:#?}");
    found
}

fn site(backend: &Echo, log: &str) -> Site {
    Site::one(backend.address())
        .route("name = 'all'\npath = '/here/*'")
        .more(&format!("[log]\nformat = 'json'\n{log}"))
}

/// No access line is in the program's log.
fn not_in_log(proxy: &Proxy) {
    let found = proxy.log.all(|event| event.target == "access");
    assert!(found.is_empty(), "{found:?}");
}

async fn a_file_gets_them_as_json_and_is_begun_again_at_a_signal(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(
        &backend,
        "level = 'warn,longhaul=info'\naccess_to = 'file:access.log'\n[drain]\nwindow = '0s'",
    ))
    .await;
    let proxy = proxy.over(over);
    let (file, old) = (proxy.path("access.log"), proxy.path("access.log.1"));
    proxy.get("/here/1").await;
    let line: Value = serde_json::from_str(&has_lines(&file, 1).await[0]).expect("JSON");
    for (key, value) in [
        ("message", "request"),
        ("path", "/here/1"),
        ("route", "all"),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    assert_eq!(line["status"], 200);
    fs::rename(&file, &old).expect("to move the file");
    proxy.get("/here/2").await;
    // Nobody has said so yet.
    has_lines(&old, 2).await;
    proxy.signal(Signal::USR1);
    proxy.log.wait("access log reopened", &[]).await;
    proxy.get("/here/3").await;
    assert!(has_lines(&file, 1).await[0].contains("/here/3"));
    has_lines(&old, 2).await;
    not_in_log(&proxy);
    // What ends with the process is written out.
    let ws = proxy.ws("/here").await;
    proxy.terminate();
    ws.closed().await;
    proxy.exit().await;
    let last = has_lines(&file, 3).await.pop().expect("a line");
    assert!(
        last.contains("\"tunnel closed\"") && last.contains("\"drain\""),
        "{last}"
    );
}

async fn a_format_of_ones_own_on_standard_output(over: Over) {
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    let output = setup.path("output");
    let format = "access_to = 'stdout'\naccess_format = '''{message} {route} \"{method} \
                  {host}{path}\" {status} {refusal} {cause} {{x}}'''";
    let proxy = setup
        .after(&format!("exec >'{}'", output.display()))
        .start(site(&backend, format))
        .await
        .over(over);
    proxy.get("/here?a=1").await;
    proxy.get("/nowhere").await;
    proxy.ws("/here").await.close(1000).await;
    let opened = if over == Over::Http1 { 101 } else { 200 };
    let opened = format!("tunnel opened all \"GET localhost/here\" {opened} - - {{x}}");
    let expected = [
        "request all \"GET localhost/here?a=*\" 200 - - {x}",
        "request - \"GET localhost/nowhere\" 404 no_route - {x}",
        &opened,
        "tunnel closed all \"GET localhost/here\" - - close 1000 {x}",
    ];
    assert_eq!(has_lines(&output, 4).await, expected);
    not_in_log(&proxy);
}

#[tokio::test]
async fn journald_gets_entries_in_its_own_protocol() {
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    let journal = UnixDatagram::bind(setup.path("journal")).expect("a socket");
    let format = "access_to = 'journald:journal'\naccess_format = '{method} {path}'";
    let proxy = setup.start(site(&backend, format)).await;
    proxy.get("/here/1").await;
    let mut buffer = vec![0; 65_536];
    let length = soon("an entry", journal.recv(&mut buffer))
        .await
        .expect("an entry");
    let entry = String::from_utf8(buffer[..length].to_vec()).expect("UTF-8");
    let fields: Vec<&str> = entry.lines().collect();
    for field in [
        "MESSAGE=GET /here/1",
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=longhaul",
        "LONGHAUL_MESSAGE=request",
        "LONGHAUL_ROUTE=all",
        "LONGHAUL_STATUS=200",
    ] {
        assert!(fields.contains(&field), "{field} is not in {entry}");
    }
    not_in_log(&proxy);
}

async fn of_plain_requests_a_sample_is_logged_and_all_that_go_badly(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&backend, "sample_requests = 0.0"))
        .await
        .over(over);
    for _ in 0..5 {
        assert_eq!(proxy.get("/here").await.head.status, 200);
    }
    proxy.ws("/here").await.close(1000).await;
    assert_eq!(proxy.get("/nowhere").await.head.status, 404);
    proxy.log.wait("request", &[("refusal", "no_route")]).await;
    proxy.log.wait("tunnel closed", &[]).await;
    let access = proxy.log.all(|event| event.target == "access");
    assert_eq!(access.len(), 3, "{access:#?}");
    // Those that are not logged are counted.
    assert_eq!(
        proxy
            .metric("longhaul_requests_total{status=\"2xx\"}")
            .await,
        5.0
    );

    proxy.reload(site(&backend, "sample_requests = 0.5")).await;
    let tail = proxy.log.tail();
    let sampled = || tail.all(|event| event.message == "request").len();
    let mut asked = 0;
    while sampled() == 0 || asked == sampled() {
        proxy.get("/here").await;
        asked += 1;
        assert!(asked < 200, "{} of {asked}", sampled());
    }
}

#[tokio::test]
async fn an_edit_moves_the_lines_and_one_that_cannot_is_rejected() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&backend, "")).await;
    // It need not be there for anything, and says so.
    proxy.signal(Signal::USR1);
    let nothing = "no file of access lines to open anew";
    let told = proxy.log.wait(nothing, &[]).await;
    assert_eq!(told.level, "INFO");
    proxy.get("/here/1").await;
    proxy.log.wait("request", &[("path", "/here/1")]).await;
    proxy
        .reload(site(&backend, "access_to = 'file:one.log'"))
        .await;
    proxy.get("/here/2").await;
    has_lines(&proxy.path("one.log"), 1).await;
    let event = proxy
        .refuse(site(&backend, "access_to = 'file:no/such/place.log'"))
        .await;
    let findings = event.text("findings");
    assert!(
        findings.contains("longhaul.toml:") && findings.contains("access log cannot be opened"),
        "{findings}"
    );
    proxy.get("/here/3").await;
    has_lines(&proxy.path("one.log"), 2).await;
    proxy
        .reload(site(
            &backend,
            "access_to = 'file:two.log'\naccess_format = '{path}'",
        ))
        .await;
    proxy.get("/here/4").await;
    assert_eq!(has_lines(&proxy.path("two.log"), 1).await, ["/here/4"]);
    has_lines(&proxy.path("one.log"), 2).await;
    proxy.reload(site(&backend, "")).await;
    proxy.get("/here/5").await;
    proxy.log.wait("request", &[("path", "/here/5")]).await;
}

#[tokio::test]
async fn a_wrong_format_is_told_with_the_nearest_field() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&backend, "")).await;
    for (log, said) in [
        (
            "access_to = 'stdout'\naccess_format = '{methd} {path}'",
            "{method}",
        ),
        (
            "access_to = 'stdout'\naccess_format = '{method'",
            "every brace",
        ),
        ("access_to = 'stdout'\naccess_format = 'jsn'", "json"),
        ("access_format = '{method}'", "access_to"),
        ("access_to = 'journal'", "journald"),
        (
            "access_to = '/var/log/access.log'",
            "file:/var/log/access.log",
        ),
        ("sample_requests = 2", "from 0.0 to 1.0"),
    ] {
        let event = proxy.refuse(site(&backend, log)).await;
        let findings = event.text("findings");
        assert!(findings.contains(said), "{log}: {findings}");
    }
}

async fn an_id_is_made_or_passed_on_from_trusted_proxies(over: Over) {
    let backend = Echo::start("a").await;
    let site = site(&backend, "request_id = true");
    let headers = "X-Request-Id: from-the-client\r\n";
    let proxy = Proxy::start(&site).await.over(over);
    assert_eq!(proxy.get_with("/here", headers).await.head.status, 200);
    let mut wire = proxy.connect().await;
    wire.send(handshake("/here", "h", headers)).await;
    assert_eq!(wire.response_head().await.status, 101);
    let opened = proxy.log.wait("tunnel opened", &[]).await;
    let request = proxy.log.wait("request", &[]).await;
    let seen = backend.requests();
    for (event, seen) in [(&request, &seen[0]), (&opened, &seen[1])] {
        let id = seen.header("x-request-id").expect("an id");
        assert_eq!(id.len(), 32, "{id}");
        assert_eq!(event.text("request_id"), id);
    }
    assert_ne!(request.text("request_id"), opened.text("request_id"));
    let proxy = Setup::new()
        .beside()
        .start(site.top("trusted_proxies = ['127.0.0.1']"))
        .await
        .over(over);
    proxy.get_with("/here", headers).await;
    let last = backend.requests().pop().expect("a request");
    assert_eq!(last.header("x-request-id"), Some("from-the-client"));
    proxy
        .log
        .wait("request", &[("request_id", "from-the-client")])
        .await;
}

async fn a_trace_is_passed_on_or_begun(over: Over) {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let backend = Echo::start("a").await;
    let value = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = format!("traceparent: {value}\r\ntracestate: a=1\r\n");
    let proxy = Proxy::start(site(&backend, "")).await.over(over);
    proxy.get_with("/here", &headers).await;
    proxy.get("/here").await;
    proxy.log.wait("request", &[("trace_id", TRACE)]).await;
    let seen = backend.requests();
    assert_eq!(seen[0].header("traceparent"), Some(value.as_str()));
    assert_eq!(seen[0].header("tracestate"), Some("a=1"));
    assert_eq!(seen[1].header("traceparent"), None);

    proxy
        .reload(site(&backend, "trace_context = 'begin'"))
        .await;
    proxy.get_with("/here", &headers).await;
    proxy.ws("/here").await.close(1000).await;
    let opened = proxy.log.wait("tunnel opened", &[]).await;
    let seen = backend.requests();
    assert_eq!(seen[2].header("traceparent"), Some(value.as_str()));
    let begun = seen[3].header("traceparent").expect("a trace");
    let trace = opened.text("trace_id");
    assert!(
        begun.starts_with(&format!("00-{trace}-")) && begun.ends_with("-01"),
        "{begun}"
    );
    assert_eq!((begun.len(), trace.len()), (55, 32));
}

#[tokio::test]
async fn a_pipe_is_no_place_and_holds_nobody_up() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&backend, "access_to = 'file:access.log'")).await;
    let (file, old) = (proxy.path("access.log"), proxy.path("access.log.1"));
    fs::rename(&file, &old).expect("to move the file");
    mknodat(CWD, &file, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    proxy.signal(Signal::USR1);
    let told = "the access log cannot be reopened: the old file is written on";
    let error = ("error", "neither a regular file nor a character device");
    proxy.log.wait(told, &[error]).await;
    proxy.get("/here/1").await;
    has_lines(&old, 1).await;
    assert_eq!(proxy.generation().await, 1);
    mknodat(CWD, proxy.path("pipe"), FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    proxy
        .refuse(site(&backend, "access_to = 'file:pipe'"))
        .await;
}

#[tokio::test]
async fn lines_that_cannot_be_written_are_counted_and_told() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&backend, "access_to = 'file:/dev/full'")).await;
    let lost = |reason: &str| {
        format!("longhaul_log_lines_lost_total{{log=\"access\",reason=\"{reason}\"}}")
    };
    assert_eq!(proxy.metric(&lost("write_failed")).await, 0.0);
    proxy.get("/here/1").await;
    let told = "lines of the log are lost: their place cannot be written, or is too slow";
    proxy.log.wait(told, &[("access_write_failed", "1")]).await;
    assert_eq!(proxy.metric(&lost("write_failed")).await, 1.0);
    assert_eq!(proxy.metric(&lost("queue_full")).await, 0.0);
    proxy.get("/here/2").await;
    proxy.settles(&lost("write_failed"), 2.0).await;
    let warnings = proxy.log.all(|event| event.message == told);
    assert_eq!(warnings.len(), 1, "once a minute");
}
