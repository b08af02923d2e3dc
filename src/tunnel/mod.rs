//! Tunnels: bytes moved both ways until an end, how it ended, and the
//! registry of those that live.
//!
//! It does not dial, upgrade, log or know any configuration file: a tunnel
//! gets its [`Options`] by value at birth. `direction` and `course` decide what
//! is forwarded and how an end is reached, `pump` and `relay` move the bytes by
//! them between any two streams. Where its route has peers pinged, `pulse` says
//! when, and `sift` keeps those pings and their answers apart from the rest. [`run`] has them do so on the threads of the
//! [`Engine`] where both streams are plain sockets, and in a tokio task where
//! one is not.
//!
//! Invariant: bytes are forwarded once, in order and unchanged, and a Close
//! frame of longhaul's own goes in only between two messages, a Ping only between
//! two frames.

mod aside;
mod bulk;
mod clock;
mod course;
mod direction;
mod ended;
mod engine;
mod entry;
mod facts;
mod filter;
mod opening;
mod options;
mod outcome;
mod pulse;
mod pump;
mod quota;
mod registry;
mod relay;
mod run;
mod scratch;
mod screen;
mod sift;
mod signals;
mod sync;
mod traffic;

pub use ended::{Ended, LastEnded};
pub use engine::{Engine, OnEnd};
pub use entry::Tunnel;
pub use facts::{CloseOrder, Facts, Labels, State};
pub use filter::Filter;
pub use opening::Opening;
pub use options::{Close, Codes, Expiry, Framing, Options};
pub use outcome::{Cause, Outcome, Side};
pub use registry::{Page, Registry, Ticket};
pub use relay::{Leg, Relay, relay};
pub use run::run;
pub use traffic::Traffic;

pub use crate::exchange::Words;

#[cfg(test)]
mod tests;
