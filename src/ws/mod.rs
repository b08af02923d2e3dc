//! WebSocket wire rules (RFC 6455): what a handshake, a frame and a close code
//! may look like.
//!
//! Sans-I/O: nothing here reads a socket, waits, or knows a configuration.
//! No input from the network can make anything here panic.

pub mod close;
pub mod frame;
pub mod handshake;
pub mod head;
pub mod ping;
pub mod pong;
