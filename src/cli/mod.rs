//! (to be written)
use std::process::ExitCode;
pub fn main() -> ExitCode { ExitCode::SUCCESS }
pub mod args;
pub mod completions;
pub mod demo;
pub mod man;
