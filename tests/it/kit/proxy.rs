//! The real binary, in a directory of its own.
//!
//! The test is its service manager: it owns the notify socket, and a
//! [`Proxy`] exists only after `READY=1`. Addresses come from the admin socket.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream, UnixDatagram, UnixStream};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc, watch};
use tokio::task::JoinHandle;

use super::h2::{Gateway, H2};
use super::log::{Event, Log};
use super::message::Response;
use super::wire::{Transport, Wire};
use super::ws::Ws;
use super::{Pair, RawBackend, TlsClient, soon};

/// What a test's clients speak to longhaul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Http1,
    /// Each on a connection of its own.
    Http2,
}

/// Held shared by every running proxy, exclusively by a test that measures time or memory.
static MACHINE: LazyLock<RwLock<()>> = LazyLock::new(|| RwLock::new(()));

/// The machine for this test alone, once the others that run have ended.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// The program, not yet started.
pub fn longhaul() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command
        .env_remove("NOTIFY_SOCKET")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// A directory with the files that a proxy will be started with.
pub struct Setup {
    dir: TempDir,
    shell: Option<String>,
    turn_held: bool,
}

impl Setup {
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("longhaul-").expect("a directory");
        Self {
            dir,
            shell: None,
            turn_held: false,
        }
    }

    /// One with this pair as `site`, which [`Site::tls`](super::Site::tls) names.
    pub fn with_pair(pair: &Pair) -> Self {
        let setup = Self::new();
        setup.write_pair("site", pair);
        setup
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        write(self.dir.path(), name, text)
    }

    /// In `NAME.pem` and `NAME.key`.
    pub fn write_pair(&self, name: &str, pair: &Pair) {
        self.write(&format!("{name}.pem"), &pair.chain);
        self.write(&format!("{name}.key"), &pair.key);
    }

    /// A shell command that runs before the program, in its process.
    pub fn after(mut self, shell: &str) -> Self {
        self.shell = Some(shell.into());
        self
    }

    /// For a test that holds the machine already: by [`alone`], or by another proxy.
    pub fn beside(mut self) -> Self {
        self.turn_held = true;
        self
    }

    /// Starts the program with this config and waits until it is ready.
    pub async fn start(self, config: impl Display) -> Proxy {
        let proxy = self.launch(config).await;
        proxy.ready().await
    }

    /// Starts the program and does not wait.
    pub async fn launch(self, config: impl Display) -> Proxy {
        let turn = match self.turn_held {
            true => None,
            false => Some(MACHINE.read().await),
        };
        let config_path = self.write("longhaul.toml", complete(&config.to_string()));
        let notify = UnixDatagram::bind(self.path("notify.sock")).expect("a notify socket");
        let manager = Manager::follow(Arc::new(notify));
        let mut command = longhaul();
        if let Some(shell) = &self.shell {
            command = Command::new("/bin/sh");
            command.args(["-c", &format!("{shell}; exec \"$@\"")]);
            command
                .args(["sh", env!("CARGO_BIN_EXE_longhaul")])
                .env_remove("RUST_LOG");
        }
        let mut child = command
            .args(["run", "--config"])
            .arg(&config_path)
            .env("NOTIFY_SOCKET", self.path("notify.sock"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("to start longhaul");
        let log = Log::follow(child.stderr.take().expect("a pipe"));
        let pid = Pid::from_child(&child);
        let (ended, exit) = watch::channel(None);
        thread::spawn(move || ended.send(Some(child.wait().expect("to wait for longhaul"))));
        Proxy {
            dir: self.dir,
            config_path,
            pid,
            exit,
            log,
            manager: manager.into(),
            over: Over::Http1,
            _turn: turn,
        }
    }
}

/// What the tests need beside what each is about.
fn complete(config: &str) -> String {
    let mut text = config.to_owned();
    if !text.contains("[log]") {
        text.push_str("\n[log]\nformat = \"json\"\n");
    }
    if !text.contains("[admin]") {
        text.push_str("\n[admin]\nsocket = \"admin.sock\"\n");
    }
    text
}

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(&path, text).expect("to write a file");
    path
}

/// What fills a notify socket.
const FILLER: &str = "FILLER=1";

/// The service manager that a proxy has: its end of the notify socket.
struct Manager {
    socket: Arc<UnixDatagram>,
    reads: JoinHandle<()>,
    notified: mpsc::UnboundedReceiver<String>,
}

impl Manager {
    fn follow(socket: Arc<UnixDatagram>) -> Self {
        let (sender, notified) = mpsc::unbounded_channel();
        let incoming = Arc::clone(&socket);
        let reads = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(n) = incoming.recv(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Self {
            socket,
            reads,
            notified,
        }
    }
}

/// A running longhaul; killed when dropped.
pub struct Proxy {
    dir: TempDir,
    config_path: PathBuf,
    pid: Pid,
    exit: watch::Receiver<Option<ExitStatus>>,
    pub log: Log,
    manager: tokio::sync::Mutex<Manager>,
    over: Over,
    _turn: Option<RwLockReadGuard<'static, ()>>,
}

impl Proxy {
    pub async fn start(config: impl Display) -> Self {
        Setup::new().start(config).await
    }

