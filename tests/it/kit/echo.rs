//! An echo backend that says its name: in `x-backend`, in the first WebSocket
//! message, and as the body of a plain answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::message::Request;
use super::wire::{Transport, Wire};

pub struct Echo {
    pub name: &'static str,
    address: String,
    shared: Arc<Shared>,
    /// Owns every connection: they end with it.
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    /// When each of them came.
    arrivals: Mutex<Vec<Instant>>,
}

impl Echo {
    pub async fn start(name: &'static str) -> Self {
        Self::start_on(name, "127.0.0.1:0").await
    }

    pub async fn start_on(name: &'static str, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(accept(listener, name, shared.clone()));
        Self {
            name,
            address,
            shared,
            task,
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The pair of name and address that [`super::Site`] takes.
    pub fn entry(&self) -> (&str, &str) {
        (self.name, &self.address)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Request heads so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no panic").clone()
    }

    /// When each request came.
    pub fn arrivals(&self) -> Vec<Instant> {
        self.shared.arrivals.lock().expect("no panic").clone()
    }

    /// Stops listening and drops every connection; the address stays free.
    pub async fn stop(mut self) -> String {
        self.task.abort();
        let _ = (&mut self.task).await;
        std::mem::take(&mut self.address)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, name: &'static str, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.expect("to accept");
                shared.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(Wire::new(Transport::Tcp(stream)), name, shared.clone()));
            }
            Some(ended) = connections.join_next() => {
                ended.expect("an echo connection without panic");
            }
        }
    }
}

async fn serve(mut wire: Wire, name: &'static str, shared: Arc<Shared>) {
    while wire.readable().await {
        let Some(request) = wire.next_request().await else {
            return;
        };
        shared
            .requests
            .lock()
            .expect("no panic")
            .push(request.clone());
        shared
            .arrivals
            .lock()
            .expect("no panic")
            .push(Instant::now());
        if request.header("sec-websocket-key").is_some() {
            echo(wire, &request, name).await;
            return;
        }
        if !wire.discard(request.length()).await {
            return;
        }
        let length = name.len();
        let body = if request.method == "HEAD" { "" } else { name };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        if wire.try_send(answer).await.is_err() {
            return;
        }
    }
}

async fn echo(mut wire: Wire, request: &Request, name: &'static str) {
    let key = request.header("sec-websocket-key").expect("a key");
    let accept = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nx-backend: {name}\r\n\r\n"
    );
    if wire.try_send(head).await.is_err() {
        return;
    }
    let (transport, ahead) = wire.into_parts();
    let mut socket =
        WebSocketStream::from_partially_read(transport, ahead, Role::Server, None).await;
    if socket
        .send(Message::text(format!("hello from {name}")))
        .await
        .is_err()
    {
        return;
    }
    while let Some(Ok(message)) = socket.next().await {
        // Behind a flood of them the core would be this thread's until the next tick,
        // whoever else waits for it.
        thread::yield_now();
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}
