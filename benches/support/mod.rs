//! What the benchmarks of whole tunnels share: both engines as a caller sees
//! them, and the cost of their threads.

#![allow(dead_code)]

pub mod inputs;

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use longhaul::config::Clocks;
use longhaul::net::{Socket, Transport};
use longhaul::tunnel::{
    Close, Codes, Engine, Facts, Framing, Labels, Leg, Opening, Options, Registry, run,
};
use tokio::runtime::{Builder, Runtime};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tokio,
    Engine,
}

/// A running relay of one kind, on one thread.
pub struct Relays {
    registry: Arc<Registry>,
    labels: Arc<Labels>,
    engine: Option<Engine>,
    runtime: Runtime,
}

impl Relays {
    pub fn start(kind: Kind) -> Self {
        let registry = Registry::new();
        let engine = (kind == Kind::Engine).then(|| Engine::start(&registry, 1).unwrap());
        let mut builder = Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(1)
            .thread_name("relays")
            .enable_all()
            .build();
        for thread in threads() {
            if is_relaying(&thread.name) {
                pin_thread(thread.id, 1);
            }
        }
        let name = || Arc::from("name");
        Self {
            registry,
            labels: Arc::new(Labels {
                listener: name(),
                http: "1.1",
                route: name(),
                upstream: name(),
                backend: name(),
            }),
            engine,
            runtime: runtime.unwrap(),
        }
    }

    /// The far ends of a new tunnel.
    pub fn tunnel(&self) -> (TcpStream, TcpStream) {
        let ((client, near_client), (backend, near_backend)) = (pair(), pair());
        let facts = Facts {
            id: 1,
            labels: Arc::clone(&self.labels),
            key: 0,
            opening: Opening::default(),
        };
        let options = Options {
            expiry: None,
            messages: None,
            framing: Framing::WebSocket,
            clocks: Clocks {
                pings: None,
                handshake_timeout: Duration::from_secs(10),
                idle_timeout: None,
                half_close_timeout: Duration::from_secs(30),
                max_lifetime: None,
                max_lifetime_jitter: 0.0,
            },
            close: Close {
                codes: Codes {
                    max_lifetime: Some(1012),
                    idle_timeout: Some(1001),
                    client_hangs: Some(1001),
                    backend_hangs: Some(1011),
                },
                timeout: Duration::from_secs(5),
            },
        };
        let _guard = self.runtime.enter();
        let ticket = self.registry.open(facts, &options);
        run(
            leg(near_client),
            leg(near_backend),
            ticket,
            Box::new(|_| ()),
        );
        (client, backend)
    }
}

fn leg(stream: TcpStream) -> Leg<Transport> {
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
    Leg {
        stream: Transport::Plain(Socket::Tcp(stream)),
        read_ahead: Bytes::new(),
    }
}

/// Connected over loopback; reno, because a pacing congestion control paces
/// loopback too.
pub fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    for stream in [&far, &near] {
        stream.set_nodelay(true).unwrap();
        rustix::net::sockopt::set_tcp_congestion(stream, "reno").unwrap();
    }
    (far, near)
}

struct Thread {
    id: String,
    name: String,
}

fn threads() -> Vec<Thread> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| {
            let task = task.unwrap();
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            Some(Thread {
                id: task.file_name().into_string().unwrap(),
                name: name.trim().to_owned(),
            })
        })
        .collect()
}

fn is_relaying(name: &str) -> bool {
    name.starts_with("tunnels-") || name == "relays"
}

/// CPU that the relaying threads have had.
pub fn thread_cpu() -> Duration {
    let relaying = threads()
        .into_iter()
        .filter(|thread| is_relaying(&thread.name));
    relaying
        .map(|thread| {
            let path = format!("/proc/self/task/{}/schedstat", thread.id);
            let stat = std::fs::read_to_string(path).unwrap();
            Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
        })
        .sum()
}

/// Keeps the calling thread on `core`.
pub fn pin(core: u32) {
    pin_thread(rustix_tid(), core);
}

fn rustix_tid() -> String {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().to_owned()
}

fn pin_thread(id: String, core: u32) {
    let core = core.to_string();
    let taskset = Command::new("taskset").args(["-pc", &core, &id]).output();
    assert!(taskset.unwrap().status.success());
}

/// Resident memory in bytes.
pub fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