    async fn ready(self) -> Self {
        let mut exit = self.exit.clone();
        tokio::select! {
            _ = self.notice("READY=1") => {}
            status = exit.wait_for(Option::is_some) => {
                panic!("longhaul ended before it was ready: {:?}", *status.expect("a status"));
            }
        }
        // The log is written beside: what a test waits for comes behind this.
        self.log
            .wait_for(|event| event.line.contains("config loaded"))
            .await;
        self
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        write(self.dir.path(), name, text)
    }

    /// The next notify message with `line` among its lines.
    pub async fn notice(&self, line: &str) -> String {
        soon(format!("the notify message {line}"), async {
            loop {
                let message = self.next_notice().await;
                if message.lines().any(|one| one.starts_with(line)) {
                    return message;
                }
            }
        })
        .await
    }

    /// The next notify message.
    pub async fn next_notice(&self) -> String {
        let mut manager = self.manager.lock().await;
        soon("a notify message", async {
            loop {
                let message = manager.notified.recv().await;
                let message = message.expect("an open notify socket");
                if message != FILLER {
                    return message;
                }
            }
        })
        .await
    }

    /// Ends reading from the notify socket, and fills it.
    pub async fn stuff_notices(&self) {
        let mut manager = self.manager.lock().await;
        manager.reads.abort();
        // Whether it was aborted or had ended: it reads no more.
        let _ = (&mut manager.reads).await;
        let filler = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
        filler.set_nonblocking(true).expect("not to block");
        let path = self.path("notify.sock");
        let error = loop {
            if let Err(error) = filler.send_to(FILLER.as_bytes(), &path) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    }

    /// Reads from the notify socket again.
    pub async fn read_notices(&self) {
        let mut manager = self.manager.lock().await;
        *manager = Manager::follow(Arc::clone(&manager.socket));
    }

    // The admin socket.

    pub async fn admin(&self, path: &str) -> Response {
        let socket = UnixStream::connect(self.path("admin.sock"))
            .await
            .expect("the admin socket");
        let mut wire = Wire::new(Transport::Unix(socket));
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        wire.send(request).await;
        wire.response().await
    }

    /// Status and JSON of the answer to a GET, or with a body to a POST.
    pub async fn ask_admin(&self, path: &str, body: Option<Value>) -> (u16, Value) {
        let socket = UnixStream::connect(self.path("admin.sock")).await;
        let mut wire = Wire::new(Transport::Unix(socket.expect("the admin socket")));
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let length = body.len();
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
        let answer = wire.response().await;
        let json = serde_json::from_slice(&answer.body).expect("JSON from the admin socket");
        (answer.head.status, json)
    }

    pub async fn status(&self) -> Value {
        let (code, status) = self.ask_admin("/status", None).await;
        assert_eq!(code, 200);
        status
    }

    pub async fn generation(&self) -> u64 {
        self.status().await["generation"]
            .as_u64()
            .expect("a generation")
    }

    /// Live tunnels of one backend of `app`.
    pub async fn tunnels_of(&self, backend: &str) -> u64 {
        let status = self.status().await;
        let upstreams = status["upstreams"].as_array().expect("upstreams");
        let app = upstreams
            .iter()
            .find(|one| one["name"] == "app")
            .expect("the upstream app");
        let backends = app["backends"].as_array().expect("backends");
        let found = backends.iter().find(|one| one["name"] == backend);
        found.unwrap_or_else(|| panic!("no backend {backend}: {app}"))["tunnels"]
            .as_u64()
            .expect("a number of tunnels")
    }

    /// The bound address of a listener; a wildcard becomes the loopback address.
    pub async fn address(&self, listener: &str) -> String {
        let status = self.status().await;
        let listeners = status["listeners"].as_array().expect("listeners");
        let found = listeners.iter().find(|one| one["name"] == listener);
        let found = found.unwrap_or_else(|| panic!("no listener {listener}: {status}"));
        let address = found["address"].as_str().expect("an address");
        address
            .replace("0.0.0.0:", "127.0.0.1:")
            .replace("[::]:", "[::1]:")
    }

    /// Metrics whose line starts with `name`, added up.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = self.admin("/metrics").await;
        let values = page.text().lines().filter(|line| line.starts_with(name));
        let values = values.map(|line| line.rsplit(' ').next().expect("a value"));
        values
            .map(|value| value.parse::<f64>().expect("a number"))
            .sum()
    }

    // Clients.

    /// What [`Proxy::connect`] speaks from now on.
    pub fn over(mut self, over: Over) -> Self {
        self.over = over;
        self
    }

    /// A connection to the listener `main`, to be spoken to in HTTP/1.1, whatever
    /// longhaul hears.
    pub async fn connect(&self) -> Wire {
        self.connect_to("main").await
    }

