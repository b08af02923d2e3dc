//! HTTP/2 clients in three layers: frames by hand ([`Raw`]), streams that keep
//! the rules ([`H2`]), and a transport that turns HTTP/1.1 text into streams
//! ([`Gateway`]), so that one test can be run over both.
//!
//! Frames are read and written here; only header compression is a library's,
//! and another than longhaul's.

mod client;
mod frames;
mod gateway;
mod raw;

pub use client::{H2, Stream};
pub use frames::{Code, Flag, Frame, Kind, Setting};
pub use gateway::Gateway;
pub use raw::Raw;

/// What a client says first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
