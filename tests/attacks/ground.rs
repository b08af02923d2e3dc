//! What is attacked: longhaul with all its listeners, an echo, and a backend that does
//! as it is told.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::Attack;
use crate::kit::{
    Authority, Echo, Fixed, Proxy, RawBackend, Setup, Site, TlsClient, handshake, soon,
};
use crate::place;

/// Bytes of resident memory for each connection that says nothing.
pub const WAITING: u64 = 8 * 1024;
/// For each that has sent half of a ClientHello.
pub const HELLO: u64 = 20 * 1024;
/// For each that has sent a part of a head: `max_request_head`, and its own.
pub const HEAD: u64 = 48 * 1024;
/// For each request that is being forwarded.
pub const REQUEST: u64 = 64 * 1024;
/// For each tunnel, from its handshake on.
pub const TUNNEL: u64 = 48 * 1024;
/// For each tunnel of which one side takes nothing more.
pub const STALLED: u64 = 128 * 1024;

/// The same in words, as docs/capacity.md has them.
pub const COSTS: [(&str, u64); 6] = [
    ("a connection that says nothing", WAITING),
    ("one that has sent half of a ClientHello", HELLO),
    (
        "one with a part of a head, at the default `max_request_head`",
        HEAD,
    ),
    ("a request that is being forwarded", REQUEST),
    ("a tunnel, from its handshake on", TUNNEL),
    ("a tunnel of which one side takes nothing more", STALLED),
];

/// Where the listeners are.
pub struct Ground {
    pub plain: String,
    pub tls: String,
    pub admin: String,
    /// Of a listener where each connection says first whose it is.
    pub dressed: String,
    /// What a client says first over TLS.
    pub hello: Vec<u8>,
    /// Behind the path `/raw`.
    pub raw: RawBackend,
}

pub struct Proxied {
    pub proxy: Proxy,
    /// Of the attackers.
    _echo: Echo,
    pub ground: Arc<Ground>,
    pub client: TlsClient,
    _fixed: Fixed,
    /// Takes what is sent and never says a word.
    _deaf: RawBackend,
}

impl Proxied {
    /// `backend` is that of the tunnels of others.
    pub async fn start(backend: &str) -> Self {
        let echo = Echo::start("a").await;
        let fixed = Fixed::start("HTTP/1.1 200 OK").await;
        let (raw, deaf) = (RawBackend::start().await, RawBackend::start().await);
        let authority = Authority::new();
        let pair = authority.pair(&["localhost"]);
        let setup = Setup::new().after(place::of_longhaul());
        setup.write("site.pem", &pair.chain);
        setup.write("site.key", &pair.key);
        let token = setup.write("token", "sixteen-characters");
        fs::set_permissions(token, Permissions::from_mode(0o600)).expect("to set its mode");
        let site = Site::one(echo.address()).more(&format!(
            "[listeners.tls]\naddress = '127.0.0.1:0'\n\
             certificates = [{{ chain = 'site.pem', key = 'site.key' }}]\n\
             [listeners.dressed]\naddress = '127.0.0.1:0'\n\
             proxy_protocol = {{ from = ['127.0.0.0/8'], timeout = '2s' }}\n\
             [[routes]]\npath = '/good'\nupstream = 'good'\n\
             [upstreams.good]\nbackends = [{{ name = 'g', address = '{backend}' }}]\n\
             [[routes]]\npath = '/fixed'\nupstream = 'fixed'\n\
             [upstreams.fixed]\nbackends = [{{ name = 'f', address = '{}' }}]\n\
             [[routes]]\npath = '/raw'\nupstream = 'raw'\n\
             [upstreams.raw]\nbackends = [{{ name = 'r', address = '{}' }}]\n\
             [[routes]]\npath = '/deaf'\nupstream = 'deaf'\n\
             [upstreams.deaf]\nbackends = [{{ name = 'd', address = '{}' }}]\n\
             [limits]\nmax_connections = 15000\nfirst_byte_timeout = '2s'\n\
             tls_handshake_timeout = '2s'\nrequest_head_timeout = '2s'\n\
             request_body_timeout = '2s'\n\
             [log]\nformat = 'json'\naccess = false\n\
             [admin]\nsocket = 'admin.sock'\nlisten = '127.0.0.1:0'\n\
             token_file = 'token'\n",
            fixed.address(),
            raw.address(),
            deaf.address(),
        ));
        let proxy = setup.start(site).await;
        let ground = Ground {
            plain: proxy.address("main").await,
            tls: proxy.address("tls").await,
            dressed: proxy.address("dressed").await,
            admin: proxy.status().await["admin_listen"]
                .as_str()
                .expect("an address")
                .to_owned(),
            hello: authority.client().hello("localhost"),
            raw,
        };
        Self {
            proxy,
            _echo: echo,
            ground: Arc::new(ground),
            client: authority.client(),
            _fixed: fixed,
            _deaf: deaf,
        }
    }

    /// Runs an attack to its end, on a thread that yields to everyone.
    pub async fn suffer(&self, attack: Attack) {
        let ground = Arc::clone(&self.ground);
        let (over, is_over) = oneshot::channel();
        let attacker = thread::spawn(move || {
            place::last();
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(attack(ground));
            over.send(()).expect("someone who waits");
        });
        let ended = is_over.await;
        attacker.join().expect("no attack to fail");
        ended.expect("no attack to fail");
    }
}

impl Ground {
    /// A connection of an attacker. Each thousand has an address of its own, or ports
    /// would run out.
    pub async fn connect(&self, address: &str, number: usize) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        // What it leaves behind would keep others from the same port for a minute.
        socket.set_reuseaddr(true).expect("to set an option");
        let local = format!("127.0.9.{}:0", 1 + number / 1000);
        socket
            .bind(local.parse().expect("an address"))
            .expect("a port");
        let address = address.parse().expect("an address");
        place::give_way();
        soon("a connection", socket.connect(address))
            .await
            .expect("to connect")
    }

    /// A tunnel of an attacker; `extra` are whole header lines.
    pub async fn tunnel(&self, path: &str, extra: &str, number: usize) -> TcpStream {
        let mut stream = self.connect(&self.plain, number).await;
        let asked = handshake(path, "localhost", extra);
        stream.write_all(asked.as_bytes()).await.expect("to send");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = soon("an answer", stream.read_u8()).await;
            head.push(byte.expect("an answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "a tunnel");
        stream
    }
}

/// Reads what there is to the end; whether that is an end or a reset is longhaul's choice.
pub async fn drain(stream: &mut TcpStream) {
    let mut buffer = [0; 16 * 1024];
    let end = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    soon("the end of an attacker's connection", end).await;
}
