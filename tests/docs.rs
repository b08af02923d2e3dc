//! Keeps the documents true: every word that an operator can meet is in them.
//!
//! The words come from the program's help and from the tables in the source. What the config keys mean
//! is checked beside the config room.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The words of a document that are written as code.
fn code_words(text: &str) -> BTreeSet<String> {
    let word = |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-';
    let mut words = BTreeSet::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            words.extend(part.split(word).map(str::to_owned));
        }
    }
    words
}

/// The strings on the right of `=>` in the function that starts with `signature`.
fn arms(source: &str, signature: &str) -> BTreeSet<String> {
    let text = read(source);
    let (_, rest) = text
        .split_once(signature)
        .unwrap_or_else(|| panic!("no {signature} in {source}"));
    let (body, _) = rest.split_once("\n    }\n").expect("the function's end");
    let found: BTreeSet<String> = body
        .split("=> \"")
        .skip(1)
        .filter_map(|arm| arm.split_once('"'))
        .map(|(word, _)| word.to_owned())
        .collect();
    assert!(
        found.len() > 2,
        "words of {signature} in {source}: {found:?}"
    );
    found
}

#[track_caller]
fn all_in(document: &str, what: &str, wanted: impl IntoIterator<Item = String>) {
    let words = code_words(&read(document));
    let missing: Vec<String> = wanted
        .into_iter()
        .filter(|word| !words.contains(word))
        .collect();
    assert!(
        missing.is_empty(),
        "{what} that {document} does not have: {missing:?}"
    );
}

#[test]
fn every_refusal_is_documented() {
    let labels = arms("src/exchange/refusal.rs", "pub fn label(&self)");
    all_in("docs/operations.md", "refusals", labels);
}

#[test]
fn every_cause_and_every_side_is_documented() {
    let causes = arms("src/tunnel/outcome.rs", "pub fn label(&self)").into_iter();
    let sides = ["client", "backend", "longhaul"].map(str::to_owned);
    all_in("docs/operations.md", "causes", causes.chain(sides));
}

/// The one place where whoever looks for the reason of a cut begins.
#[test]
fn every_cause_is_in_the_table_of_who_cut_a_tunnel() {
    let text = read("docs/metrics.md");
    let (_, table) = text
        .split_once("## Who cut this tunnel?\n")
        .expect("the section");
    let cells = |row: &str| -> Vec<String> { row.split('|').map(str::to_owned).collect() };
    let rows: Vec<Vec<String>> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(cells)
        .collect();
    let cells = |at: usize| rows.iter().skip(1).map(move |row| &row[at]);
    let causes: BTreeSet<String> = cells(3).flat_map(|cell| code_words(cell)).collect();
    let wanted = arms("src/tunnel/outcome.rs", "pub fn label(&self)");
    let missing: Vec<&String> = wanted.difference(&causes).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    let unknown: Vec<&String> = causes.difference(&wanted).collect();
    let known = ["", "close_code"].map(str::to_owned);
    assert!(unknown.iter().all(|it| known.contains(it)), "{unknown:?}");
    for side in cells(2).flat_map(|cell| code_words(cell)) {
        let sides = ["", "client", "backend", "longhaul"];
        assert!(sides.contains(&&*side), "{side} ends no tunnel");
    }
}

#[test]
fn every_field_of_an_access_format_is_documented() {
    let source = read("src/logging/template.rs");
    let (_, list) = source
        .split_once("pub const FIELDS: &[&str] = &[")
        .expect("the list");
    let (list, _) = list.split_once("];").expect("its end");
    let fields: Vec<String> = list
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert!(fields.len() > 20, "{fields:?}");
    all_in("docs/operations.md", "fields", fields);
}

#[test]
fn every_command_is_in_the_readme_or_the_operations_guide() {
    let text = read("README.md") + &read("docs/operations.md");
    let help = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .arg("--help")
        .output();
    let help = String::from_utf8(help.expect("to run longhaul").stdout).expect("UTF-8");
    let (_, commands) = help.split_once("Commands:\n").expect("a list of commands");
    let commands: Vec<&str> = commands
        .lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 3, "{help}");
    for name in commands {
        let found =
            text.contains(&format!("longhaul {name}")) || text.contains(&format!("-- {name}"));
        assert!(found, "longhaul {name} is in neither");
    }
}

