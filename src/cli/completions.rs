//! `longhaul completions`: a shell's completion script on stdout.
//!
//! Generated from [`super::args`], so it cannot know less than the parser. It
//! installs nothing.

use std::io::Write;

use clap::CommandFactory;

use super::args::{Arguments, CompletionsArguments};

/// Writes the script for the shell that was asked for.
///
/// # Errors
/// When `out` does not take it.
pub fn run(arguments: &CompletionsArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    // `generate` panics on a write error, such as a closed pipe, so it gets a
    // buffer, which has none.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    out.write_all(&script)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use clap_complete::Shell;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in Shell::value_variants() {
            let mut out = Vec::new();
            run(&CompletionsArguments { shell: *shell }, &mut out).unwrap();
            let script = String::from_utf8(out).unwrap();
            for word in ["run", "check", "demo", "man", "explain", "tls-port"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
