//! `longhaul check`: finds everything that a reload would find, and changes
//! nothing; with `--explain`, says what would become of one request.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write, stdout};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::args::CheckArguments;
use super::operator::{AdminApi, Running};
use super::{WrongConfig, explain, operator};
use crate::admin::{self, Endpoint};
use crate::config::{self, Config, Diagnostic, Diagnostics};
use crate::server::{self, Incumbent, Obstacles};
use crate::state::{Prepared, State};
use crate::upstream::{Impact, Outlines};

pub(super) fn check(arguments: &CheckArguments) -> anyhow::Result<()> {
    let loaded = config::load(&arguments.file);
    let config = loaded.result.map_err(WrongConfig)?;
    let state = State::new();
    let prepared = state.prepare(config.clone(), loaded.hash);
    let incumbent = incumbent(&config, &arguments.file);
    let mut obstacles = server::would_bind(&config, &incumbent);
    if let Some(admin) = &config.admin {
        note_tokens(admin, &mut obstacles);
    }
    let prepared = with_all(prepared, obstacles.findings)?;
    let mut out = stdout().lock();
    if let Some(url) = &arguments.explain {
        out.write_all(explain::explain(arguments, url, &prepared, &incumbent)?.as_bytes())?;
        return Ok(());
    }
    let warnings = prepared.warnings.iter().map(|warning| &warning.message);
    for warning in warnings.chain(&obstacles.doubts) {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(
        out,
        "{} is good: {}, {}, {}; hash {:016x}",
        arguments.file.display(),
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.upstreams.len(), "upstream"),
        loaded.hash
    )?;
    match &arguments.against {
        Some(written) => {
            let api = operator::api(written, &arguments.right)?;
            against(&config, &api, &mut out)
        }
        None => Ok(()),
    }
}

fn note_tokens(admin: &config::Admin, obstacles: &mut Obstacles) {
    for (file, error, perhaps) in admin::token_obstacles(admin) {
        let message = format!("the token file {} is not usable: {error}", file.display());
        match perhaps {
            true => obstacles
                .doubts
                .push(format!("{}: {message}", *admin.place)),
            false => obstacles
                .findings
                .push(Diagnostic::new((*admin.place).clone(), message)),
        }
    }
}

/// What was prepared, or all that both steps have found.
fn with_all(
    prepared: Result<Prepared, Diagnostics>,
    obstacles: Diagnostics,
) -> Result<Prepared, WrongConfig> {
    match prepared {
        Ok(prepared) => obstacles.into_result(prepared).map_err(WrongConfig),
        Err(mut findings) => {
            findings.append(obstacles);
            Err(WrongConfig(findings))
        }
    }
}

/// Who runs this file: whoever answers at its admin socket, or a process that
/// was started with it.
fn incumbent(config: &Config, file: &Path) -> Incumbent {
    let Some(admin) = &config.admin else {
        return match somebody_runs(file) {
            true => Incumbent::Unknown,
            false => Incumbent::Nobody,
        };
    };
    let asked = operator::api_of(admin).map(|api| api.ask());
    match asked.unwrap_or_else(|_| Err(ErrorKind::PermissionDenied.into())) {
        Ok(Running { pid, listeners }) => Incumbent::Known { pid, listeners },
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused if !somebody_runs(file) => {
                Incumbent::Nobody
            }
            _ => Incumbent::Unknown,
        },
    }
}

/// Whether a `longhaul run` has this file on its command line.
fn somebody_runs(file: &Path) -> bool {
    let Ok(file) = fs::canonicalize(file) else {
        return false;
    };
    let runs = |process: &Path| {
        let line = fs::read(process.join("cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let program = Path::new(OsStr::from_bytes(words.first()?)).file_name()?;
        let is_run = program == "longhaul" && words.contains(&&b"run"[..]);
        let directory = process.join("cwd");
        let names = |word: &&[u8]| {
            let word = word.strip_prefix(b"--config=").unwrap_or(word);
            // Relative to a directory that may be unreadable: then it is not.
            fs::canonicalize(directory.join(OsStr::from_bytes(word))).is_ok_and(|path| path == file)
        };
        (is_run && words.iter().any(names)).then_some(())
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .map(|entry| entry.path())
        .any(|path| runs(&path).is_some())
}

/// What it would do to the live tunnels of whoever answers there.
fn against(config: &Config, api: &AdminApi, out: &mut dyn Write) -> anyhow::Result<()> {
    let body = serde_json::to_value(Outlines::of(config))?;
    let answer = operator::asked(api, api.post(Endpoint::Impact, &body))?;
    let impacts: Vec<Impact> = serde_json::from_value(answer["impact"].clone())?;
    let live = answer["tunnels"].as_u64().unwrap_or_default() as usize;
    let sum = |of: fn(&Impact) -> u64| impacts.iter().map(of).sum::<u64>();
    writeln!(
        out,
        "of {}, {} would be closed and {} would move when their clients come back",
        count(live, "live tunnel"),
        sum(|it| it.closing),
        sum(|it| it.moving)
    )?;
    let may_move = sum(|it| it.may_move);
    if may_move > 0 {
        writeln!(
            out,
            "{may_move} more may move: nothing that is known of their clients says where they belong"
        )?;
    }
    for one in &impacts {
        write!(
            out,
            "  route {}, backend {} of {}: of {}, {} closed, {} moved",
            one.route, one.backend, one.upstream, one.tunnels, one.closing, one.moving
        )?;
        match one.may_move {
            0 => writeln!(out)?,
            may_move => writeln!(out, ", {may_move} may move")?,
        }
    }
    Ok(())
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
