use longhaul::config::Place;
use longhaul::config::pattern::{HostPattern, PathPattern};

/// A config file: mistakes are in it where they are said to be, a comment changes
/// nothing, and patterns print as what reads as them.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let read = longhaul::fuzzing::config(text);
    let again = longhaul::fuzzing::config(&format!("{text}\n# a comment\n"));
    match (read, again) {
        (Ok(config), Ok(again)) => {
            assert_eq!(config, again, "a comment changed something");
            for route in &config.routes {
                let host: HostPattern = route.host.to_string().parse().expect("a host");
                let path: PathPattern = route.path.to_string().parse().expect("a path");
                assert_eq!((&host, &path), (&route.host, &route.path));
            }
        }
        (Err(found), again) => {
            assert!(!found.is_empty(), "refused for nothing");
            assert!(!found.to_string().is_empty());
            for diagnostic in &found {
                is_in(text, &diagnostic.place);
            }
            // But for a line's end of which the text has only the first half.
            assert!(
                again.is_err() || text.ends_with('\r'),
                "a comment made it good: {found}"
            );
        }
        (Ok(_), Err(found)) => panic!("a comment made it bad: {found}"),
    }
}

fn is_in(text: &str, place: &Place) {
    if place.line == 0 {
        return;
    }
    let line = text.split('\n').nth(place.line - 1);
    let line = line.unwrap_or_else(|| panic!("{place} is behind the last line"));
    let most = line.chars().count() + 1;
    assert!(
        (1..=most).contains(&place.column),
        "{place} is not in {line:?}"
    );
}
