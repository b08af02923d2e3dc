//! Who may do what at the admin socket, and that what is done is in the log.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use rustix::process::geteuid;
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use serde_json::json;

use crate::kit::{Echo, Proxy, Setup, Site, dial, nobody};

const UID: u32 = 61_001;
const GID: u32 = 61_002;

/// With a socket that everybody may open.
async fn start(backend: &str, more: &str) -> Proxy {
    let setup = Setup::new();
    let dir = setup.path("admin.sock");
    let dir = dir.parent().expect("its directory");
    fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("to open the directory");
    let admin = format!("[admin]\nsocket = 'admin.sock'\nmode = '0666'\n{more}");
    setup.start(Site::one(backend).more(&admin)).await
}

/// The status of the answer, and the answer, as another user is told it. Who does
/// not run as root can only be who they are.
async fn as_another(proxy: &Proxy, request: &str) -> (u16, String) {
    let (socket, request) = (proxy.path("admin.sock"), request.to_owned());
    let asks = thread::spawn(move || {
        // Of this thread alone, which ends with the question.
        if geteuid().is_root() {
            set_thread_groups(&[]).expect("to leave every group");
            set_thread_gid(rustix::process::Gid::from_raw(GID)).expect("another group");
            set_thread_uid(rustix::process::Uid::from_raw(UID)).expect("another user");
        }
        asked(socket, &request)
    });
    let answer = tokio::task::spawn_blocking(|| asks.join()).await;
    answer.expect("to wait").expect("an answer")
}

fn asked(socket: PathBuf, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).expect("the socket");
    stream.write_all(request.as_bytes()).expect("to ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok());
    (status.expect("a status"), answer)
}

fn post(path: &str, body: &serde_json::Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: longhaul\r\nContent-Length: {length}\r\n\r\n{body}")
}

const STATUS: &str = "GET /status HTTP/1.1\r\nHost: longhaul\r\n\r\n";

/// Over HTTP/1.1 alone: it is about who asks.
#[tokio::test]
async fn another_user_may_read_and_nothing_more_unless_the_config_says_so() {
    let echo = Echo::start("a").await;
    let close = post("/tunnels/close", &json!({ "all": true, "window": "0s" }));
    for (more, who_may) in [
        ("", false),
        ("operators = ['uid:1', 'gid:1']", false),
        (&*format!("operators = ['uid:{UID}']"), true),
        (&*format!("operators = ['gid:{GID}']"), true),
        ("operators = ['anyone']", true),
    ] {
        let may = who_may || !geteuid().is_root();
        let proxy = start(echo.address(), more).await;
        let mut ws = proxy.ws("/").await;
        ws.greeting().await;
        let (status, told) = as_another(&proxy, STATUS).await;
        assert_eq!(status, 200, "{more}: {told}");
        let role = if may { "operator" } else { "reader" };
        assert!(told.contains(&format!("\"role\":\"{role}\"")), "{told}");
        let (status, told) = as_another(&proxy, &close).await;
        assert_eq!(status, if may { 200 } else { 403 }, "{more}: {told}");
        let line = proxy
            .log
            .wait("operator action", &[("action", "close")])
            .await;
        if may {
            assert_eq!(line.text("outcome"), "done");
            assert_eq!(line.text("what"), "{\"all\":true,\"window\":\"0s\"}");
            assert_eq!(ws.closed().await, Some(1012));
        } else {
            assert!(told.contains("may only read"), "{told}");
            assert_eq!(line.text("outcome"), "refused");
            assert_eq!(line.text("peer"), format!("uid:{UID} gid:{GID}"));
            ws.echo("still here").await;
        }
    }
}

#[tokio::test]
async fn every_action_is_a_line_with_who_what_and_how_it_went() {
    let proxy = start(&nobody().await, "").await;
    let own = format!("uid:{}", geteuid().as_raw());
    let (code, _) = proxy
        .ask_admin(
            "/backends",
            Some(json!({ "upstream": "app", "backend": "a", "state": "draining" })),
        )
        .await;
    assert_eq!(code, 200);
    let done = [("action", "backend state"), ("outcome", "done")];
    let line = proxy.log.wait("operator action", &done).await;
    assert_eq!((line.text("who"), line.text("role")), (&*own, "operator"));
    assert!(line.text("what").contains("draining"), "{line:?}");

    let (code, _) = proxy
        .ask_admin("/rebalance", Some(json!({ "upstream": "none" })))
        .await;
    assert_eq!(code, 404);
    let refused = [("action", "rebalance"), ("outcome", "refused")];
    let line = proxy.log.wait("operator action", &refused).await;
    assert!(
        line.text("reason").contains("no upstream `none`"),
        "{line:?}"
    );
    assert_eq!(line.text("who"), own);
}

/// `ssh -L` brings browsers to the socket.
#[tokio::test]
async fn no_web_page_may_ask_at_the_socket() {
    let proxy = start(&nobody().await, "").await;
    let socket = format!("unix:{}", proxy.path("admin.sock").display());
    for (headers, expected) in [
        (
            "Host: localhost:9000\r\nOrigin: http://localhost:9000\r\n",
            200,
        ),
        (
            "Host: localhost:9000\r\nOrigin: https://evil.example\r\n",
            403,
        ),
        (
            "Host: localhost:9000\r\nSec-Fetch-Site: cross-site\r\n",
            403,
        ),
        ("Host: evil.example:9000\r\n", 403),
        (
            "Host: evil.example:9000\r\nOrigin: http://evil.example:9000\r\n",
            403,
        ),
    ] {
        let mut wire = dial(&socket).await;
        wire.send(format!("GET /status HTTP/1.1\r\n{headers}\r\n"))
            .await;
        let answer = wire.response().await;
        assert_eq!(answer.head.status, expected, "{headers}: {}", answer.text());
    }
}
