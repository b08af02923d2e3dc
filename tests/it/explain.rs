//! `check --explain` against the truth: the head that a backend really gets.

use crate::kit::{Authority, Proxy, RawBackend, Setup, Site, Wire, handshake, longhaul};

/// What `--explain` says about a URL and these header lines.
fn explain(proxy: &Proxy, url: &str, headers: &[&str]) -> String {
    let mut command = longhaul();
    command.arg("check").arg(proxy.config_path());
    command.args(["--explain", url]);
    command.args(headers.iter().flat_map(|line| ["--header", line]));
    let output = command.output().expect("to explain");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

const HEADERS: [&str; 8] = [
    "X-User: ann",
    "cookie: a=b",
    "ACCEPT: */*",
    "Cookie: c=d",
    "X-Forwarded-For: 6.6.6.6",
    "Connection: X-Gone",
    "X-Gone: 1",
    "x-LAST: yes",
];

/// Explains a URL and sends the same; byte for byte, order and spelling too, the
/// explained head must be the one that comes.
async fn compare(proxy: &Proxy, backend: &RawBackend, mut client: Wire, url: &str, lines: &[&str]) {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (host, target) = rest.split_once('/').expect("a path");
    let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let request = match scheme {
        "ws" | "wss" => handshake(&format!("/{target}"), host, &text),
        _ => format!("GET /{target} HTTP/1.1\r\nHost: {host}\r\n{text}\r\n"),
    };
    client.send(&request).await;
    let mut server = backend.accept().await;
    let got = server.request().await;
    drop(server);
    let output = explain(proxy, url, lines);
    let (facts, head) = output.split_once("would get:\n\n").expect("a head");
    assert_eq!(head, got.text(), "{url} {text}");
    for fact in ["chat", "app", backend.address()] {
        assert!(facts.contains(fact), "{fact} in {facts}");
    }
}

/// Over HTTP/1.1 alone: `explain` shows a head of HTTP/1.1.
#[tokio::test]
async fn the_explained_head_is_the_head_that_the_backend_gets() {
    let backend = RawBackend::start().await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let secure = "[listeners.secure]\naddress = '127.0.0.1:0'\n\
                  certificates = [{ chain = 'site.pem', key = 'site.key' }]\n";
    let site = Site::one(backend.address())
        .route("name = 'chat'")
        .upstream("sticky = ['header:x-user', 'client_ip']")
        .more(secure);
    let proxy = setup.start(site).await;
    let (plain, tls) = (proxy.address("main").await, proxy.address("secure").await);
    let backward: Vec<&str> = HEADERS.iter().rev().copied().collect();
    for lines in [&HEADERS[..], &backward, &[]] {
        for scheme in ["http", "ws"] {
            let url = format!("{scheme}://{plain}/a/b?c=d");
            compare(&proxy, &backend, proxy.connect().await, &url, lines).await;
        }
        for scheme in ["https", "wss"] {
            let url = format!("{scheme}://{tls}/a/b?c=d");
            let client = authority.client().connect(&tls, "localhost").await;
            compare(&proxy, &backend, client.expect("TLS"), &url, lines).await;
        }
    }
    // A URL without a port: behind a port map the listener's own counts.
    let output = explain(&proxy, "wss://chat.example.com/", &[]);
    let port = tls.rsplit_once(':').expect("host:port").1;
    assert!(
        output.contains(&format!("x-forwarded-port: {port}\n")),
        "{output}"
    );
    assert!(output.contains(&format!("secure at {tls}\n")), "{output}");
}

#[tokio::test]
async fn the_key_is_shown_as_it_is_hashed() {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address())
        .upstream("sticky = ['cookie:sid', 'query:room', 'path:2', 'client_ip']");
    let proxy = Proxy::start(site).await;
    let address = proxy.address("main").await;
    let cases = [
        (
            "/a/b?room=7",
            &["Cookie: sid=x%20y"][..],
            "cookie:sid \"x%20y\"",
        ),
        ("/a/b?room=7", &[], "query:room \"7\""),
        ("/a/b", &[], "path:2 \"b\""),
        ("/", &[], "client_ip \"127.0.0.1\""),
    ];
    for (target, headers, wanted) in cases {
        let output = explain(&proxy, &format!("ws://{address}{target}"), headers);
        let wanted = format!("sticky    {wanted}, key hash ");
        assert!(output.contains(&wanted), "{wanted} in {output}");
    }
}

