//! Text to a validated [`Config`], with diagnostics; no I/O beyond its own files.

mod model;
pub mod pattern;

pub use model::*;
