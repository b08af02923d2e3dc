//! `check --explain URL`: one request through the very layers and tables that
//! serve, up to the moment before a backend is dialled.

mod door;
mod request;
mod tell;

use std::fmt::Write as _;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode, Uri, header};
use tower::Service;

use super::args::CheckArguments;
use crate::exchange::{Body, Refusal, Reply};
use crate::guard;
use crate::layers::{self, redirect::Redirect};
use crate::server::Incumbent;
use crate::state::{Prepared, Snapshot};

/// What would become of the request, as text.
pub(super) fn explain(
    arguments: &CheckArguments,
    url: &Uri,
    prepared: &Prepared,
    incumbent: &Incumbent,
) -> anyhow::Result<String> {
    let config = prepared.config();
    let door = door::of(url, config, incumbent);
    let request = request::request(arguments, url, &door)?;
    let mut text = String::new();
    tell::line(&mut text, "listener", &door.to_string());
    if let Some(asked) = &door.client_certificates {
        tell::line(&mut text, "shows", &tell::certificate(asked));
    }
    let client = arguments.client.unwrap_or(request::CLIENT);
    if !guard::lets_in(&door.asked, Some(client)) {
        let shut = guard::Shut::Network;
        tell::line(
            &mut text,
            "refused",
            &format!("at accept ({}): {shut}", shut.label()),
        );
        return Ok(text);
    }
    let listener = config.listeners.get(door.name());
    // No CAs: whoever asks has the certificate that it takes.
    let settled = layers::Settled::by(config, listener, None, &Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let answered = match door.redirects {
        Some(port) => {
            let answered =
                runtime.block_on(layers::settle(settled, Redirect { port }).call(request));
            if let Ok(answer) = &answered {
                tell_redirect(&mut text, answer);
            }
            answered
        }
        None => {
            let innermost = Innermost {
                snapshot: prepared.snapshot(),
                text: Arc::default(),
            };
            let told = Arc::clone(&innermost.text);
            let answered = runtime.block_on(layers::settle(settled, innermost).call(request));
            text.push_str(&told.lock().unwrap_or_else(PoisonError::into_inner));
            answered
        }
    };
    if let Err(refusal) = answered {
        writeln!(
            text,
            "refused   {} ({}): {refusal}",
            refusal.status(),
            refusal.label()
        )?;
    }
    Ok(text)
}

fn tell_redirect(text: &mut String, answer: &Response<Body>) {
    let location = answer.headers().get(header::LOCATION);
    let location = location.and_then(|location| location.to_str().ok());
    let status: StatusCode = answer.status();
    tell::line(
        text,
        "answer",
        &format!("{status}, to {}", location.unwrap_or_default()),
    );
}

/// Stands where the router and the proxy stand when it is for real.
#[derive(Clone)]
struct Innermost<'s> {
    snapshot: &'s Snapshot,
    text: Arc<Mutex<String>>,
}

impl Service<Request<Body>> for Innermost<'_> {
    type Response = Response<Body>;
    type Error = Refusal;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let told = tell::tell(&mut text, self.snapshot, request);
        Box::pin(ready(told.map(|()| Response::new(Body::empty()))))
    }
}