#[tokio::test]
async fn what_a_redirecting_listener_answers_is_said() {
    let backend = RawBackend::start().await;
    let redirect = "redirect_to_https = true\nredirect_port = 8443";
    let proxy = Proxy::start(Site::one(backend.address()).listener(redirect)).await;
    let address = proxy.address("main").await;
    let url = format!("http://{address}/a?b=c");
    let mut client = proxy.connect().await;
    client
        .send(format!("GET /a?b=c HTTP/1.1\r\nHost: {address}\r\n\r\n"))
        .await;
    let head = client.response().await.head;
    let location = head.header("location").expect("a location");
    let output = explain(&proxy, &url, &[]);
    let wanted = format!("answer    308 Permanent Redirect, to {location}\n");
    assert!(output.contains(&wanted), "{wanted} in {output}");
    assert!(!output.contains("would get"), "{output}");

    // No listener speaks TLS; whoever ends it in front is not known.
    let output = explain(&proxy, "https://localhost/", &[]);
    assert!(output.contains("none speaks TLS"), "{output}");
}

#[tokio::test]
async fn it_says_which_origin_is_let_in_and_which_is_not() {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address()).route("allowed_origins = ['https://*.a.example']");
    let proxy = Proxy::start(site).await;
    for (line, wanted) in [
        (
            "Origin: https://b.a.example",
            "origin    let in by \"https://*.a.example\"\n",
        ),
        (
            "Origin: https://a.example",
            "refused   403 Forbidden (origin_not_allowed): the route is not for pages of https://a.example\n",
        ),
        (
            "X: none",
            "origin    none told, which missing_origin allows\n",
        ),
    ] {
        let text = explain(&proxy, "ws://localhost/", &[line]);
        assert!(text.contains(wanted), "{wanted:?} in\n{text}");
    }
}

#[tokio::test]
async fn it_says_which_network_is_kept_out() {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address())
        .listener("denied_networks = ['127.0.0.1']")
        .route("allowed_networks = ['10.0.0.0/8']");
    let proxy = Proxy::start(site).await;
    let text = explain(&proxy, "http://localhost/", &[]);
    let refused = "refused   at accept (network_denied): the listener is not for this network\n";
    assert!(text.contains(refused), "{text}");
}

#[tokio::test]
async fn it_says_what_a_request_is_counted_against() {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address()).route(
        "handshake_rate_per_client = '60/m'\nmax_tunnels = 9\nrequest_rate = '5/s'\n\
         message_limits = { max_message = '1KiB', message_rate = '5/s' }",
    );
    let proxy = Proxy::start(site).await;
    let text = explain(&proxy, "ws://localhost/", &[]);
    for wanted in [
        "limits    handshake_rate_per_client 60/m, max_tunnels 9\n",
        "messages  max_message 1024B, message_rate 5/s, side client\n",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
    let text = explain(&proxy, "http://localhost/", &[]);
    assert!(text.contains("limits    request_rate 5/s\n"), "{text}");
    assert!(!text.contains("messages"), "{text}");
}

#[tokio::test]
async fn it_says_which_certificate_a_listener_asks_for() {
    let backend = RawBackend::start().await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    setup.write("ca.pem", authority.pem());
    let site = Site::one(backend.address()).tls().listener(
        "client_certificates = \
         { ca = 'ca.pem', required = false, subject_header = 'x-subject' }",
    );
    let proxy = setup.start(site).await;
    let text = explain(&proxy, "wss://localhost/", &["x-subject: forged"]);
    let asked = "ca.pem, or none; the backend gets its subject in x-subject\n";
    assert!(text.contains("shows     a certificate of "), "{text}");
    assert!(text.contains(asked), "{text}");
    assert!(!text.contains("forged"), "{text}");
}
