//! The program: hands over to [`longhaul::cli`], which alone reads arguments
//! and exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    longhaul::cli::main()
}
