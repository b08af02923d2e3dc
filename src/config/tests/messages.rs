//! The exact text of every message: each case of `mistakes.txt` replaces the
//! `-` lines of a good config by its `+` lines and has what is printed then
//! below the `=`.

use super::{Source, parse};

const BASE: &str = r#"include = []

[listeners.public]
address = "[::]:80"

[[routes]]
upstream = "chat"

[upstreams.chat]
backends = [
  { name = "a", address = "10.0.0.1:9000" },
]
"#;

/// The lines that begin with `mark`, without it.
fn marked(case: &str, mark: &str) -> String {
    let lines = case.lines().filter_map(|line| line.strip_prefix(mark));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn found_after(change: &str) -> String {
    let (old, new) = (marked(change, "-"), marked(change, "+"));
    assert_eq!(BASE.matches(&old).count(), 1, "{old}");
    let text = BASE.replacen(&old, &new, 1);
    match parse(&Source::new("longhaul.toml", text), &[]) {
        Ok(_) => "nothing\n".to_owned(),
        Err(found) => format!("{found}\n"),
    }
}

#[test]
fn each_mistake_is_told_exactly_so() {
    let cases = include_str!("mistakes.txt");
    let mut seen = 0;
    let mut differences = String::new();
    for case in cases.split("# ").skip(1) {
        let (change, expected) = case.split_once("=\n").expect("a case has a `=`");
        let found = found_after(change);
        seen += 1;
        if found.trim() != expected.trim() {
            differences.push_str(&format!("# {change}=\n{found}\n"));
        }
    }
    assert!(seen >= 40, "only {seen} cases");
    assert!(differences.is_empty(), "these differ now:\n{differences}");
}

#[test]
fn the_base_is_right() {
    parse(&Source::new("longhaul.toml", BASE), &[]).unwrap();
}
