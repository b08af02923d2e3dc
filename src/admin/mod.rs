//! The operator's HTTP API on a Unix socket, and over TCP if asked for: the
//! process and its metrics, live tunnels, backends.

mod access;
mod backends;
mod closings;
mod dashboard;
mod denials;
mod desk;
mod dress;
mod endpoints;
mod fields;
mod gate;
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

pub use endpoints::Endpoint;
pub use listen::{Admin, token_obstacles};
pub use token::first_token;
