//! What is asked of everything that reads strangers' bytes, whatever the bytes:
//! one function for each target. libFuzzer finds the bytes (`fuzz_targets`), and
//! `tests/fuzz.rs` plays those that are kept (`corpus`) without it.
//!
//! Each holds more than "no panic": whole equals byte by byte, what is printed
//! reads as what it was printed from, and a simple model agrees.

mod config;
mod cookies;
mod frames;
mod handshake;
mod head;
mod lines;
mod patterns;
mod pem;
mod proxy_protocol;

pub use config::config;
pub use cookies::cookies;
pub use frames::frames;
pub use handshake::handshake;
pub use head::head;
pub use patterns::patterns;
pub use pem::pem;
pub use proxy_protocol::proxy_protocol;
