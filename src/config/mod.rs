//! Text to a validated [`Config`], with diagnostics; no I/O beyond its own files.
//!
//! [`load()`] reads the main file and what it includes, `parse` is the pure
//! core. Both report everything that is wrong at once, and give a config only
//! if nothing is.

mod cross;
mod diagnostic;
mod draft;
mod findings;
mod health;
mod http2;
mod include;
mod keys;
mod limits;
mod listeners;
mod load;
mod model;
mod named_files;
mod nearest;
mod parse;
pub mod pattern;
mod process;
mod routes;
mod section;
mod source;
mod sticky;
mod syntax;
mod upstreams;
mod value;

pub use diagnostic::{Diagnostic, Diagnostics, Place};
pub use health::{Health, Initial, OnUnhealthy, Probe, ProbeRequest};
pub use http2::Http2;
pub use load::{Loaded, load};
pub use model::*;

#[cfg(test)]
mod tests;
