//! Keeps one promise of `tests/it`: every test of tunnels runs over HTTP/1.1 and
//! HTTP/2, by `over_each!`, or says why it runs over HTTP/1.1 alone.
//!
//! It reads text: a test is of tunnels if it, or a function of its file that it
//! calls, writes a handshake or opens a WebSocket.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What a function that opens a tunnel says.
const OPENS: &[&str] = &[
    ".ws(",
    ".ws_with(",
    "Ws::open(",
    "handshake(",
    "Upgrade: ",
    "upgrades = [",
];

/// What a test that runs over one alone says, with the reason behind it.
const ALONE: &str = "/// Over HTTP/1.1 alone: ";

struct Function<'a> {
    name: &'a str,
    /// The comments and attributes above it.
    head: Vec<&'a str>,
    body: String,
}

impl Function<'_> {
    fn is_test(&self) -> bool {
        self.head
            .iter()
            .any(|line| line.starts_with("#[tokio::test"))
    }

    fn is_alone(&self) -> bool {
        self.head.iter().any(|line| line.starts_with(ALONE))
    }

    fn calls(&self, name: &str) -> bool {
        self.body.match_indices(name).any(|(at, _)| {
            let before = self.body[..at].chars().next_back();
            let word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !word && self.body[at + name.len()..].starts_with('(')
        })
    }
}

/// The functions of a file; `rustfmt` puts their first and last lines at its edge.
fn functions(text: &str) -> Vec<Function<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let plain = line.trim_start_matches("pub ").trim_start_matches("async ");
        let Some(rest) = plain.strip_prefix("fn ") else {
            continue;
        };
        let above = lines[..at].iter().rev();
        let head = above.take_while(|line| line.starts_with("///") || line.starts_with("#["));
        let body = lines[at + 1..].iter().take_while(|line| **line != "}");
        found.push(Function {
            name: rest.split(['(', '<']).next().unwrap_or_default(),
            head: head.copied().collect(),
            body: body.copied().collect::<Vec<_>>().join("\n"),
        });
    }
    found
}

/// Which of these functions open a tunnel, themselves or by another.
fn of_tunnels<'a>(functions: &[Function<'a>]) -> BTreeSet<&'a str> {
    let says = |function: &&Function| OPENS.iter().any(|mark| function.body.contains(mark));
    let mut opening: BTreeSet<&str> = functions.iter().filter(says).map(|one| one.name).collect();
    loop {
        let by_another = |one: &&Function| opening.iter().any(|name| one.calls(name));
        let more: Vec<&str> = functions
            .iter()
            .filter(by_another)
            .map(|one| one.name)
            .collect();
        let before = opening.len();
        opening.extend(more);
        if opening.len() == before {
            return opening;
        }
    }
}

#[test]
fn every_test_of_tunnels_runs_over_both_or_says_why_not() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let (mut wrong, mut over_both, mut alone) = (Vec::new(), 0, 0);
    for entry in fs::read_dir(dir).expect("tests/it") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("to read");
        let functions = functions(&text);
        let opening = of_tunnels(&functions);
        for function in &functions {
            let name = format!("{}: {}", path.display(), function.name);
            let opens = opening.contains(function.name);
            match (function.is_test(), opens, function.is_alone()) {
                (true, true, false) => wrong.push(format!("{name} is over HTTP/1.1 alone")),
                (true, true, true) => alone += 1,
                (_, _, true) => wrong.push(format!("{name} is no test of tunnels")),
                (_, opens, _) => {
                    let listed = text.contains(&format!("    {},\n", function.name));
                    over_both += usize::from(opens && listed);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(over_both > 80 && alone > 10, "{over_both} and {alone}");
}
