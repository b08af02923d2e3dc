//! HTTP/2 streams (RFC 9113) as the rest of longhaul uses them: bytes in, bytes
//! out, an end or a reset, each with its own bounds.
//!
//! The `h2` crate frames, compresses headers and keeps the windows. This adds
//! what a proxy needs beside it: received bytes are taken out of `h2` at once,
//! into a buffer that the stream's window bounds ([`Stream`]), so that a stalled
//! stream costs its window and not a budget that all streams of the connection
//! share; what is wrong with one stream is kept from ending all of them (`sieve`);
//! endings are told apart ([`Broken`]); a [`Tunnel`] is a byte stream like a
//! socket; and what a client does too much of is counted ([`Calm`]). It knows
//! nothing of requests, routes or configuration.

mod body;
mod broken;
mod calm;
mod chunk;
mod fields;
mod frame;
mod held;
mod hpack;
mod io;
mod ready;
mod sieve;
mod stream;
mod tunnel;

pub use body::StreamBody;
pub use broken::Broken;
pub use calm::Calm;
pub use chunk::Chunk;
pub use fields::VERDICT;
pub use io::Io;
pub use ready::Ready;
pub use sieve::Bounds;
pub use stream::Stream;
pub use tunnel::{Place, Tunnel};

/// What a client of HTTP/2 with prior knowledge sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
