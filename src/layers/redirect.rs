//! Answers every request with a redirect to https.

use std::future::ready;

use http::{HeaderValue, Request, Response, StatusCode, header};
use tower::service_fn;

use crate::exchange::{Body, HttpService, Refusal, Reply, Target};

/// The innermost service of a listener that redirects to `port`.
pub fn to(port: u16) -> impl HttpService {
    service_fn(move |request| -> Reply { Box::pin(ready(redirect(&request, port))) })
}

fn redirect(request: &Request<Body>, port: u16) -> Result<Response<Body>, Refusal> {
    if !request.uri().path().starts_with('/') {
        return Err(Refusal::BadRequest("there is nothing to redirect to"));
    }
    let host = request
        .extensions()
        .get::<Target>()
        .map(|target| target.host.as_str())
        .filter(|host| !host.is_empty())
        .ok_or(Refusal::BadHost)?;
    // Hosts are compared without the brackets of IPv6; a URL needs them.
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let location = match port {
        443 => format!("https://{host}{}", request.uri()),
        _ => format!("https://{host}:{port}{}", request.uri()),
    };
    let mut response = Response::new(Body::empty());
    // 308 keeps method and body (RFC 9110 section 15.4.9).
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let location = HeaderValue::try_from(location).map_err(|_| Refusal::BadHost)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}
