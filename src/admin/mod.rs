//! The operator's HTTP API on a Unix socket: the process and its metrics, live
//! tunnels, backends.
//!
//! Who may use it is decided by the socket file's mode. Few at a time: each
//! connection has one request, whose head and answer have their time.

mod ask;
mod backends;
mod closings;
mod desk;
mod fields;
mod impact;
mod rebalance;
mod status;
mod tunnels;

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

pub use ask::{AskError, Running, ask, get, post};

use desk::{Answer, Desk};
use fields::Wrong;

use crate::config;
use crate::net::remove_stale_socket;
use crate::state::State;

/// An operator's request is short.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a connection, until its answer has been taken.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at once; the next wait in the socket's queue.
const MOST_CONNECTIONS: usize = 32;
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// The bound admin socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct Admin {
    listener: UnixListener,
    path: PathBuf,
}

impl Admin {
    /// Binds the socket, within a runtime. One that a dead process left behind
    /// is replaced.
    ///
    /// # Errors
    /// If another process serves it, or the kernel refuses.
    pub fn bind(settings: &config::Admin) -> io::Result<Self> {
        let path = settings.socket.clone();
        remove_stale_socket(&path)?;
        let listener = UnixListener::bind(&path)?;
        let admin = Self { listener, path };
        fs::set_permissions(&admin.path, Permissions::from_mode(settings.mode))?;
        Ok(admin)
    }

    /// Serves until dropped.
    pub async fn serve(self, state: Arc<State>) -> Infallible {
        let turns = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let desk = Desk::new(state);
        loop {
            // It is never closed.
            let turn = Arc::clone(&turns).acquire_owned().await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let served = serve(stream, Arc::clone(&desk));
                    tokio::spawn(async move {
                        served.await;
                        drop(turn);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "admin accept failed");
                    sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Within its time.
async fn serve(stream: UnixStream, desk: Arc<Desk>) {
    if timeout(CONNECTION_TIMEOUT, connection(stream, desk))
        .await
        .is_err()
    {
        tracing::debug!("admin connection took too long");
    }
}

async fn connection(stream: UnixStream, desk: Arc<Desk>) {
    let service = service_fn(|request: Request<Incoming>| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(response(desk.answer(request).await)) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}

fn response(answer: Result<Answer, Wrong>) -> Response<Full<Bytes>> {
    let json = "application/json";
    let (status, kind, text) = match answer {
        Ok(Answer::Json(value)) => (StatusCode::OK, json, value.to_string()),
        Ok(Answer::Metrics(page)) => (
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            page,
        ),
        Err(wrong) => {
            let error = serde_json::json!({ "error": wrong.message });
            (wrong.status, json, error.to_string())
        }
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// On a clock that jumps to the next deadline when nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_answer_is_given_up() {
        let (mut client, server) = UnixStream::pair().unwrap();
        // Less than an answer.
        socket2::SockRef::from(&server)
            .set_send_buffer_size(1)
            .unwrap();
        client
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let state = Arc::new(State::new());
        for number in 0..10_000 {
            let refusal = format!("a-long-word-{number}").leak();
            let refused = crate::metrics::Refused { refusal };
            state.metrics.tls_failures.get_or_create(&refused).inc();
        }
        let served = serve(server, Desk::new(state));
        let given_up = timeout(2 * CONNECTION_TIMEOUT, served).await;
        assert!(given_up.is_ok(), "still waiting");
        let mut answer = String::new();
        let _ = client.read_to_string(&mut answer).await;
        assert!(!answer.contains("# EOF"), "it was taken whole");
    }
}
