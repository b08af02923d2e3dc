//! How the demo's pages learn of reloads: longhaul's own admin socket, asked
//! twice a second.
//!
//! longhaul adds nothing to requests that would tell a backend about its
//! config, so the demo asks it as any operator's tool would. What it says goes
//! to the pages as it is; nothing here acts on it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

/// Between two questions.
pub const INTERVAL: Duration = Duration::from_millis(500);
/// For one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one answer.
const ANSWER_LIMIT: usize = 1 << 20;

/// The part of `GET /status` that the demo shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Status {
    pub generation: u64,
    pub config_hash: String,
    pub last_reload: Option<Reload>,
    pub listeners: Vec<Listener>,
    pub upstreams: Vec<Upstream>,
    pub tunnels: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Reload {
    pub ok: bool,
    pub at_unix: u64,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Listener {
    pub name: String,
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Upstream {
    pub name: String,
    pub backends: Vec<Backend>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Backend {
    pub name: String,
    pub weight: u32,
    pub tunnels: u64,
}

/// Asks once.
///
/// # Errors
/// When the socket is not there (yet), or the answer is not the status.
pub async fn status(socket: &Path) -> anyhow::Result<Status> {
    tokio::time::timeout(TIMEOUT, ask(socket)).await?
}

async fn ask(socket: &Path) -> anyhow::Result<Status> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/status")
        .header(http::header::HOST, "admin")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let body = Limited::new(answer.into_body(), ANSWER_LIMIT);
        let body = body.collect().await.map_err(anyhow::Error::from_boxed)?;
        serde_json::from_slice(&body.to_bytes()).context("reading the admin socket's status")
    };
    tokio::pin!(exchange);
    tokio::select! {
        status = &mut exchange => status,
        // The connection may end before its last bytes have been read.
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    const ANSWER: &str = r#"{"version":"0.1.0","pid":7,"generation":2,"config_hash":"abc",
        "last_reload":{"ok":true,"at_unix":1,"message":"m"},
        "listeners":[{"name":"plain","address":"127.0.0.1:1"}],
        "upstreams":[{"name":"u","backends":[{"name":"red","address":"a","weight":3,
        "tunnels":4,"requests":5}]}],"tunnels":4,"connections":6}"#;

    #[tokio::test]
    async fn reads_the_status() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 512];
            let read = stream.read(&mut head).await.unwrap();
            assert!(head[..read].starts_with(b"GET /status HTTP/1.1\r\n"));
            let length = ANSWER.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{ANSWER}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (status, ()) = tokio::join!(status(&path), server);
        let status = status.unwrap();
        assert_eq!(status.generation, 2);
        assert_eq!(status.upstreams[0].backends[0].weight, 3);
        assert!(status.last_reload.unwrap().ok);
    }

    #[tokio::test]
    async fn no_socket_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(status(&dir.path().join("none")).await.is_err());
    }
}
