//! One of the demo's backends: an ordinary little web server with a WebSocket.
//!
//! It serves the page, its style and script, and `/ws`. It knows nothing of
//! longhaul: a backend behind a proxy needs no change. It listens on loopback
//! only.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::session::{self, Handshake, Place};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// For a request head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
/// After a failed accept, which out of descriptors would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The page loads nothing from anywhere else, and nothing may be put into it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'";

type Answer = Response<Full<Bytes>>;

/// Accepts until the runtime ends.
pub async fn serve(listener: TcpListener, place: Arc<Place>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, Arc::clone(&place)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, place: Arc<Place>) {
    // Heartbeats are small and their latency is shown.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answer = answer(request, &place);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // A client that left in the middle is no news.
    let _ = connection.await;
}

fn answer(request: Request<Incoming>, place: &Arc<Place>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/ws") => upgrade(request, place),
        (&Method::GET | &Method::HEAD, "/") => {
            let page = PAGE.replace("{{backend}}", place.backend);
            file("text/html; charset=utf-8", Bytes::from(page))
        }
        (&Method::GET | &Method::HEAD, "/page.css") => file(
            "text/css; charset=utf-8",
            Bytes::from_static(STYLE.as_bytes()),
        ),
        (&Method::GET | &Method::HEAD, "/page.js") => file(
            "text/javascript; charset=utf-8",
            Bytes::from_static(SCRIPT.as_bytes()),
        ),
        (&Method::POST, "/forget") => forget(),
        _ => status(StatusCode::NOT_FOUND, "not found\n"),
    }
}

fn upgrade(mut request: Request<Incoming>, place: &Arc<Place>) -> Answer {
    let headers = request.headers();
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let asked = text(headers, &header::UPGRADE).eq_ignore_ascii_case("websocket");
    let (Some(key), true) = (key, asked) else {
        return status(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket\n");
    };
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return status(StatusCode::BAD_REQUEST, "bad key\n");
    };
    let handshake = Handshake {
        host: text(headers, &header::HOST),
        forwarded_for: text(headers, &HeaderName::from_static("x-forwarded-for")),
        forwarded_proto: text(headers, &HeaderName::from_static("x-forwarded-proto")),
    };
    let place = Arc::clone(place);
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrading.await {
            session::run(upgraded, handshake, place).await;
        }
    });
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    answer
}

fn file(kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

/// Throws the sticky cookie away and loads the page again, so that longhaul
/// picks anew. Scripts cannot do it: the cookie is `HttpOnly`.
fn forget() -> Answer {
    let mut answer = status(StatusCode::SEE_OTHER, "");
    let headers = answer.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static("/"));
    headers.insert(
        header::SET_COOKIE,
        HeaderValue::from_static("longhaul=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"),
    );
    answer
}

fn status(code: StatusCode, body: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *answer.status_mut() = code;
    answer
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else_for_anything() {
        for part in [PAGE, STYLE, SCRIPT] {
            for address in ["http://", "https://", "//cdn", "@import"] {
                let outside = part.replace("http://www.w3.org/2000/svg", "");
                assert!(!outside.contains(address), "{address}");
            }
        }
        assert!(PAGE.contains("{{backend}}"));
        // The policy forbids both.
        assert!(!PAGE.contains("<style") && !PAGE.contains("style=\""));
    }

    #[test]
    fn forgetting_loads_the_page_again_without_the_cookie() {
        let answer = forget();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.starts_with("longhaul=;") && cookie.contains("Max-Age=0"));
    }
}
