//! What an exchange or a tunnel says of its backend: the reports that may eject
//! it.
//!
//! It only names what happened; `upstream` counts and decides.
//!
//! Invariant: what a client gets wrong by the protocol, in its request or in its
//! frames' headers, is not reported against a backend. What a backend makes of
//! messages that are well-formed is its own.

use std::sync::Arc;

use http::StatusCode;

use crate::config::Report;
use crate::exchange::Refusal;
use crate::metrics::{Metrics, Reported};
use crate::tunnel::{Cause, Outcome, Side};
use crate::upstream::Backend;
use crate::ws::close::INTERNAL_ERROR;

/// Something that speaks against a backend.
pub(super) fn against(metrics: &Metrics, backend: &Backend, report: Report) {
    let labels = Reported {
        upstream: Arc::clone(backend.upstream()),
        backend: Arc::clone(backend.name()),
        report: report.label(),
    };
    metrics.reports.get(&labels).inc();
    if backend.report(report) {
        metrics.ejections.get(&labels).inc();
    }
}

/// The head of an answer.
pub(super) fn answered(metrics: &Metrics, backend: &Backend, status: StatusCode) {
    // These two say that the request asks for what no server of its kind does.
    let about_the_request = matches!(
        status,
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED
    );
    match status.is_server_error() && !about_the_request {
        true => against(metrics, backend, Report::Status),
        false => backend.went_well(),
    }
}

/// What longhaul says to the client in the place of an answer.
pub(super) fn refused(metrics: &Metrics, backend: &Backend, refusal: &Refusal) {
    match refusal {
        // The other timeout of a backend begins with the client's leaving.
        Refusal::BackendTimeout("handshake_timeout" | "response_timeout") => {
            against(metrics, backend, Report::Timeout);
        }
        Refusal::BackendProtocol(_) => against(metrics, backend, Report::Protocol),
        _ => {}
    }
}

/// The end of a tunnel.
pub(super) fn ended(metrics: &Metrics, backend: &Backend, outcome: &Outcome) {
    if outcome.ended_by != Side::Backend {
        return;
    }
    let is_early = || {
        backend
            .early_end()
            .is_some_and(|soon| outcome.duration < soon)
    };
    match outcome.cause {
        Cause::Close(Some(INTERNAL_ERROR)) => against(metrics, backend, Report::Close1011),
        Cause::Eof
        | Cause::TlsEof
        | Cause::Reset
        | Cause::PeerTimeout
        | Cause::PingTimeout
        | Cause::TlsError
            // Nothing but an end can answer frames that nobody can read.
            if !outcome.client_unreadable && is_early() =>
        {
            against(metrics, backend, Report::EarlyEnd);
        }
        _ => {}
    }
}
