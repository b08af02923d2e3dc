//! Tunnels: bytes moved both ways until an end, how it ended, and the
//! registry of those that live.
//!
//! It does not dial, upgrade, log or know any configuration file: a tunnel
//! gets its [`Options`] by value at birth. `relay` polls the streams;
//! `direction` and `course` decide what is forwarded and how an end is reached
//! and know nothing of polling, so that another engine can stand beside it.
//!
//! Invariant: bytes are forwarded once, in order and unchanged, and a Close
//! frame of longhaul's own goes in only between two messages.

mod clock;
mod course;
mod direction;
mod entry;
mod options;
mod outcome;
mod registry;
mod relay;
mod scratch;

pub use entry::{CloseOrder, Facts, Labels, State, Tunnel};
pub use options::{Close, Framing, Options};
pub use outcome::{Cause, Outcome, Side};
pub use registry::{Registry, Ticket};
pub use relay::{Leg, Relay, relay};

#[cfg(test)]
mod tests;
