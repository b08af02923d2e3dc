//! (to be written)
use std::process::ExitCode;

pub mod args;
pub mod completions;
pub mod demo;
pub mod man;

pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
