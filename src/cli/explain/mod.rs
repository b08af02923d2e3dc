//! `check --explain URL`: one request through the very layers and tables that
//! serve, up to the moment before a backend is dialled.

mod listener;
mod request;
mod tell;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::future::ready;
use std::sync::Arc;

use http::{Response, StatusCode, Uri, header};
use tower::{Service, service_fn};

use super::args::CheckArguments;
use crate::exchange::{Body, Reply};
use crate::guard;
use crate::layers::{self, redirect};
use crate::server::Incumbent;
use crate::state::Prepared;

/// What would become of the request, as text.
pub(super) fn explain(
    arguments: &CheckArguments,
    url: &Uri,
    prepared: &Prepared,
    incumbent: &Incumbent,
) -> anyhow::Result<String> {
    let config = prepared.config();
    let listener = listener::of(url, config, incumbent);
    let request = request::request(arguments, url, &listener)?;
    let mut text = String::new();
    tell::line(&mut text, "listener", &listener.to_string());
    if let Some(asked) = &listener.client_certificates {
        tell::line(&mut text, "shows", &tell::certificate(asked));
    }
    let client = arguments.client.unwrap_or(request::CLIENT);
    if !guard::lets_in(&listener.asked, Some(client)) {
        let shut = guard::Shut::Network;
        tell::line(
            &mut text,
            "refused",
            &format!("at accept ({}): {shut}", shut.label()),
        );
        return Ok(text);
    }
    let configured = config.listeners.get(listener.name());
    // No CAs: whoever asks has the certificate that it takes.
    let settled = layers::Settled::by(config, configured, None, &Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let answered = match listener.redirects {
        Some(port) => {
            let mut settle = layers::settle(settled, redirect::to(port));
            let answered = runtime.block_on(settle.call(request));
            if let Ok(answer) = &answered {
                tell_redirect(&mut text, answer);
            }
            answered
        }
        None => {
            let told = RefCell::new(String::new());
            // Stands where the router and the proxy stand when it is for real.
            let innermost = service_fn(|request| -> Reply {
                let told = tell::tell(&mut told.borrow_mut(), prepared.snapshot(), request);
                Box::pin(ready(told.map(|()| Response::new(Body::empty()))))
            });
            let answered = runtime.block_on(layers::settle(settled, innermost).call(request));
            text.push_str(&told.borrow());
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
