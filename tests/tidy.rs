//! Keeps the shape of the source true: floors, sizes, names, habits.
//!
//! It reads text, not syntax; `cargo fmt` and clippy make that enough.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Names that hide what is in them.
const NO_ROOMS: &[&str] = &[
    "util", "utils", "common", "helpers", "types", "core", "misc", "shared",
];

/// Where the bytes of a tunnel pass, below `src/tunnel`: a lock there could have
/// one tunnel wait for another, or for a person who lists them.
const BYTE_PATHS: &[&str] = &[
    "aside.rs",
    "course.rs",
    "direction.rs",
    "pulse.rs",
    "pump.rs",
    "quota.rs",
    "relay.rs",
    "scratch.rs",
    "screen.rs",
    "sift.rs",
    "engine/pipes.rs",
    "engine/sock.rs",
    "engine/splice.rs",
];

const MOST_LINES: usize = 500;

/// Above the floors: they tie the rooms together.
const ROOFS: &[&str] = &["lib.rs", "main.rs"];

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn room(&self) -> String {
        let first = self.path.iter().next().expect("a path").to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }

    /// The lines before the inline tests, which come last; none of a file of tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let of_tests = |part: &OsStr| {
            let part = part.to_string_lossy();
            part == "tests" || part == "tests.rs" || part.starts_with("test_")
        };
        let is_test = self.path.iter().any(of_tests);
        let lines = self
            .text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line));
        lines.take_while(move |(_, line)| !is_test && *line != "#[cfg(test)]")
    }

    /// Every room that the code names by `crate::`, with its line.
    fn imports(&self) -> Vec<(usize, String)> {
        let code = |(_, line): (usize, &str)| {
            if line.trim_start().starts_with("//") {
                String::new()
            } else {
                line.to_owned()
            }
        };
        let text = self.code().map(code).collect::<Vec<_>>().join("\n");
        let mut found = Vec::new();
        for (at, mark) in text.match_indices("crate::") {
            let number = 1 + text[..at].matches('\n').count();
            let names = first_names(&text[at + mark.len()..]);
            found.extend(names.into_iter().map(|name| (number, name)));
        }
        found
    }
}

/// The first name of a path, or of each path of a braced list.
fn first_names(text: &str) -> Vec<String> {
    let name = |text: &str| {
        let text = text.trim_start();
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let Some(list) = text.strip_prefix('{') else {
        return vec![name(text)];
    };
    let (mut depth, mut start, mut names) = (0_i32, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&list[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn sources(root: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                let path = path.strip_prefix(&root).expect("a path below").to_owned();
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.len() > 2, "there must be sources to look at");
    found
}

/// The floor of each room, from the table in `docs/architecture.md`.
fn floors() -> BTreeMap<String, usize> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let document = fs::read_to_string(path).expect("docs/architecture.md");
    let mut floors = BTreeMap::new();
    for row in document.lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, floor, rooms, _, _] = cells[..] else {
            continue;
        };
        if let Ok(floor) = floor.parse() {
            // In backquotes, with commas between several.
            let rooms = rooms.split('`').skip(1).step_by(2);
            floors.extend(rooms.map(|room| (room.to_owned(), floor)));
        }
    }
    assert!(floors.len() > 10, "there must be a table of floors");
    floors
}

#[track_caller]
fn none(what: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{what}:\n{}", findings.join("\n"));
}

#[test]
fn imports_go_down_only() {
    let floors = floors();
    let mut findings = Vec::new();
    let mut seen = 0;
    for source in sources("src") {
        if ROOFS.contains(&source.path.to_str().expect("UTF-8")) {
            continue;
        }
        let room = source.room();
        let Some(own) = floors.get(&room) else {
            findings.push(format!(
                "src/{}: {room} is on no floor",
                source.path.display()
            ));
            continue;
        };
        for (number, target) in source.imports() {
            seen += 1;
            let place = format!("src/{}:{number}", source.path.display());
            match floors.get(&target) {
                _ if target == room => {}
                Some(floor) if floor < own => {}
                Some(_) => findings.push(format!("{place}: {room} imports {target}")),
                None => findings.push(format!("{place}: {target} is on no floor")),
            }
        }
    }
    assert!(seen > 20, "there must be imports to look at");
    none("imports that do not go down", findings);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut findings = Vec::new();
    for root in ["src", "tests", "benches"] {
        for source in sources(root) {
            if !source.text.starts_with("//! ") {
                findings.push(format!("{root}/{}", source.path.display()));
            }
        }
    }
    none("files that do not open with //!", findings);
}

