//! The operator's HTTP API on a Unix socket, and over TCP if asked for: the
//! process and its metrics, live tunnels, backends.

mod access;
mod ask;
mod backends;
mod closings;
mod dashboard;
mod desk;
mod dress;
mod fields;
mod impact;
mod listen;
mod live;
mod pages;
mod person;
mod rebalance;
mod serve;
mod status;
mod token;
mod tunnels;
mod watch;

pub use ask::{AskError, Door, Running};
pub use listen::{Admin, token_obstacles};
