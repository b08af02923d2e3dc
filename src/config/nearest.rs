//! The known word that a wrong one was probably meant to be.

/// The candidate nearest to `word`, if one is near enough to be a guess
/// worth printing.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let plain = plain(word);
    candidates
        .into_iter()
        .map(|candidate| {
            let wanted = self::plain(candidate);
            let distance = match plain.len() >= 4 && wanted.starts_with(&plain) {
                // `least_conn`, `cert`: cut short, not misspelt.
                true => 1,
                false => strsim::damerau_levenshtein(&plain, &wanted),
            };
            (distance, candidate)
        })
        // A third of the letters: `adress` and `max_conections` are near,
        // `host` and `path` are not.
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Case, `-` and `_` are what people mix up most.
fn plain(word: &str) -> String {
    // Longer words are no slips of the pen, and the comparison is quadratic.
    word.chars()
        .take(64)
        .filter(|c| *c != '_' && *c != '-')
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_and_leaves_strangers_alone() {
        let keys = ["address", "idle_timeout", "host", "path"];
        for (word, expected) in [
            ("adress", Some("address")),
            ("idle-timeout", Some("idle_timeout")),
            ("idleTimeout", Some("idle_timeout")),
            ("hots", Some("host")),
            ("hsot", Some("host")),
            ("paht", Some("path")),
            ("addr", Some("address")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys).as_deref(), expected, "{word}");
        }
    }
}
