//! The log: tracing events to standard error, as text or JSON, and access lines
//! there or in a place of their own, with settings that a reload can change.
//!
//! Lines are handed to a thread through a bounded queue: a slow reader of the
//! log loses lines and stalls no connection.

mod file;
mod level;
mod lost;
mod shape;
mod sink;
mod template;

use std::io::stderr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Metadata;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, fmt, reload};

pub use file::OpenError;
pub use level::check_level;
pub use lost::{Lost, LostLines};
pub use template::{FIELDS, Template, TemplateError};

use level::filter;
use lost::{Count, Counted};
use shape::Shape;
use sink::Sink;

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
    pub access_to: Destination,
    pub access_format: AccessFormat,
}

/// Where access lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Where everything else goes, and in the same format.
    Log,
    Stdout,
    File(PathBuf),
    /// By the socket of journald's own protocol.
    Journald(PathBuf),
}

/// How access lines look that have a place of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    Json,
    Template(Template),
}

impl Settings {
    fn destination(&self) -> &Destination {
        match self.access {
            true => &self.access_to,
            false => &Destination::Log,
        }
    }
}

type Filtered = tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Format = Box<dyn Layer<Filtered> + Send + Sync>;

/// The handle that changes the running log.
#[derive(Clone)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    format: reload::Handle<Format, Filtered>,
    writer: NonBlocking,
    place: Arc<Mutex<Place>>,
    failed: Failed,
    /// Access lines that places which are gone had no room for.
    dropped: Count,
}

/// Lines that could not be written.
#[derive(Clone, Default)]
struct Failed {
    log: Count,
    access: Count,
}

/// Where access lines go now.
struct Place {
    to: Destination,
    sink: Option<Sink>,
}

/// What writes, as long as it lives. Dropping it writes out what is queued.
pub struct Writing {
    _log: WorkerGuard,
    _access: Arc<Mutex<Place>>,
}

/// A place for access lines that is open and not in use yet; `None` if the one
/// in use stays.
pub struct Opened(Option<Place>);

/// Why the log did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the access log cannot be opened: {0}")]
    Access(#[from] OpenError),
    /// Another one has been started before.
    #[error(transparent)]
    Twice(#[from] TryInitError),
}

impl Logging {
    /// Starts the log of this process.
    ///
    /// # Errors
    /// If the place of access lines cannot be opened, or another log has been
    /// started before.
    pub fn start(settings: &Settings) -> Result<(Self, Writing), StartError> {
        let failed = Failed::default();
        let place = Place::open(settings.destination(), &failed)?;
        let (writer, worker) = NonBlockingBuilder::default()
            .buffered_lines_limit(QUEUED_LINES)
            .thread_name("log")
            .finish(Counted {
                place: stderr(),
                failed: failed.log.clone(),
            });
        let (filter_layer, filter) = reload::Layer::new(filter(settings));
        let writers = Writers::new(&writer, &place);
        let (format_layer, format) = reload::Layer::new(format(settings, writers));
        tracing_subscriber::registry()
            .with(filter_layer)
            .with(format_layer)
            .try_init()?;
        let logging = Self {
            filter,
            format,
            writer,
            place: Arc::new(Mutex::new(place)),
            failed,
            dropped: Count::default(),
        };
        let writing = Writing {
            _log: worker,
            _access: Arc::clone(&logging.place),
        };
        Ok((logging, writing))
    }

    /// Opens what new settings need, and changes nothing.
    ///
    /// # Errors
    /// If the place of access lines cannot be opened.
    pub fn open(&self, settings: &Settings) -> Result<Opened, OpenError> {
        let to = settings.destination();
        if self.lock().to == *to {
            return Ok(Opened(None));
        }
        Ok(Opened(Some(Place::open(to, &self.failed)?)))
    }

    /// Takes over new settings, and what was opened for them. Cannot fail.
    pub fn apply(&self, settings: &Settings, opened: Opened) {
        let mut place = self.lock();
        let old = opened.0.map(|new| std::mem::replace(&mut *place, new));
        let writers = Writers::new(&self.writer, &place);
        drop(place);
        // Both fail only if the subscriber is gone, that is never in a process.
        let _ = self.filter.reload(filter(settings));
        let _ = self.format.reload(format(settings, writers));
        // Only now does nobody write to it any more.
        let sink = old.and_then(|old| old.sink);
        self.dropped.add(sink.map_or(0, |sink| sink.dropped()));
    }

    /// What has been lost so far.
    pub fn lost(&self) -> Lost {
        let now = self.lock().sink.as_ref().map_or(0, Sink::dropped);
        Lost {
            log: LostLines {
                queue_full: self.writer.error_counter().dropped_lines() as u64,
                write_failed: self.failed.log.get(),
            },
            access: LostLines {
                queue_full: self.dropped.get() + now,
                write_failed: self.failed.access.get(),
            },
        }
    }

    /// Goes on in a new file, if access lines go to one: the old one was moved
    /// away.
    pub fn reopen(&self) {
        let place = self.lock();
        let reopened = place.sink.as_ref().map_or(Ok(None), Sink::reopen);
        match reopened {
            Ok(None) => tracing::info!("no file of access lines to open anew"),
            Ok(Some(file)) => tracing::info!(file = %file.display(), "access log reopened"),
            Err(error) => {
                tracing::error!(%error, "the access log cannot be reopened: the old file is written on");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        // It is replaced whole.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn open(to: &Destination, failed: &Failed) -> Result<Self, OpenError> {
        Ok(Self {
            to: to.clone(),
            sink: Sink::open(to, &failed.access)?,
        })
    }
}

/// Which queue each event goes to.
struct Writers {
    log: NonBlocking,
    access: NonBlocking,
}

impl Writers {
    fn new(log: &NonBlocking, place: &Place) -> Self {
        let access = place.sink.as_ref().map_or(log, |sink| &sink.writer);
        Self {
            log: log.clone(),
            access: access.clone(),
        }
    }
}

impl<'a> MakeWriter<'a> for Writers {
    type Writer = NonBlocking;

    fn make_writer(&'a self) -> NonBlocking {
        self.log.clone()
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> NonBlocking {
        match about.target() == ACCESS {
            true => self.access.clone(),
            false => self.log.clone(),
        }
    }
}

fn format(settings: &Settings, writers: Writers) -> Format {
    let shape = Shape::new(settings);
    let layer = fmt::layer().with_writer(writers).with_ansi(false);
    layer.event_format(shape).boxed()
}
