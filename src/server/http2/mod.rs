//! HTTP/2 on one connection (RFC 9113), and WebSockets over it (RFC 8441).
//!
//! `connection` is the connection's task, `exchange` the task of one request;
//! `request` makes what a stream carries an ordinary request, `response` sends
//! the answer, and `clocks` says when a connection is old, idle or dead. Frames
//! are the `h2` crate's work.
//!
//! Invariant: what is wrong with one stream ends that stream alone, unless RFC
//! 9113 or the limits of `[http2]` say otherwise.

mod clocks;
mod connection;
mod exchange;
mod request;
mod response;

use std::time::Duration;

use bytes::Bytes;

use super::entrance::Entrance;
use crate::config::{self, Config};
use crate::drain::Watch;
use crate::net::Transport;

/// Bytes that may wait in a stream for the connection to send them.
const SEND_BUFFER: usize = 64 * 1024;

/// How HTTP/2 is spoken on one connection.
pub(super) struct Http2 {
    builder: h2::server::Builder,
    limits: config::Http2,
    /// Without a stream.
    keepalive_timeout: Duration,
    /// For the client's part of the handshake.
    head_timeout: Duration,
    /// How long a client may keep the window of a stream closed for which
    /// there is something to send: as long as TCP's own window.
    patience: Duration,
    max_headers: usize,
    /// Bytes of a header block.
    max_head: usize,
}

impl Http2 {
    pub(super) fn new(config: &Config, websocket: bool) -> Self {
        let (limits, http2) = (&config.limits, config.http2.clone());
        let mut builder = h2::server::Builder::new();
        let window = u32::try_from(http2.stream_window).unwrap_or(u32::MAX);
        builder
            .max_concurrent_streams(http2.max_streams)
            .initial_window_size(window)
            // Wide enough for every stream's own: then a stalled stream takes
            // nothing from the others.
            .initial_connection_window_size(connection_window(&http2))
            // The sieve below `h2` holds clients to it and answers them.
            .max_header_list_size(u32::try_from(limits.max_request_head).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(http2.max_early_resets as usize)
            .max_local_error_reset_streams(Some(http2.max_stream_errors))
            // Frames do not wait in `h2` (see `net::http2::Stream`), so their
            // number needs no bound beside the window.
            .data_frame_budget(usize::MAX);
        if websocket {
            builder.enable_connect_protocol();
        }
        Self {
            builder,
            keepalive_timeout: limits.keepalive_timeout,
            head_timeout: limits.request_head_timeout,
            patience: config.tcp.user_timeout,
            max_headers: limits.max_request_headers,
            max_head: limits.max_request_head,
            limits: http2,
        }
    }

    /// Serves the connection to its end; `ahead` has been read from the
    /// transport before.
    pub(super) fn serve(
        self,
        transport: (Transport, Bytes),
        entrance: Entrance,
        watch: Watch,
        listener: Watch,
    ) -> impl Future<Output = ()> + Send {
        connection::serve(self, transport, entrance, (watch, listener))
    }
}

fn connection_window(limits: &config::Http2) -> u32 {
    /// RFC 9113 section 6.9.1.
    const LARGEST: usize = (1 << 31) - 1;
    let all = limits.stream_window * (limits.max_streams as usize + 1);
    u32::try_from(all.min(LARGEST)).unwrap_or(u32::MAX)
}
