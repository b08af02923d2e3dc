//! The log: tracing events to standard error, as text or JSON, with settings
//! that a reload can change.
//!
//! Lines are handed to a thread of their own through a bounded queue: a slow
//! reader of the log loses lines (counted in the log itself) and stalls no
//! connection.

use std::io::stderr;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, fmt, reload};

/// Lines that may wait for a slow reader.
const QUEUED_LINES: usize = 65_536;

/// What a reload may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub json: bool,
    /// A filter such as `info` or `longhaul=debug`.
    pub level: String,
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
    EnvFilter::builder()
        .parse(&settings.level)
        .unwrap_or_else(|_| EnvFilter::new("info"))
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
