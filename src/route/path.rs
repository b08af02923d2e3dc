//! Paths: their segments, how those are compared, and which paths are a way
//! around a route's rules.
//!
//! It does not rewrite paths: a request goes on with the path it came with.
//!
//! Invariant: two segments whose percent-encoding stands for the same text
//! compare equal, and a segment never becomes two.

use std::borrow::Cow;

/// The segments of a path: none of `/`, `a` and an empty one of `/a/`.
///
/// What does not begin with a slash (`*` of `OPTIONS`, the empty path of an
/// authority form) has the segments it would have behind one.
pub fn segments(path: &str) -> impl Iterator<Item = &str> + Clone {
    let path = path.strip_prefix('/').unwrap_or(path);
    // An empty path has no segment, but `split` gives one.
    let nothing = path.is_empty();
    path.split('/').skip(usize::from(nothing))
}

/// A segment as it is compared: percent-encoding undone, except of `/` and
/// `%`, whose codes stay, in upper case. What is not a code stays as it is.
pub fn canonical_segment(segment: &str) -> Cow<'_, [u8]> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment.as_bytes());
    }
    let mut out = Vec::with_capacity(segment.len());
    for part in decoded(segment.as_bytes()) {
        match part {
            (b'/', true) => out.extend_from_slice(b"%2F"),
            (b'%', true) => out.extend_from_slice(b"%25"),
            (byte, _) => out.push(byte),
        }
    }
    Cow::Owned(out)
}

/// Whether a backend may take this path for another one: it has a segment `.`
/// or `..`, plainly, percent-encoded, next to an encoded slash or a backslash,
/// or with parameters (`..;x`, which some servers cut off before they resolve).
///
/// RFC 3986 section 5.2.4 lets clients resolve such segments before they send
/// a path, and they do; on the wire they are a way around a route's rules. So
/// ask this before a lookup, and answer 400. An encoded slash alone is none:
/// it stays what the client wrote, and is compared as such.
pub fn has_dot_segments(path: &str) -> bool {
    // Nothing else can become a dot: most paths end here.
    if !path.contains(['.', '%']) {
        return false;
    }
    let mut dots = Some(0);
    for (byte, _) in decoded(path.as_bytes()) {
        dots = match (byte, dots) {
            (b'/' | b'\\' | b';', Some(1 | 2)) => return true,
            (b'/' | b'\\', _) => Some(0),
            (b'.', Some(dots)) => Some(dots + 1),
            _ => None,
        };
    }
    matches!(dots, Some(1 | 2))
}

/// The bytes behind percent-encoding, and whether each was encoded.
fn decoded(mut bytes: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    std::iter::from_fn(move || {
        let (&byte, rest) = bytes.split_first()?;
        if byte == b'%'
            && let [high, low, rest @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            bytes = rest;
            return Some((high << 4 | low, true));
        }
        bytes = rest;
        Some((byte, false))
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn segments_of_paths() {
        let of = |path| segments(path).collect::<Vec<_>>();
        assert_eq!(of("/"), [""; 0]);
        assert_eq!(of(""), [""; 0]);
        assert_eq!(of("/a"), ["a"]);
        assert_eq!(of("/a/"), ["a", ""]);
        assert_eq!(of("//"), ["", ""]);
        assert_eq!(of("/a//b"), ["a", "", "b"]);
        assert_eq!(of("*"), ["*"]);
    }

    #[test]
    fn segments_are_compared_decoded() {
        for (segment, expected) in [
            ("chat", &b"chat"[..]),
            ("%63hat", b"chat"),
            ("a%20b", b"a b"),
            ("%C3%a9", "é".as_bytes()),
            ("a%2fb", b"a%2Fb"),
            ("a%2Fb", b"a%2Fb"),
            ("%252F", b"%252F"),
            ("%2", b"%2"),
            ("%", b"%"),
            ("%zz", b"%zz"),
            ("%+1", b"%+1"),
            ("%ff", b"\xff"),
        ] {
            assert_eq!(&*canonical_segment(segment), expected, "{segment}");
        }
    }

    #[test]
    fn paths_with_dot_segments_are_found() {
        for path in [
            "/.",
            "/..",
            "/../a",
            "/a/..",
            "/a/./b",
            "/a/../b",
            "/%2e",
            "/%2E%2e/a",
            "/.%2e/a",
            "/a%2f..%2fb",
            "/a/..%2Fb",
            "/a/..%5cb",
            "/a\\..\\b",
            "/a/..;/b",
            "/..;x=1",
            "/.;",
            "/a/%2e%2e%3b/b",
            "..",
            "a/..",
        ] {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in [
            "/",
            "",
            "*",
            "/a",
            "/a.b",
            "/.well-known/x",
            "/..a",
            "/a..",
            "/...",
            "/a/...;/b",
            "/a%20b",
            "/a/.hidden/b",
            "/;..",
            "/a;..",
            "/1.0/x",
            "/%2",
            "/a%2fb",
            "/x.%2e",
        ] {
            assert!(!has_dot_segments(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn encoding_more_changes_no_comparison(
            segment in "[a-z. %é&&[^%]]{0,12}", which: u64,
        ) {
            let encoded: String = segment
                .bytes()
                .enumerate()
                .map(|(i, byte)| match which >> (i % 64) & 1 {
                    0 if byte.is_ascii() => char::from(byte).to_string(),
                    _ => format!("%{byte:02x}"),
                })
                .collect();
            prop_assert_eq!(&*canonical_segment(&encoded), segment.as_bytes());
            let (plain, encoded) = (format!("/x/{segment}/y"), format!("/x/{encoded}/y"));
            prop_assert_eq!(has_dot_segments(&plain), has_dot_segments(&encoded));
        }

        #[test]
        fn no_path_panics(path in "\\PC{0,40}") {
            let _ = has_dot_segments(&path);
            for segment in segments(&path) {
                let _ = canonical_segment(segment);
            }
        }
    }
}
