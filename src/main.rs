//! The program: hands over to [`longhaul::cli`], which alone reads arguments
//! and exits.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// What lives as long as a tunnel is small and lies between the large and short
/// lives of its handshake. The C library's allocator keeps the holes; this one
/// keeps sizes apart, and gives back what a crowd of tunnels leaves.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    longhaul::cli::main()
}