#[test]
fn files_stay_small() {
    let long = |source: &Source| source.text.lines().count() > MOST_LINES;
    let findings = sources("src").into_iter().filter(long);
    none(
        "files of more than 500 lines",
        findings
            .map(|source| source.path.display().to_string())
            .collect(),
    );
}

#[test]
fn names_say_what_is_inside() {
    let hides = |source: &Source| {
        source.path.iter().any(|part| {
            let part = part.to_string_lossy();
            NO_ROOMS.contains(&part.trim_end_matches(".rs"))
        })
    };
    let findings = sources("src").into_iter().filter(hides);
    none(
        "names that say nothing",
        findings
            .map(|source| source.path.display().to_string())
            .collect(),
    );
}

/// `unwrap` never; `expect` only under a comment that shows the invariant.
#[test]
fn nothing_panics_outside_tests() {
    let mut findings = Vec::new();
    for source in sources("src") {
        let lines: Vec<(usize, &str)> = source.code().collect();
        for (index, (number, line)) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let explained = lines[index.saturating_sub(3)..=index]
                .iter()
                .any(|(_, line)| line.contains("// "));
            let panics = code.contains(".unwrap()")
                || code.contains(".expect(") && !explained
                || ["panic!(", "todo!(", "unimplemented!("]
                    .iter()
                    .any(|word| code.contains(word));
            if panics {
                findings.push(format!(
                    "src/{}:{number}: {}",
                    source.path.display(),
                    line.trim()
                ));
            }
        }
    }
    none("places that panic", findings);
}

#[test]
fn tests_wait_for_events() {
    let sleeps = ["sleep", "("].concat();
    let ignores = ["#[", "ignore"].concat();
    let mut findings = Vec::new();
    for source in sources("tests") {
        for (number, line) in source.text.lines().enumerate() {
            if line.contains(&sleeps) || line.contains(&ignores) {
                let number = number + 1;
                findings.push(format!("tests/{}:{number}: {line}", source.path.display()));
            }
        }
    }
    for source in sources("src") {
        let tests = source
            .text
            .split_once("#[cfg(test)]")
            .map_or("", |(_, tests)| tests);
        if tests.contains(&ignores) || tests.contains(&format!("thread::{sleeps}")) {
            findings.push(format!("src/{}", source.path.display()));
        }
    }
    none("tests that sleep or are ignored", findings);
}

/// Where it is, the file says why it is sound, and everywhere else the compiler
/// denies it.
#[test]
fn unsafe_code_is_in_one_file() {
    let [keyword, permission] = [["un", "safe {"].concat(), "allow(unsafe_code)".to_owned()];
    let mut found = Vec::new();
    for root in ["src", "tests", "benches"] {
        for source in sources(root) {
            let uses = |line: &&str| line.contains(&keyword) || line.contains(&permission);
            let uses: Vec<&str> = source.text.lines().filter(uses).collect();
            if !uses.is_empty() && !source.path.ends_with("tidy.rs") {
                found.push(format!("{root}/{}", source.path.display()));
            }
        }
    }
    assert_eq!(found, ["src/foreign.rs"]);
}

#[test]
fn no_byte_path_takes_a_lock() {
    let sources = sources("src/tunnel");
    let mut findings = Vec::new();
    for path in BYTE_PATHS {
        let source = sources.iter().find(|it| it.path == Path::new(path));
        let source = source.unwrap_or_else(|| panic!("no src/tunnel/{path}"));
        for (number, line) in source.code() {
            let code = line.split("//").next().unwrap_or_default();
            let words = ["lock(", "Mutex", "RwLock", ".read()", ".write()", "Condvar"];
            if words.iter().any(|word| code.contains(word)) {
                findings.push(format!("src/tunnel/{path}:{number}: {}", line.trim()));
            }
        }
    }
    none("locks where bytes pass", findings);
}

/// A floor without a room would make the table a wish.
#[test]
fn every_room_of_the_table_is_there() {
    let rooms: Vec<String> = sources("src").iter().map(Source::room).collect();
    let missing = floors().into_keys().filter(|room| !rooms.contains(room));
    none("rooms of the table that are not there", missing.collect());
}