/// The table of the source that the server, its commands and its log read.
#[test]
fn every_endpoint_of_the_admin_api_is_documented() {
    let source = read("src/admin/endpoints.rs");
    let (_, rows) = source.split_once("\nendpoints! {\n").expect("the table");
    let (rows, _) = rows.split_once("\n}\n").expect("its end");
    let endpoint = |row: &str| -> Option<String> {
        let words: Vec<&str> = row.split_whitespace().take(3).collect();
        let [_, method @ ("GET" | "POST"), path] = words[..] else {
            return None;
        };
        Some(format!("{method} {}", path.trim_matches(['"', ';'])))
    };
    let wanted: BTreeSet<String> = rows.lines().filter_map(endpoint).collect();
    assert!(wanted.len() > 10, "{wanted:?}");
    let document = read("docs/operations.md");
    let cells = document.lines().filter_map(|row| row.strip_prefix("| `"));
    let cells = cells.filter_map(|row| row.split('`').next());
    let documented: BTreeSet<String> = cells
        .filter(|cell| cell.starts_with("GET /") || cell.starts_with("POST /"))
        .map(str::to_owned)
        .collect();
    assert_eq!(documented, wanted);
}

#[test]
fn the_readme_has_the_two_commands() {
    let readme = read("README.md");
    for command in ["cargo run --release -- demo", "tests/run"] {
        assert!(readme.contains(command), "{command}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut seen = 0;
    let documents = [
        "README.md",
        "docs/architecture.md",
        "docs/configuration.md",
        "docs/metrics.md",
        "docs/operations.md",
        "docs/performance.md",
        "docs/capacity.md",
        "docs/migrate.md",
        "certs-example/README.md",
        "SECURITY.md",
    ];
    for document in documents {
        let text = read(document);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
        let folder = folder.parent().expect("a folder");
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().expect("a target");
            let file = target.split('#').next().expect("a file");
            if file.is_empty() || file.contains("://") {
                continue;
            }
            seen += 1;
            assert!(folder.join(file).exists(), "{document} links to {target}");
        }
    }
    assert!(seen > 5, "there must be links to follow");
}

/// The fenced blocks of a document with this language, and what stands behind it.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let parts = document.split(&fence).skip(1);
    parts
        .map(|part| part.split("```").next().expect("an end"))
        .collect()
}

/// A directory with `text` as its longhaul.toml and pairs for the certificates it
/// names. Ports are free ones: others may be in use on this machine.
fn site(text: &str) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    // A line of a listener, not one of a list of backends.
    let free = |line: &str| match line.rsplit_once(':') {
        Some((start, _)) if line.starts_with("address = ") => format!("{start}:0\""),
        _ => line.to_owned(),
    };
    let text: Vec<String> = text.lines().map(free).collect();
    let text = text.join("\n");
    let own = dir.path().display().to_string();
    let text = text.replace("/run/longhaul/", &format!("{own}/"));
    fs::write(dir.path().join("longhaul.toml"), text).expect("to write");
    for (folder, stems) in [
        ("certs", &["example"][..]),
        ("certs-example", &["example", "localhost", "client", "ca"]),
    ] {
        fs::create_dir(dir.path().join(folder)).expect("a directory");
        for stem in stems {
            write_pair(&dir.path().join(folder), stem);
        }
    }
    dir
}

