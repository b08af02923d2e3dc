//! Tests of the product from outside: the real binary, real sockets, real backends.
//!
//! One module for each paragraph of what longhaul must do. Nothing here may
//! look inside the library.

mod addresses;
mod admin;
mod admin_tcp;
mod admission;
mod auth;
mod bad_input;
mod bounds;
mod check;
mod closes;
mod crowd;
mod demo;
mod discovery;
mod drained;
mod drains;
mod early_ends;
mod ejection;
mod engine;
mod entries;
mod examples;
mod explain;
mod forward;
mod h2;
mod h2_abuse;
mod h2_backends;
mod h2_opening;
mod h2_pressure;
mod h2_rules;
mod h2_stalls;
mod h2_unprocessed;
mod impact;
mod in_flight;
mod kit;
mod listen;
mod logs;
mod manager;
mod operator;
mod pace;
mod pick;
mod pings;
mod probes;
mod processes;
mod rebalance;
mod registry;
mod reload;
mod route;
mod slow_start;
mod smoke;
mod start;
mod stop;
mod stream;
mod terminal;
mod tunnel;
mod upgrade;
