//! No text panics.

use proptest::prelude::*;

use super::{Source, parse, shipped, with_defaults};

/// Parses it as main file and as included file; both may be wrong.
fn survives(text: &str) {
    let source = Source::new("random.toml", text);
    let alone = parse(&source, &[]);
    let with_itself = parse(&source, std::slice::from_ref(&source));
    for found in [alone.err(), with_itself.err()].into_iter().flatten() {
        assert!(!found.is_empty());
        let lines = text.matches('\n').count() + 1;
        for finding in &found {
            assert!(finding.place.line <= lines, "{finding}");
            assert!(!finding.to_string().is_empty());
        }
    }
}

/// Pieces from which something like a config comes about.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            ",",
            ".",
            "\n",
            " ",
            "\"",
            "'",
            "\"\"\"",
            "#",
            "routes",
            "listeners",
            "upstreams",
            "public",
            "address",
            "backends",
            "upstream",
            "certificates",
            "chain",
            "sticky",
            "cookie",
            "tls",
            "headers",
            "host",
            "path",
            "limits",
            "max_request_head",
            "idle_timeout",
            "include",
            "trusted_proxies",
            "mode",
            "\"[::]:80\"",
            "\"unix:/a\"",
            "\"/ws/*\"",
            "\"10s\"",
            "\"off\"",
            "\"cookie:a\"",
            "1",
            "-1",
            "0x7f",
            "1.5",
            "true",
            "nan",
            "1979-05-27",
            "99999999999999999999999",
            "\u{feff}",
            "\r\n",
            "\0",
            "ü",
            "\"99999999999999999999d\"",
            "\"18446744073709551615GiB\"",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text(text in "(?s).{0,200}") {
        survives(&text);
    }

    #[test]
    fn anything_like_a_config(text in pieces()) {
        survives(&text);
    }

    #[test]
    fn the_main_file_with_a_hole(from in any::<prop::sample::Index>(), length in 0usize..40, put in pieces()) {
        let text = std::fs::read_to_string(shipped("longhaul.toml")).unwrap();
        let mut text: Vec<char> = with_defaults(&text).chars().collect();
        let from = from.index(text.len());
        let to = (from + length).min(text.len());
        text.splice(from..to, put.chars().take(20));
        survives(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_value_anywhere(key in 0usize..100, value in "\\PC{0,30}") {
        let keys: Vec<_> = crate::config::keys::KEYS.iter().flat_map(|(_, keys)| *keys).collect();
        let key = keys[key % keys.len()];
        for section in ["[limits]", "[listeners.a]", "[[routes]]", "[upstreams.a]", "[drain]"] {
            survives(&format!("{section}\n{key} = {value:?}\n"));
            survives(&format!("{section}\n{key} = [{value:?}]\n"));
        }
    }
}

#[test]
fn deep_nesting() {
    for open in ["[", "{a=", "a."] {
        survives(&format!("a = {}", open.repeat(100_000)));
        survives(&format!("{}b = 1", open.repeat(100_000)));
    }
}

#[test]
fn a_large_file_that_is_no_config() {
    for line in [
        "= = =\n", "]\n", "a b\n", "[[\n", "{\n", "\"\n", "a = [\n", "[a]\n", "# \n",
    ] {
        survives(&line.repeat(200_000 / line.len()));
    }
}
