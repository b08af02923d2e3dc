//! Which events are written: the level of the log, and that of access lines.

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::{ACCESS, Destination, Settings};

/// Whether `level` is a filter that can be used.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn check_level(level: &str) -> Result<(), String> {
    EnvFilter::builder()
        .parse(level)
        .map(drop)
        .map_err(|error| error.to_string())
}

pub(super) fn filter(settings: &Settings) -> EnvFilter {
    // The level was checked with the config; `info` if it was not.
    let filter = EnvFilter::builder()
        .parse(own_details(&settings.level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    // Replaces what `level` says of this target, if it says anything. What has a
    // place of its own does not depend on the level of the rest.
    let level = match (settings.access, settings.destination()) {
        (true, Destination::Log) => return filter,
        (true, _) => "info",
        (false, _) => "off",
    };
    match format!("{ACCESS}={level}").parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

/// `level` with what says nothing of a module ending at `info` for all but
/// longhaul: below that, libraries print header fields and other secrets.
fn own_details(level: &str) -> String {
    let is_detailed = |directive: &&str| {
        let level: Result<LevelFilter, _> = directive.trim().parse();
        level.is_ok_and(|level| level > LevelFilter::INFO)
    };
    let directives = level.split(',');
    let (detailed, mut all): (Vec<_>, Vec<_>) = directives.partition(is_detailed);
    let Some(most) = detailed.last() else {
        return level.to_owned();
    };
    let most = most.trim();
    let own = format!("info,longhaul={most},{ACCESS}={most}");
    // First, so that what is said of these modules replaces it.
    all.insert(0, &own);
    all.join(",")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;

    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Registry, fmt};

    use super::*;
    use crate::logging::AccessFormat;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written of these events.
    fn lines(level: &str, access: bool, events: impl FnOnce()) -> String {
        lines_to(level, access, Destination::Log, events)
    }

    /// The same with this place for access lines.
    fn lines_to(
        level: &str,
        access: bool,
        access_to: Destination,
        events: impl FnOnce(),
    ) -> String {
        let written = Written::default();
        let settings = Settings {
            json: false,
            level: level.to_owned(),
            access,
            access_to,
            access_format: AccessFormat::Json,
        };
        let writer = written.clone();
        let layer = fmt::layer().with_writer(move || writer.clone());
        let subscriber = Registry::default().with(filter(&settings)).with(layer);
        with_default(subscriber, events);
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    /// Which of three events are written.
    fn written(level: &str, access: bool) -> String {
        written_to(level, access, Destination::Log)
    }

    fn written_to(level: &str, access: bool, access_to: Destination) -> String {
        let text = lines_to(level, access, access_to, || {
            tracing::info!(target: "access", "[request]");
            tracing::info!("[other]");
            tracing::debug!("[detail]");
        });
        let words = ["request", "other", "detail"];
        let words = words.map(|word| match text.contains(&format!("[{word}]")) {
            true => word,
            false => "-",
        });
        words.join(" ")
    }

    #[test]
    fn access_lines_can_be_switched_off_at_any_level() {
        assert_eq!(written("info", true), "request other -");
        assert_eq!(written("info", false), "- other -");
        assert_eq!(written("debug", false), "- other detail");
        assert_eq!(written("warn,access=info", true), "request - -");
        assert_eq!(written("warn,access=info", false), "- - -");
    }

    /// Which of two libraries' details are written beside longhaul's own.
    fn details(level: &str) -> [bool; 3] {
        let text = lines(level, true, || {
            tracing::debug!("[own]");
            tracing::debug!(target: "h2::codec", "[h2]");
            tracing::debug!(target: "hyper::proto", "[hyper]");
        });
        ["own", "h2", "hyper"].map(|word| text.contains(&format!("[{word}]")))
    }

    #[test]
    fn what_libraries_say_is_written_only_if_they_are_named() {
        for level in ["debug", "TRACE", "trace,access=off", "5"] {
            assert_eq!(details(level), [true, false, false], "{level}");
        }
        assert_eq!(details("debug,h2=debug"), [true, true, false]);
        assert_eq!(details("h2::codec=trace,debug"), [true, true, false]);
        assert_eq!(details("hyper=debug"), [false, false, true]);
        assert_eq!(details("debug,longhaul=info"), [false; 3]);
        assert_eq!(details("info"), [false; 3]);
    }

    #[test]
    fn access_lines_with_a_place_of_their_own_have_no_level() {
        let elsewhere = |level, access| written_to(level, access, Destination::Stdout);
        assert_eq!(elsewhere("warn", true), "request - -");
        assert_eq!(elsewhere("off", true), "request - -");
        assert_eq!(elsewhere("debug", false), "- other detail");
    }

    #[test]
    fn what_is_no_filter_is_told() {
        assert_eq!(check_level("info,longhaul::tunnel=debug"), Ok(()));
        assert!(check_level("longhaul=loud").is_err());
    }
}
