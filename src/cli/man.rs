//! `longhaul man`: the man page on stdout, one page for all commands.
//!
//! Generated from [`super::args`]. It installs nothing and starts no pager.

use std::io::Write;

use clap::CommandFactory;
use clap_mangen::Man;

use super::args::Arguments;

/// Writes the page, in roff.
///
/// # Errors
/// When `out` does not take it.
pub fn run(out: &mut dyn Write) -> anyhow::Result<()> {
    let mut command = Arguments::command();
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    for sub in command.get_subcommands() {
        render_command(sub, &mut page)?;
    }
    man.render_extra_section(&mut page)?;
    man.render_version_section(&mut page)?;
    out.write_all(&page)?;
    Ok(out.flush()?)
}

/// One command as sections of the page; clap_mangen itself would write one
/// page for each.
fn render_command(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    let name = command.get_name().to_uppercase();
    writeln!(page, ".SH \"COMMAND {name}\"")?;
    let man = Man::new(command.clone());
    for (section, heading) in [
        (
            render(&man, Man::render_description_section)?,
            "DESCRIPTION",
        ),
        (render(&man, Man::render_synopsis_section)?, "SYNOPSIS"),
        (render(&man, Man::render_options_section)?, "OPTIONS"),
        (render(&man, Man::render_extra_section)?, "EXTRA"),
    ] {
        page.extend_from_slice(
            section
                .replace(&format!(".SH {heading}\n"), ".PP\n")
                .as_bytes(),
        );
    }
    Ok(())
}

fn render(
    man: &Man,
    section: impl Fn(&Man, &mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<String> {
    let mut out = Vec::new();
    section(man, &mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_command_and_flag() {
        let mut out = Vec::new();
        run(&mut out).unwrap();
        let page = String::from_utf8(out).unwrap().replace("\\-", "-");
        for word in [
            "COMMAND RUN",
            "COMMAND CHECK",
            "COMMAND DEMO",
            "COMMAND STATUS",
            "COMMAND TUNNELS",
            "COMMAND BACKENDS",
            "COMMAND REBALANCE",
            "COMMAND COMPLETIONS",
            "COMMAND MAN",
            "--config",
            "--explain",
            "--tls-port",
            "SIGHUP",
        ] {
            assert!(page.contains(word), "{word}");
        }
    }
}
