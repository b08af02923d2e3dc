//! Sources in, config or all findings out.
//!
//! Deliberately reads no file: [`load`](super::load()) does.
//!
//! Invariant: a config comes out only if there is no finding at all.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::DeTable;

use super::acme::{Acme, acme};
use super::cross;
use super::diagnostic::{Diagnostic, Diagnostics, Place};
use super::draft::Draft;
use super::drain::drain;
use super::findings::Findings;
use super::forwarded::ForwardedHeader;
use super::http2::http2;
use super::keys::{INCLUDED, MAIN, is_main_only};
use super::limits::{limits, tcp};
use super::listeners::listener;
use super::model::{Admin, Config};
use super::named_files::NamedFiles;
use super::process::{admin, log};
use super::routes::route;
use super::section::{Section, Value};
use super::source::Source;
use super::syntax;
use super::traces::{Traces, traces};
use super::upstreams::upstream;
use super::value::{integer, label, network, one_of};

/// Reads one config from its main file and the files that it includes;
/// `findings` is what was found while those were read.
///
/// # Errors
/// Every finding, those of the main file first, in the order of the lines.
pub(super) fn parse(
    main: &Source,
    included: &[Source],
    findings: Findings,
) -> Result<Config, Diagnostics> {
    let sources: Vec<&Source> = std::iter::once(main).chain(included).collect();
    let tables: Vec<_> = sources
        .iter()
        .map(|source| syntax::table(source, &findings))
        .collect();
    let mut draft = Draft {
        main: main.name().clone(),
        ..Draft::default()
    };
    let mut config = None;
    for (index, (source, table)) in sources.iter().zip(&tables).enumerate() {
        let Some(table) = table else { continue };
        match index {
            0 => config = Some(main_file(source, table, &findings, &mut draft)),
            _ => included_file(source, table, &findings, &mut draft),
        }
    }
    if let Some(config) = &config {
        cross::check(config, &draft, &findings);
    }
    let found = findings.into_diagnostics(main.name());
    match config {
        Some(config) if found.is_empty() => Ok(draft.into_config(config)),
        _ => Err(found),
    }
}

/// One config that includes no other file.
///
/// # Errors
/// Every finding, in the order of the lines.
pub(crate) fn parse_text(text: &str) -> Result<Config, Diagnostics> {
    parse(
        &Source::new("longhaul.toml", text),
        &[],
        Findings::default(),
    )
}

impl Config {
    /// The configuration of a process before its first: every default, no
    /// listeners and no routes, which no file may say.
    pub fn empty() -> Self {
        let findings = Findings::default();
        let source = Source::new("", "");
        let table = Spanned::new(0..0, DeTable::new());
        main_file(&source, &table, &findings, &mut Draft::default())
    }
}

/// The patterns of `include`, each with its place.
pub(super) fn includes(main: &Source) -> Vec<(String, Place)> {
    let findings = Findings::default();
    let Some(table) = syntax::table(main, &findings) else {
        return Vec::new();
    };
    include(&root(main, &table, &findings, MAIN))
}

fn root<'a>(
    source: &'a Source,
    table: &'a Spanned<DeTable<'a>>,
    findings: &'a Findings,
    title: &str,
) -> Section<'a> {
    Section::new(source, findings, table.get_ref(), 0, title.to_owned())
}

/// Everything but listeners, routes and upstreams, which go to the draft.
fn main_file<'a>(
    source: &'a Source,
    table: &'a Spanned<DeTable<'a>>,
    findings: &'a Findings,
    draft: &mut Draft,
) -> Config {
    let root = root(source, table, findings, MAIN);
    include(&root);
    let config = Config {
        workers: root.optional("workers", integer(1, 1024)),
        trusted_proxies: {
            let allowed = "an array of networks such as \"10.0.0.0/8\"";
            root.elements_or_none("trusted_proxies", allowed, network)
        },
        forwarded_header: root.optional("forwarded_header", one_of(ForwardedHeader::WORDS)),
        limits: limits(root.section_or_empty("limits")),
        http2: http2(root.section_or_empty("http2")),
        tcp: tcp(root.section_or_empty("tcp")),
        log: log(root.section_or_empty("log")),
        drain: drain(root.section_or_empty("drain")),
        traces: traces_section(&root, &mut draft.files),
        acme: acme_section(&root, draft),
        admin: admin_section(&root),
        listeners: BTreeMap::new(),
        routes: Vec::new(),
        upstreams: BTreeMap::new(),
        files: NamedFiles::default(),
    };
    draft.mentions_listeners = root.mentions("listeners");
    named(&root, "listeners", |name, _, section| {
        draft
            .listeners
            .extend(listener(name, section, &mut draft.files));
    });
    shared(&root, draft);
    root.finish();
    config
}

