//! The command line: commands, exit codes, and what is printed. The only room
//! that reads arguments, exits, or uses `anyhow`.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage or a wrong configuration.

mod args;
mod check;
mod completions;
mod demo;
mod explain;
mod man;
mod operator;
mod run;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use self::args::{Arguments, Command};
use crate::config::Diagnostics;

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Command::Run(arguments) => run::run(&arguments.config),
        Command::Check(arguments) => check::check(arguments),
        Command::Status(arguments) => operator::status(arguments),
        Command::Top(arguments) => operator::top(arguments),
        Command::Tunnels(arguments) => operator::tunnels(arguments),
        Command::Backends(arguments) => operator::backends(arguments),
        Command::Rebalance(arguments) => operator::rebalance(arguments),
        Command::Demo(arguments) => demo::run(arguments, run::run),
        Command::Completions(arguments) => completions::run(arguments, &mut io::stdout()),
        Command::Man => man::run(&mut io::stdout()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // `longhaul man | head` is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code says it too.
            let _ = writeln!(io::stderr(), "longhaul: {error:#}");
            ExitCode::from(if error.is::<WrongConfig>() { 2 } else { 1 })
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is wrong\n{0}")]
struct WrongConfig(Diagnostics);

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