    pub async fn connect_to(&self, listener: &str) -> Wire {
        let address = self.address(listener).await;
        match self.over {
            Over::Http1 => dial(&address).await,
            Over::Http2 => Gateway::over(dial(&address).await).await,
        }
    }

    /// A tunnel to this backend: the client's end and the backend's.
    pub async fn tunnel(&self, backend: &RawBackend) -> (Wire, Wire) {
        backend.join(self.connect().await).await
    }

    /// As [`dial_from`], to the listener `main`.
    pub async fn connect_from(&self, ip: &str) -> Wire {
        let wire = dial_from(ip, &self.address("main").await).await;
        match self.over {
            Over::Http1 => wire,
            Over::Http2 => Gateway::over(wire).await,
        }
    }

    /// A connection to the listener `main` for bytes of any kind.
    pub async fn connect_plainly(&self) -> Wire {
        dial(&self.address("main").await).await
    }

    /// A connection of HTTP/2, by prior knowledge.
    pub async fn h2(&self) -> H2 {
        let (transport, _) = self.connect_plainly().await.into_parts();
        H2::over(transport).await
    }

    pub async fn tls(&self, client: &TlsClient, name: &str) -> Wire {
        self.try_tls(client, name).await.expect("a TLS handshake")
    }

    pub async fn try_tls(&self, client: &TlsClient, name: &str) -> io::Result<Wire> {
        let address = self.address("main").await;
        match self.over {
            Over::Http1 => client.connect(&address, name).await,
            Over::Http2 => {
                let wire = client.clone().alpn(&["h2"]).connect(&address, name).await?;
                Ok(Gateway::over(wire).await)
            }
        }
    }

    /// A tunnel through the listener `main`.
    pub async fn ws(&self, target: &str) -> Ws {
        self.ws_with(target, "").await
    }

    pub async fn ws_with(&self, target: &str, headers: &str) -> Ws {
        Ws::open(self.connect().await, target, "localhost", headers).await
    }

    /// The answer to a GET on a connection of its own.
    pub async fn get(&self, target: &str) -> Response {
        self.get_with(target, "").await
    }

    pub async fn get_with(&self, target: &str, headers: &str) -> Response {
        let mut wire = self.connect().await;
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        wire.send(request).await;
        wire.response().await
    }

    // The config file.

    /// Writes the config in place, and does not wait.
    pub fn edit(&self, config: impl Display) {
        fs::write(&self.config_path, complete(&config.to_string())).expect("to write the config");
    }

    pub fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// What [`Proxy::edit`] would write.
    pub fn complete(config: impl Display) -> String {
        complete(&config.to_string())
    }

    /// Edits and waits until longhaul has taken it over.
    pub async fn reload(&self, config: impl Display) -> Event {
        let log = self.log.tail();
        self.edit(config);
        log.wait("config reloaded", &[]).await
    }

    /// Edits and waits until longhaul has refused it.
    pub async fn refuse(&self, config: impl Display) -> Event {
        let log = self.log.tail();
        self.edit(config);
        log.wait("config rejected", &[]).await
    }

    /// As [`Proxy::refuse`], with nothing added to the text.
    pub async fn refuse_text(&self, text: &str) -> Event {
        let log = self.log.tail();
        fs::write(&self.config_path, text).expect("to write the config");
        log.wait("config rejected", &[]).await
    }

    // The process.

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("to send a signal");
    }

    /// Asks it to stop, and does not wait.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub async fn exit(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let status = soon("the end of the process", exit.wait_for(Option::is_some)).await;
        (*status.expect("a status")).expect("a status")
    }

    pub fn running(&self) -> bool {
        self.exit.borrow().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.running() {
            // It may just have ended by itself.
            let _ = kill_process(self.pid, Signal::KILL);
        }
        let panicked = self.log.all(|event| event.line.contains("panicked at"));
        if thread::panicking() {
            self.log.print();
        } else {
            assert!(
                panicked.is_empty(),
                "longhaul panicked: {}",
                panicked[0].line
            );
        }
    }
}

/// Connects to an address as the admin socket and the config file write it.
pub async fn dial(address: &str) -> Wire {
    soon("a connection to longhaul", async {
        Wire::new(match address.strip_prefix("unix:") {
            Some(path) => Transport::Unix(UnixStream::connect(path).await.expect("to connect")),
            None => Transport::Tcp(TcpStream::connect(address).await.expect("to connect")),
        })
    })
    .await
}

/// Connects from a local address of the test's choice.
pub async fn dial_from(ip: &str, address: &str) -> Wire {
    let socket = TcpSocket::new_v4().expect("a socket");
    let local = format!("{ip}:0").parse().expect("an address");
    socket.bind(local).expect("to bind");
    let stream = socket.connect(address.parse().expect("an address"));
    Wire::new(Transport::Tcp(
        soon("a connection to longhaul", stream)
            .await
            .expect("to connect"),
    ))
}
