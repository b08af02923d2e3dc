//! `longhaul demo`: the page is there, the tunnel sticks and survives the edit it asks for.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::kit::{Response, TlsClient, Ws, dial, eventually, longhaul, soon};

struct Demo {
    child: Child,
    /// Kept open: the demo goes on talking.
    _output: BufReader<ChildStdout>,
    plain: String,
    tls: String,
    /// Above `routes`: the demo wants a directory that is empty or new.
    dir: TempDir,
}

impl Demo {
    /// Started and ready, as its greeting says.
    fn start() -> Self {
        let dir = TempDir::with_prefix("longhaul-").expect("a directory");
        let mut child = longhaul()
            .args(["demo", "--port", "0", "--tls-port", "0", "--dir"])
            .arg(dir.path().join("demo"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("to start the demo");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut greeting = String::new();
        while !greeting.contains("Ctrl-C") {
            let read = output.read_line(&mut greeting).expect("UTF-8");
            assert!(read > 0, "the demo ended: {greeting}");
        }
        let behind = |mark: &str| {
            let (_, rest) = greeting
                .split_once(mark)
                .unwrap_or_else(|| panic!("{mark}: {greeting}"));
            rest.split(['/', ' ', '\n'])
                .next()
                .expect("an address")
                .to_owned()
        };
        let routes = dir.path().join("demo/routes.d/demo.toml");
        assert!(
            greeting.contains(routes.to_str().expect("UTF-8")),
            "{greeting}"
        );
        Self {
            child,
            _output: output,
            plain: behind("http://"),
            tls: behind("https://"),
            dir,
        }
    }

    async fn get(&self, path: &str, cookie: &str) -> Response {
        let mut wire = dial(&self.plain).await;
        wire.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{cookie}\r\n",
            self.plain
        ))
        .await;
        wire.response().await
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("to interrupt");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn field<'a>(message: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(message, |value, key| &value[*key])
}

/// The next message of this kind; others are the demo's small talk.
async fn message(ws: &mut Ws, kind: &str) -> Value {
    loop {
        let text = ws.text().await;
        let value: Value = serde_json::from_str(&text).expect("JSON");
        if value["t"] == kind {
            return value;
        }
    }
}

/// Pastes what the page shows into a shell.
fn shell(command: &Value) {
    let command = command.as_str().expect("a command");
    let status = Command::new("sh")
        .args(["-c", command])
        .status()
        .expect("a shell");
    assert!(status.success(), "{command}");
}

/// The status that the page is shown after a reload, good or bad.
async fn after_reload(ws: &mut Ws, before: &Value, ok: bool) -> Value {
    let facts = |status: &Value| {
        (
            status["generation"].clone(),
            status["last_reload"]["ok"].clone(),
        )
    };
    soon("the page to hear of the edit", async {
        loop {
            let status = message(ws, "status").await;
            if facts(&status) != facts(before) {
                assert_eq!(status["last_reload"]["ok"], ok, "{status}");
                let said = status["last_reload"]["message"]
                    .as_str()
                    .unwrap_or_default();
                assert_eq!(said.contains("did you mean"), !ok, "{said}");
                return status;
            }
        }
    })
    .await
}

/// Over HTTP/1.1 alone: tests/apps opens the demo in browsers, over HTTP/2.
#[tokio::test]
async fn the_page_sticks_chats_and_survives_the_edit() {
    let mut demo = Demo::start();
    let page = demo.get("/", "").await;
    assert_eq!(page.head.status, 200);
    assert_eq!(
        page.head.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    for part in ["/page.css", "/page.js"] {
        assert!(page.text().contains(part), "the page loads {part}");
        assert_eq!(demo.get(part, "").await.head.status, 200);
    }
    let set = page
        .head
        .header("set-cookie")
        .expect("longhaul's own cookie");
    let cookie = format!("Cookie: {}\r\n", set.split(';').next().expect("a pair"));

    let open =
        async |headers: &str| Ws::open(dial(&demo.plain).await, "/ws", &demo.plain, headers).await;
    let mut one = open(&cookie).await;
    let hello = message(&mut one, "hello").await;
    let backend_of = |hello: &Value| {
        let backend = field(hello, &["me", "backend"]).as_str();
        backend.expect("a backend").to_owned()
    };
    let backend = backend_of(&hello);
    assert!(
        ["red", "green", "blue"].contains(&backend.as_str()),
        "{backend}"
    );
    // Newcomers spread: sooner or later one is elsewhere.
    let mut two = soon("a client at another backend", async {
        loop {
            let mut two = open("").await;
            if backend_of(&message(&mut two, "hello").await) != backend {
                return two;
            }
        }
    })
    .await;

    // What one says the other hears, through another backend.
    one.say("{\"t\":\"say\",\"text\":\"hello there\"}").await;
    assert_eq!(message(&mut two, "chat").await["text"], "hello there");

    let mut status = message(&mut one, "status").await;
    for edit in hello["edits"].as_array().expect("edits") {
        let is_mistake = edit["label"] == "Make a mistake";
        shell(&edit["command"]);
        status = after_reload(&mut one, &status, !is_mistake).await;
        if edit["label"] == format!("Remove {backend}") {
            // A newcomer with the old cookie goes elsewhere.
            let hello = message(&mut open(&cookie).await, "hello").await;
            assert_ne!(backend_of(&hello), backend);
        }
        shell(&edit["undo"]);
        status = after_reload(&mut one, &status, true).await;
        // Whatever was edited, the tunnel is the same.
        one.say("{\"t\":\"ping\",\"n\":7}").await;
        assert_eq!(message(&mut one, "pong").await["n"], 7);
    }
    assert!(
        status["generation"].as_u64() > Some(4),
        "three good edits and their undoing"
    );

    demo.interrupt();
    eventually("the end of the demo", || {
        demo.child.try_wait().expect("a status").is_some()
    })
    .await;
    assert!(demo.child.wait().expect("a status").success());
}

/// Over HTTP/1.1 alone: tests/apps opens the demo in browsers, over HTTP/2.
#[tokio::test]
async fn the_tls_port_speaks_tls() {
    let demo = Demo::start();
    let port = demo.tls.rsplit_once(':').expect("a port").1;
    let chain = std::fs::read_to_string(demo.dir.path().join("demo/certs/demo.pem"));
    let client = TlsClient::trusting(&chain.expect("the demo's certificate"));
    let wire = client
        .connect(&format!("127.0.0.1:{port}"), "localhost")
        .await;
    let mut ws = Ws::open(wire.expect("a TLS handshake"), "/ws", "localhost", "").await;
    let set = ws.head.header("set-cookie").expect("longhaul's own cookie");
    assert!(set.to_lowercase().contains("; secure"), "{set}");
    let hello = message(&mut ws, "hello").await;
    assert_eq!(field(&hello, &["handshake", "forwarded_proto"]), "https");
}
