//! WebSocket wire rules, sans-I/O: handshake, frames, close codes.

pub mod frame;
