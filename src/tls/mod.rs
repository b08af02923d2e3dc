//! Certificates and rustls configurations, in both directions.
//!
//! Reads PEM files into pairs that are proven to match ([`Pair`]), keeps the
//! last good one of each over reloads ([`Pairs`]), and the OCSP responses that
//! vouch for them ([`Staples`]), makes the rustls
//! configurations of listeners ([`server_config`]) and of upstreams
//! ([`client_config`]), holds those that come while the process runs ([`Issued`]),
//! and does the server's handshake under a deadline
//! ([`accept()`]).
//!
//! It does not watch files, does not count or log, and does not dial: callers
//! do, with what is returned here. File reads are blocking, so everything but
//! [`accept()`] belongs on the control plane.
//!
//! Invariant: no key is ever used with a certificate it does not belong to,
//! and a bad file never replaces a good pair.

mod accept;
mod client;
mod facts;
mod hello;
mod issued;
mod pair;
mod pem;
mod server;
mod sni;
mod staple;
mod staples;
mod store;
mod tickets;

#[cfg(test)]
mod tests;

pub use accept::{AcceptError, accept};
pub use client::{ServerNameError, client_config, client_config_for_http2, server_name};
pub use facts::ClientCertificate;
pub use issued::{Issued, Proof, ProofError};
pub use pair::{Pair, PairError};
pub(crate) use pem::{PemFile, PemProblem};
pub use server::{Certificates, ServerOptions, ServerTls, server_config};
pub use staple::Served;
pub use staples::Staples;
pub use store::{Freshness, Pairs};
pub use tickets::Tickets;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// Bytes of plaintext, and again of ciphertext, that one TLS connection may
/// hold for a peer that does not read: `set_buffer_limit(Some(SEND_BUFFER))`.
///
/// [`accept()`] sets it; whoever dials a backend must set it on the client's
/// side. Two full records (RFC 8446 section 5.1), since that is what the relay reads at
/// once: with less each record would be a system call of its own.
pub const SEND_BUFFER: usize = 32 * 1024;

/// The protocols that are negotiated (RFC 7301). A client that offers only
/// others is refused; one that offers none is not, and speaks HTTP/1.1.
const HTTP_1_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";
/// By which a CA asks for a proof (RFC 8737 section 6.2).
const ACME_TLS_1: &[u8] = b"acme-tls/1";

/// The one crypto provider, named here so that no process-wide default is
/// needed: a library that installs one would race with us.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
