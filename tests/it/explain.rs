//! `check --explain` against the truth: the head that a backend really gets.

use crate::kit::{Proxy, RawBackend, Site, handshake, longhaul};

/// Header lines with lower-case names, sorted: their order is not promised.
fn lines(head: &str) -> Vec<String> {
    let line = |line: &str| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
        None => line.to_owned(),
    };
    let mut lines: Vec<String> = head.trim_end().lines().map(line).collect();
    lines[1..].sort();
    lines
}

#[tokio::test]
async fn the_explained_head_is_the_head_that_the_backend_gets() {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address())
        .route("name = 'chat'")
        .upstream("sticky = ['header:x-user', 'client_ip']");
    let proxy = Proxy::start(site).await;
    let address = proxy.address("main").await;
    let plain =
        |headers: &str| format!("GET /a/b?c=d HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    let headers = [
        "X-User: ann",
        "Cookie: a=b",
        "X-Forwarded-For: 6.6.6.6",
        "Connection: X-Gone",
        "X-Gone: 1",
    ];
    let backward: Vec<&str> = headers.iter().rev().copied().collect();
    for headers in [&headers[..], &backward, &[]] {
        let text: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        for (scheme, request) in [
            ("http", plain(&text)),
            ("ws", handshake("/a/b?c=d", &address, &text)),
        ] {
            let mut client = proxy.connect().await;
            client.send(&request).await;
            let mut server = backend.accept().await;
            let got = server.request().await;
            drop(server);

            let mut command = longhaul();
            command.arg("check").arg(proxy.config_path());
            command.args(["--explain", &format!("{scheme}://{address}/a/b?c=d")]);
            command.args(headers.iter().flat_map(|line| ["--header", line]));
            let output = command.output().expect("to explain");
            let output = String::from_utf8(output.stdout).expect("UTF-8");
            let (facts, head) = output.split_once("would get:").expect("a head");
            assert_eq!(
                lines(head.trim_start()),
                lines(&got.text()),
                "{scheme} {text}"
            );
            for fact in ["chat", "app", backend.address()] {
                assert!(facts.contains(fact), "{fact} in {facts}");
            }
        }
    }
}
