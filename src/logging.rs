//! The log: tracing events to standard error, as text or JSON, with settings
//! that a reload can change.
//!
//! Lines are handed to a thread of their own through a bounded queue: a slow
//! reader of the log loses lines and stalls no connection.

use std::io::stderr;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, fmt, reload};

/// Lines that may wait for a slow reader.
const QUEUED_LINES: usize = 65_536;

/// The target of the events about requests and tunnels.
const ACCESS: &str = "access";

/// What a reload may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub json: bool,
    /// A filter such as `info` or `longhaul=debug`.
    pub level: String,
    /// Whether events of the target `access` are written.
    pub access: bool,
}

type Filtered = tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Format = Box<dyn Layer<Filtered> + Send + Sync>;

/// The handle that changes the running log.
#[derive(Clone)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    format: reload::Handle<Format, Filtered>,
    writer: NonBlocking,
}

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

impl Logging {
    /// Starts the log of this process. Dropping the guard writes out what is
    /// queued.
    ///
    /// # Errors
    /// If another one has been started before.
    pub fn start(settings: &Settings) -> Result<(Self, WorkerGuard), TryInitError> {
        let (writer, worker) = NonBlockingBuilder::default()
            .buffered_lines_limit(QUEUED_LINES)
            .thread_name("log")
            .finish(stderr());
        let (filter_layer, filter) = reload::Layer::new(filter(settings));
        let (format_layer, format) = reload::Layer::new(format(settings, writer.clone()));
        tracing_subscriber::registry()
            .with(filter_layer)
            .with(format_layer)
            .try_init()?;
        Ok((
            Self {
                filter,
                format,
                writer,
            },
            worker,
        ))
    }

    /// Takes over new settings.
    pub fn apply(&self, settings: &Settings) {
        // Both fail only if the subscriber is gone, that is never in a process.
        let _ = self.filter.reload(filter(settings));
        let _ = self.format.reload(format(settings, self.writer.clone()));
    }
}

fn filter(settings: &Settings) -> EnvFilter {
    // The level was checked with the config; `info` if it was not.
    let filter = EnvFilter::builder()
        .parse(own_details(&settings.level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    if settings.access {
        return filter;
    }
    // Replaces what `level` says of this target, if it says anything.
    match format!("{ACCESS}=off").parse() {
        Ok(off) => filter.add_directive(off),
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

fn format(settings: &Settings, writer: NonBlocking) -> Format {
    let layer = fmt::layer().with_writer(writer).with_ansi(false);
    if settings.json {
        layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed()
    } else {
        layer.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;

    use super::*;

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
        let written = Written::default();
        let settings = Settings {
            json: false,
            level: level.to_owned(),
            access,
        };
        let writer = written.clone();
        let layer = fmt::layer().with_writer(move || writer.clone());
        let subscriber = Registry::default().with(filter(&settings)).with(layer);
        with_default(subscriber, events);
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    /// Which of three events are written.
    fn written(level: &str, access: bool) -> String {
        let text = lines(level, access, || {
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
    fn what_is_no_filter_is_told() {
        assert_eq!(check_level("info,longhaul::tunnel=debug"), Ok(()));
        assert!(check_level("longhaul=loud").is_err());
    }
}
