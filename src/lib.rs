//! longhaul: the load balancer for connections that stay.
//!
//! A WebSocket-aware reverse proxy: it terminates TLS, picks a backend by
//! sticky consistent hashing, upgrades, and then looks after the tunnel for as
//! long as it lives. `docs/architecture.md` is the map of the rooms below;
//! imports between them go down only (`tests/tidy.rs` keeps that true).

pub mod admin;
pub mod balance;
pub mod cli;
pub mod config;
pub mod drain;
pub mod exchange;
pub mod layers;
pub mod logging;
pub mod metrics;
pub mod net;
pub mod proxy;
pub mod route;
pub mod server;
pub mod state;
pub mod tls;
pub mod tunnel;
pub mod upstream;
pub mod ws;
