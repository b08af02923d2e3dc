//! One connection of an operator: one request, whose head and answer have their
//! time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::access::Access;
use super::dashboard;
use super::desk::{Answer, Desk, JSON};
use super::endpoints::Endpoint;
use super::fields::Wrong;
use super::person::Caller;
use super::watch::Watcher;

/// An operator's request is short.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a connection, until its answer has been taken.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Within its time.
pub(super) async fn serve<S>(stream: S, caller: Caller, desk: Arc<Desk>, access: Arc<Access>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if timeout(CONNECTION_TIMEOUT, connection(stream, caller, desk, access))
        .await
        .is_err()
    {
        tracing::debug!("admin connection took too long");
    }
}

async fn connection<S>(stream: S, caller: Caller, desk: Arc<Desk>, access: Arc<Access>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (desk, access) = (Arc::clone(&desk), Arc::clone(&access));
        let caller = caller.clone();
        async move { Ok::<_, Infallible>(respond(desk, access, caller, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}

async fn respond(
    desk: Arc<Desk>,
    access: Arc<Access>,
    caller: Caller,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let asked = Endpoint::find(request.method(), request.uri().path());
    if asked == Ok(Endpoint::Dashboard) {
        return dashboard::page(request.headers(), caller.is_tls);
    }
    let answer = answer(desk, access, caller, asked, request).await;
    answer.unwrap_or_else(|wrong| {
        let error = json!({ "error": wrong.message });
        response(wrong.status, error.to_string().into(), JSON)
    })
}

async fn answer(
    desk: Arc<Desk>,
    access: Arc<Access>,
    caller: Caller,
    asked: Result<Endpoint, Wrong>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Wrong> {
    let (head, body) = request.into_parts();
    // Who may not come in is not told what there is either.
    let person = access
        .check(&caller, &head)
        .inspect_err(|wrong| desk.denials.denied(&caller, &head, wrong))?;
    let endpoint = asked?;
    if endpoint == Endpoint::Watch {
        let watcher = Watcher {
            desk,
            access,
            caller,
        };
        return watcher.begin(Request::from_parts(head, body));
    }
    Ok(match desk.answer(&person, endpoint, head, body).await? {
        Answer::Json(value) => response(StatusCode::OK, value.to_string().into(), JSON),
        Answer::Text(text, kind) => response(StatusCode::OK, text, kind),
    })
}

fn response(status: StatusCode, text: Bytes, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 section 15.5.2.
        let scheme = HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;
    use crate::admin::person::Peer;
    use crate::state::State;

    /// On a clock that jumps to the next deadline when nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_answer_is_given_up() {
        let (mut client, server) = UnixStream::pair().unwrap();
        // Less than an answer.
        socket2::SockRef::from(&server)
            .set_send_buffer_size(1)
            .unwrap();
        client
            .write_all(
                b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text\r\n\r\n",
            )
            .await
            .unwrap();
        let state = Arc::new(State::new());
        for number in 0..10_000 {
            let refusal = format!("a-long-word-{number}").leak();
            let refused = crate::metrics::Refused { refusal };
            state.metrics.tls_failures.get(&refused).inc();
        }
        let access = Access::Socket {
            operators: crate::config::Operators::default(),
            own: 0,
        };
        let served = serve(
            server,
            Caller::plain(Peer::User { uid: 0, gid: 0 }),
            Desk::new(state, None),
            Arc::new(access),
        );
        let given_up = timeout(2 * CONNECTION_TIMEOUT, served).await;
        assert!(given_up.is_ok(), "still waiting");
        let mut answer = String::new();
        let _ = client.read_to_string(&mut answer).await;
        assert!(!answer.contains("# EOF"), "it was taken whole");
    }
}