fn write_pair(folder: &Path, stem: &str) {
    let names = vec!["example.com".to_owned(), "chat.example.com".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    for (file, text) in [
        ("pem", made.cert.pem()),
        ("key", made.signing_key.serialize_pem()),
    ] {
        fs::write(folder.join(format!("{stem}.{file}")), text).expect("to write");
    }
}

fn shell(dir: &TempDir, command: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_longhaul"))
        .parent()
        .expect("a folder");
    let path = std::env::var("PATH").expect("PATH");
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(dir.path());
    shell.env("PATH", format!("{}:{path}", program.display()));
    shell.output().expect("to run")
}

fn is_good(config: &str) {
    let output = shell(&site(config), "longhaul check longhaul.toml");
    assert!(output.status.success(), "{config}\n{output:?}");
    assert!(
        !String::from_utf8_lossy(&output.stdout).contains("warning"),
        "{config}\n{output:?}"
    );
}

#[test]
fn every_config_of_the_readmes_is_good() {
    for (document, least) in [
        ("README.md", 2),
        ("certs-example/README.md", 3),
        ("docs/migrate.md", 1),
    ] {
        let text = read(document);
        let configs = blocks(&text, "toml");
        assert!(configs.len() >= least, "{configs:?}");
        configs.into_iter().for_each(is_good);
    }
}

/// With what it lacks to be one.
#[test]
fn every_fragment_of_the_readme_is_part_of_a_good_config() {
    let readme = read("README.md");
    let first = *blocks(&readme, "toml").first().expect("a config");
    let fragments = blocks(&readme, "toml fragment");
    assert!(!fragments.is_empty());
    for fragment in fragments {
        // Keys of the file's top stand before the first section.
        is_good(&format!("{fragment}\n{first}"));
    }
}

#[test]
fn what_the_readme_shows_on_the_console_is_what_comes() {
    let readme = read("README.md");
    let whole = *blocks(&readme, "toml").last().expect("a config");
    let consoles = blocks(&readme, "console");
    assert!(!consoles.is_empty());
    for console in consoles {
        let (command, shown) = console.split_once('\n').expect("a command and its output");
        let command = command.strip_prefix("$ ").expect("a prompt");
        let output = shell(&site(whole), command);
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        let mut lines = printed.lines();
        for line in shown.lines().filter(|line| *line != "...") {
            assert!(
                lines.any(|printed| printed == line),
                "{line:?}, in this order, in\n{printed}"
            );
        }
    }
}

/// Where each row of the table of fixed bounds has its value from.
const FIXED: &[(&str, &str, &str)] = &[
    (
        "head of a backend's answer",
        "src/upstream/connection.rs",
        "MAX_BUFFER",
    ),
    (
        "header lines of a backend's answer",
        "src/upstream/connection.rs",
        "MAX_HEADERS",
    ),
    (
        "bytes that wait in a stream of a client to be sent",
        "src/server/http2/mod.rs",
        "SEND_BUFFER",
    ),
    (
        "a frame of HTTP/2 that a client sends",
        "src/net/http2/sieve.rs",
        "LARGEST",
    ),
    (
        "table of header compression that a client may fill",
        "src/net/http2/hpack/table.rs",
        "LARGEST",
    ),
    (
        "header block over HTTP/2, as a multiple of `max_request_head`",
        "src/net/http2/fields.rs",
        "TIMES",
    ),
    (
        "last frames of an HTTP/2 connection that longhaul ends",
        "src/server/http2/connection.rs",
        "GOODBYE",
    ),
    (
        "without a stream, after GOAWAY",
        "src/server/http2/clocks.rs",
        "GOODBYE",
    ),
    (
        "streams of one HTTP/2 connection to a backend",
        "src/upstream/http2.rs",
        "MOST_STREAMS",
    ),
    (
        "bytes that a backend may send on a stream before they are passed on",
        "src/upstream/http2.rs",
        "STREAM_WINDOW",
    ),
    (
        "bytes that wait in a stream of a backend to be sent",
        "src/upstream/http2.rs",
        "SEND_BUFFER",
    ),
    (
        "head of a backend's answer over HTTP/2",
        "src/upstream/http2.rs",
        "MAX_HEADERS",
    ),
    (
        "between two pings of a connection for plain requests over HTTP/2 to a backend",
        "src/upstream/http2.rs",
        "PING_INTERVAL",
    ),
    (
        "for the answer to one",
        "src/upstream/http2.rs",
        "PING_TIMEOUT",
    ),
    (
        "interim answers that wait for a slow client",
        "src/net/link.rs",
        "MAX_INTERIM",
    ),
    (
        "a body held back for a backend's `100 Continue`",
        "src/proxy/forward.rs",
        "CONTINUE_TIMEOUT",
    ),
    (
        "bytes of a refused upgrade that are read behind the answer",
        "src/server/http1.rs",
        "LINGER_BYTES",
    ),
    ("time for them", "src/server/http1.rs", "LINGER"),
    (
        "bytes read of a client whose TLS handshake failed",
        "src/tls/hello.rs",
        "LINGER_BYTES",
    ),
    ("time for them", "src/tls/hello.rs", "LINGER"),
    (
        "a header of the PROXY protocol",
        "src/proxy_protocol/mod.rs",
        "MAX_HEADER",
    ),
    (
        "passwords that wait to be hashed",
        "src/identity/turns.rs",
        "MOST_WAITING",
    ),
    ("time for that", "src/identity/turns.rs", "LONGEST"),
    (
        "right passwords that are remembered, of each users file",
        "src/identity/users.rs",
        "MOST_VERIFIED",
    ),
    (
        "time for that, since one was hashed",
        "src/identity/users.rs",
        "REMEMBERED",
    ),
    ("a token", "src/identity/token.rs", "LONGEST"),
    (
        "keys that are tried on one token",
        "src/identity/token.rs",
        "MOST_TRIED",
    ),
    (
        "a file of users, or of a JWK set",
        "src/identity/mod.rs",
        "MOST_BYTES",
    ),
    ("keys of a JWK set", "src/identity/keys.rs", "MOST_KEYS"),
    ("a JWK set from a URL", "src/fetch/mod.rs", "MOST_BYTES"),
    (
        "head of the answer with it",
        "src/fetch/ask.rs",
        "MOST_HEAD",
    ),
    ("header lines of that", "src/fetch/ask.rs", "MOST_HEADERS"),
    (
        "between two fetches that tokens of unknown keys ask for",
        "src/identity/keyring.rs",
        "EARLY",
    ),
    (
        "between two fetches that fail, at most",
        "src/fetch/mod.rs",
        "SELDOM",
    ),
    (
        "turn of a TLS handshake, if others wait",
        "src/tls/accept.rs",
        "TURN",
    ),
    (
        "addresses of a forwarded chain that are read",
        "src/layers/told.rs",
        "MAX_CHAIN",
    ),
    (
        "from the 101 to the tunnel, at least",
        "src/proxy/handoff.rs",
        "LAST_STEPS",
    ),
    (
        "bytes of one direction of a tunnel, read and not taken by the other side",
        "src/tunnel/scratch.rs",
        "SIZE",
    ),
    (
        "the same that TLS holds in records",
        "src/tls/mod.rs",
        "SEND_BUFFER",
    ),
    (
        "the same moved at once by the kernel",
        "src/tunnel/engine/splice.rs",
        "MOST",
    ),
    (
        "pipes of one engine thread for that",
        "src/tunnel/engine/pipes.rs",
        "MOST",
    ),
    (
        "empty pipes that one engine thread keeps",
        "src/tunnel/engine/pipes.rs",
        "SPARE",
    ),
    (
        "time without progress of a pipe with bytes in it",
        "src/tunnel/engine/worker.rs",
        "PIPE_PATIENCE",
    ),
    (
        "bytes that one engine thread keeps so",
        "src/tunnel/engine/pipes.rs",
        "MOST_KEPT",
    ),
    (
        "bytes of one direction of a tunnel, and one read, before others have their turn",
        "src/tunnel/relay/step.rs",
        "BYTES_PER_STEP",
    ),
    (
        "the same of a tunnel that goes with the messages",
        "src/tunnel/relay/step.rs",
        "BYTES_OF_MESSAGES",
    ),
    (
        "body of a probe's answer that is looked at",
        "src/upstream/health/answer.rs",
        "MOST",
    ),
    (
        "connections waiting for accept, of each listener",
        "src/server/bind.rs",
        "BACKLOG",
    ),
    (
        "pause after a failed accept, at most",
        "src/server/listener.rs",
        "LONGEST_BACK_OFF",
    ),
    (
        "log lines waiting to be written",
        "src/logging/mod.rs",
        "QUEUED_LINES",
    ),
    ("spans waiting to be exported", "src/spans/mod.rs", "MOST"),
    ("spans in one post", "src/otlp/mod.rs", "BATCH"),
    (
        "bytes of text in an attribute of one",
        "src/spans/mod.rs",
        "MOST_TEXT",
    ),
    ("answer of a collector", "src/otlp/mod.rs", "MOST_ANSWER"),
    (
        "time for the last spans at the end",
        "src/otlp/mod.rs",
        "LAST",
    ),
    (
        "messages waiting for the service manager",
        "src/server/notices.rs",
        "MOST",
    ),
    (
        "time for the last of them at the end",
        "src/server/systemd.rs",
        "PATIENCE",
    ),
    (
        "admin connections at once, on each of its two addresses",
        "src/admin/gate.rs",
        "MOST_CONNECTIONS",
    ),
    (
        "of those over TCP, from one client address (IPv6: one /64)",
        "src/admin/gate.rs",
        "MOST_PER_ADDRESS",
    ),
    (
        "connections over TCP that wait for one of these to end",
        "src/admin/gate.rs",
        "MOST_WAITING",
    ),
    ("time for that", "src/admin/gate.rs", "LONGEST_WAIT"),
    (
        "a TLS handshake of the admin API",
        "src/admin/dress.rs",
        "HANDSHAKE_TIMEOUT",
    ),
    (
        "such handshakes that are calculated at once",
        "src/admin/dress.rs",
        "MOST_HANDSHAKES",
    ),
    (
        "closes that operators asked for, at once",
        "src/admin/closings.rs",
        "MOST_AT_ONCE",
    ),
    (
        "one of them, at its pace",
        "src/admin/tunnels.rs",
        "LONGEST",
    ),
    (
        "a comparison of `/impact`",
        "src/upstream/impact/mod.rs",
        "LONGEST_COMPARISON",
    ),
    (
        "watchers of the dashboard at once",
        "src/admin/watch.rs",
        "MOST",
    ),
    (
        "for a watcher to take a message",
        "src/admin/watch.rs",
        "TAKING",
    ),
    (
        "without a sign of life of a watcher",
        "src/admin/watch.rs",
        "SILENCE",
    ),
    (
        "bytes that a watcher has not taken",
        "src/admin/watch.rs",
        "MOST_UNTAKEN",
    ),
    ("a message of a watcher", "src/admin/watch.rs", "MOST_HEARD"),
    (
        "a moment that watchers are told, at least",
        "src/admin/live.rs",
        "MOMENT",
    ),
    (
        "it lasts as many times what it took to look",
        "src/admin/live.rs",
        "RESTS",
    ),
    (
        "ended tunnels that are remembered",
        "src/tunnel/ended.rs",
        "KEPT",
    ),
    ("reloads that are remembered", "src/state/live.rs", "KEPT"),
    (
        "what a remembered reload says",
        "src/state/live.rs",
        "MOST_MESSAGE",
    ),
    ("tokens in a file", "src/admin/token.rs", "MOST_TOKENS"),
    ("a file of tokens", "src/admin/token.rs", "MOST_BYTES"),
    (
        "head of an admin request",
        "src/admin/serve.rs",
        "HEAD_TIMEOUT",
    ),
    ("body of an admin request", "src/admin/desk.rs", "MOST_BODY"),
    (
        "an admin connection",
        "src/admin/serve.rs",
        "CONNECTION_TIMEOUT",
    ),
    ("body of an `auth` answer", "src/proxy/auth.rs", "MOST"),
    (
        "an answer of a `discovery`",
        "src/upstream/discovery/mod.rs",
        "PATIENCE",
    ),
    (
        "what fails is asked for again at least every",
        "src/upstream/discovery/mod.rs",
        "SELDOM",
    ),
    (
        "a file of a `discovery`",
        "src/upstream/discovery/file.rs",
        "MOST_BYTES",
    ),
    ("a config file", "src/config/load.rs", "LARGEST"),
    (
        "a file of certificates, keys or CAs",
        "src/tls/pem.rs",
        "MAX_FILE",
    ),
    ("an OCSP response", "src/tls/staple.rs", "MAX_RESPONSE"),
    (
        "from the last change of a config to its reading, at most",
        "src/server/watch.rs",
        "LONGEST",
    ),
];

/// A constant of the source as the documents write such values.
fn constant(file: &str, name: &str) -> String {
    let text = read(file);
    let mark = format!("const {name}: ");
    let (_, rest) = text
        .split_once(&mark)
        .unwrap_or_else(|| panic!("no {name} in {file}"));
    let (kind, rest) = rest.split_once(" = ").expect("a value");
    let value = rest.split(';').next().expect("an end").replace('_', "");
    let inside = |start: &str| Some(value.strip_prefix(start)?.strip_suffix(')')?.to_owned());
    if let Some(seconds) = inside("Duration::fromsecs(") {
        return format!("{seconds} s");
    }
    if let Some(millis) = inside("Duration::frommillis(") {
        return format!("{millis} ms");
    }
    let number = |text: &str| text.trim().parse::<u64>().expect("a number");
    let value: u64 = match value.split_once("<<") {
        Some((base, shift)) => number(base) << number(shift),
        None => value.split('*').map(number).product(),
    };
    if kind == "Ticks" {
        // Of 100 ms.
        return format!("{} s", value / 10);
    }
    let (mib, kib) = (1 << 20, 1 << 10);
    // What counts bytes is a product or a shift; other numbers are written out.
    match rest.split(';').next().expect("an end").contains(['*', '<']) {
        true if value.is_multiple_of(mib) => format!("{} MiB", value / mib),
        true => format!("{} KiB", value / kib),
        false if value >= 1000 => format!("{},{:03}", value / 1000, value % 1000),
        false => value.to_string(),
    }
}

#[test]
fn the_fixed_bounds_are_those_of_the_source() {
    let document = read("docs/operations.md");
    let (_, section) = document.split_once("## Fixed bounds").expect("a section");
    let section = section.split("\n## ").next().expect("its end");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let documented: Vec<(String, String)> = rows
        .skip(1)
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            (cells[1].to_owned(), cells[2].to_owned())
        })
        .collect();
    let wanted: Vec<(String, String)> = FIXED
        .iter()
        .map(|(what, file, name)| ((*what).to_owned(), constant(file, name)))
        .collect();
    assert_eq!(documented, wanted);
}