fn acme_section(root: &Section<'_>, draft: &mut Draft) -> Option<Acme> {
    let value = root.value("acme")?;
    draft.mentions_acme = true;
    let section = value.section("[acme]".to_owned(), "a table [acme]")?;
    acme(section, &mut draft.files)
}

fn traces_section(root: &Section<'_>, files: &mut NamedFiles) -> Option<Traces> {
    let value = root.value("traces")?;
    let section = value.section("[traces]".to_owned(), "a table [traces]")?;
    traces(section, files)
}

fn admin_section(root: &Section<'_>) -> Option<Admin> {
    let value = root.value("admin")?;
    admin(value.section("[admin]".to_owned(), "a table [admin]")?)
}

fn included_file<'a>(
    source: &'a Source,
    table: &'a Spanned<DeTable<'a>>,
    findings: &'a Findings,
    draft: &mut Draft,
) {
    let root = root(source, table, findings, INCLUDED);
    shared(&root, draft);
    root.finish_with(|key| {
        is_main_only(key).then(|| format!("`{key}` in {INCLUDED} belongs in the main file"))
    });
}

/// What every file may hold: routes and upstreams.
fn shared(root: &Section<'_>, draft: &mut Draft) {
    draft.mentions_routes |= root.mentions("routes");
    if let Some(routes) = root.value("routes") {
        let allowed = "tables that each begin with [[routes]]";
        for element in routes.elements(allowed).unwrap_or_default() {
            let section = element.section("[[routes]]".to_owned(), "a table [[routes]]");
            let found = section.and_then(|section| route(section, &mut draft.files));
            draft.routes.extend(found);
        }
    }
    draft.misspells_upstreams |= root.mentions("upstreams") && root.value("upstreams").is_none();
    named(root, "upstreams", |name, place, section| {
        if let Some(first) = draft.upstreams_written.get(name) {
            let message = format!("upstream `{name}` is defined twice");
            root.findings
                .push(Diagnostic::new(place, message).see("first defined", first.clone()));
        } else {
            draft.upstreams_written.insert(name.to_owned(), place);
        }
        let upstream = upstream(name, section, &mut draft.files);
        draft.upstreams.entry(name.to_owned()).or_insert(upstream);
    });
}

/// The tables `[key.NAME]`.
fn named<'a>(
    root: &Section<'a>,
    key: &'static str,
    mut each: impl FnMut(&str, Place, Section<'a>),
) {
    let allowed = format!("tables that each begin with [{key}.NAME]");
    let Some(table) = root
        .value(key)
        .and_then(|value| value.section(format!("[{key}]"), &allowed))
    else {
        return;
    };
    for (name, place, value) in table.entries() {
        if name.is_empty() || !name.bytes().all(is_name) {
            root.findings.push(
                Diagnostic::new(place.clone(), format!("wrong name in [{key}]"))
                    .found(format!("{name:?}"))
                    .allowed("letters, digits, `-` and `_`"),
            );
        }
        let title = format!("[{key}.{name}]");
        if let Some(section) = value.section(title, &format!("a table [{key}.{name}]")) {
            each(name, place, section);
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn include(root: &Section<'_>) -> Vec<(String, Place)> {
    let allowed = "an array of paths such as \"routes.d/*.toml\"";
    let read = |value: &Value<'_>| Ok((label(value)?, value.place()));
    root.elements_or_none("include", allowed, read)
}
