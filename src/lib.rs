//! longhaul: the load balancer for connections that stay.
//!
//! A WebSocket-aware reverse proxy: it terminates TLS, picks a backend by
//! sticky consistent hashing, upgrades, and then looks after the tunnel for as
//! long as it lives. `docs/architecture.md` is the map of the rooms below;
//! imports between them go down only (`tests/tidy.rs` keeps that true).

mod acme;
mod admin;
pub mod balance;
pub mod cli;
pub mod config;
mod drain;
mod exchange;
mod fetch;
mod files;
mod foreign;
pub mod fuzzing;
mod guard;
mod identity;
mod layers;
mod logging;
mod metrics;
pub mod net;
mod otlp;
mod proxy;
pub mod proxy_protocol;
pub mod route;
mod server;
mod spans;
mod state;
mod tls;
pub mod tunnel;
mod upstream;
pub mod ws;