/// Sentences of the capacity guide with a bound in them, and where it stands.
const IN_CAPACITY: &[(&str, &str, &str)] = &[
    (
        "{} pipes for each thread",
        "src/tunnel/engine/pipes.rs",
        "MOST",
    ),
    (
        "keeps up to {} empty pipes",
        "src/tunnel/engine/pipes.rs",
        "SPARE",
    ),
    ("one buffer of {}", "src/tunnel/scratch.rs", "SIZE"),
    (
        "({} of payload at most",
        "src/tunnel/engine/splice.rs",
        "MOST",
    ),
    (
        "a thread keeps {} at most",
        "src/tunnel/engine/pipes.rs",
        "MOST_KEPT",
    ),
    (
        "{} each way give or take",
        "src/tunnel/relay/step.rs",
        "BYTES_PER_STEP",
    ),
    (
        "a message counts as {} bytes more",
        "src/tunnel/pump.rs",
        "BYTES_PER_MESSAGE",
    ),
    (
        "Who has moved {} in a step",
        "src/tunnel/relay/step.rs",
        "BYTES_OF_MESSAGES",
    ),
    ("longhaul asks for {}", "src/server/bind.rs", "BACKLOG"),
];

#[test]
fn the_bounds_in_the_capacity_guide_are_those_of_the_source() {
    let guide = read("docs/capacity.md");
    let guide = guide.split_whitespace().collect::<Vec<_>>().join(" ");
    for (sentence, file, name) in IN_CAPACITY {
        let sentence = sentence.replace("{}", &constant(file, name));
        assert!(
            guide.contains(&sentence),
            "docs/capacity.md: no `{sentence}`"
        );
    }
    let number = |file, name| constant(file, name).parse::<u32>().expect("a number");
    let reads = number("src/tunnel/pump.rs", "READS_PER_TURN")
        * number("src/tunnel/relay/step.rs", "TURNS_PER_STEP");
    let reads = format!("gets {reads} reads");
    assert!(guide.contains(&reads), "docs/capacity.md: no `{reads}`");
}

/// What the threat model names as the proof must be there.
#[test]
fn the_files_that_the_threat_model_names_exist() {
    let text = read("SECURITY.md");
    let code = text.split('`').skip(1).step_by(2);
    let starts = ["src/", "tests/", "systemd/", "deny.toml"];
    let files = code.filter(|word| starts.iter().any(|start| word.starts_with(start)));
    let mut seen = 0;
    for file in files {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        assert!(path.exists(), "SECURITY.md names {file}");
        seen += 1;
    }
    assert!(seen > 10, "{seen} files");
}
