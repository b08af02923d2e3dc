//! The operator's HTTP API on a Unix socket: `GET /status` and `GET /metrics`.
//!
//! Who may use it is decided by the socket file's mode.

mod ask;
mod status;

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

pub use ask::{Running, ask};

use crate::config;
use crate::net::remove_stale_socket;
use crate::state::State;

/// An operator's request is short.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
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
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, Arc::clone(&state)))),
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

async fn connection(stream: UnixStream, state: Arc<State>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request, &state);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}

fn answer(request: &Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    let (kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/status") => ("application/json", status::status(state).to_string()),
        (&Method::GET, "/metrics") => (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            state.metrics_page(),
        ),
        (_, "/status" | "/metrics") => return plain(StatusCode::METHOD_NOT_ALLOWED),
        _ => return plain(StatusCode::NOT_FOUND),
    };
    let mut response = Response::new(Full::from(text));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let text = format!("{status}; there are /status and /metrics\n");
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
