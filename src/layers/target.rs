//! Makes the target of a request unambiguous before anything decides by it.
//!
//! RFC 9112 section 3.2: exactly one valid Host; an absolute-form target
//! overrides it. Paths with dot segments or encoded separators are refused,
//! because two parsers could see two paths (see [`crate::route`]).

use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

use crate::exchange::headers::apply_connection;
use crate::exchange::{Body, Refusal, Target};
use crate::route;
use crate::ws::handshake::tokens;

/// Brings the request to origin-form with one Host, and notes the [`Target`].
/// What its `Connection` takes off is gone before anything is added.
pub(super) fn settle(request: &mut Request<Body>) -> Result<(), Refusal> {
    apply_connection(request.headers_mut());
    if request.method() == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let mut codings = tokens(request.headers(), &TRANSFER_ENCODING);
    if codings
        .next()
        .is_some_and(|coding| !coding.eq_ignore_ascii_case("chunked"))
        || codings.next().is_some()
    {
        return Err(Refusal::BadRequest(
            "its transfer coding is not chunked alone",
        ));
    }
    drop(codings);
    let authority = match request.uri().authority() {
        Some(authority) if authority.as_str().contains('@') => return Err(Refusal::BadHost),
        Some(authority) => {
            // Both must be valid even though one wins (RFC 9112 section 3.2).
            single_host(request.headers(), request.version())?;
            HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::BadHost)?
        }
        None => single_host(request.headers(), request.version())?,
    };
    let text = authority.to_str().map_err(|_| Refusal::BadHost)?;
    let host = if text.is_empty() {
        String::new()
    } else {
        route::normalise_host(text)
            .ok_or(Refusal::BadHost)?
            .into_owned()
    };
    let path = request
        .uri()
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    if route::has_dot_segments(path.path()) {
        return Err(Refusal::BadPath);
    }
    *request.uri_mut() = Uri::from(path);
    if !authority.is_empty() {
        request.headers_mut().insert(HOST, authority);
    }
    request.extensions_mut().insert(Target { host });
    Ok(())
}

/// The one Host field; empty where HTTP/1.0 sends none.
fn single_host(headers: &HeaderMap, version: Version) -> Result<HeaderValue, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(host.clone()),
        (None, _) if version < Version::HTTP_11 => Ok(HeaderValue::from_static("")),
        _ => Err(Refusal::BadHost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(build: http::request::Builder) -> Result<Request<Body>, Refusal> {
        let mut request = build.body(Body::empty()).unwrap();
        settle(&mut request).map(|()| request)
    }

    #[test]
    fn an_absolute_target_overrides_host() {
        let request =
            settled(Request::get("http://A.example:81/x?y=1").header(HOST, "b.example")).unwrap();
        assert_eq!(request.uri(), "/x?y=1");
        assert_eq!(request.headers()[HOST], "A.example:81");
        assert_eq!(
            request.extensions().get::<Target>().unwrap().host,
            "a.example"
        );
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        let get = || Request::get("/x");
        assert!(matches!(settled(get()), Err(Refusal::BadHost)));
        assert!(matches!(
            settled(get().header(HOST, "a").header(HOST, "b")),
            Err(Refusal::BadHost)
        ));
        assert!(matches!(
            settled(get().header(HOST, "a b")),
            Err(Refusal::BadHost)
        ));
        assert!(matches!(
            settled(Request::get("/a/../b").header(HOST, "a")),
            Err(Refusal::BadPath)
        ));
        assert!(matches!(
            settled(Request::get("http://user@a/").header(HOST, "a")),
            Err(Refusal::BadHost)
        ));
        assert!(settled(get().version(Version::HTTP_10)).is_ok());
    }
}
