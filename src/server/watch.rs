//! Notices that a file of the configuration may have changed.
//!
//! Directories are watched, never files: a watch on a file dies with the first
//! editor that saves by rename. Any event that is not a mere access means
//! "go and look"; whether something really changed is decided by content
//! (see [`super::reload`]). A look at size, time and inode every few seconds is
//! the net under file systems that send no events.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// An edit is over when nothing has happened for this long: editors write,
/// rename and remove in a burst.
const QUIET: Duration = Duration::from_millis(100);
/// A directory that is never quiet is looked at all the same, and one in which the main
/// file is missing.
const LONGEST: Duration = Duration::from_millis(500);
/// Between two looks at the files themselves.
const NET: Duration = Duration::from_secs(5);

/// The directories under watch.
pub(super) struct Watcher {
    /// Absent where the kernel gives no more of them: then the net is all.
    inotify: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    looked: Instant,
    maybe: mpsc::Sender<()>,
}

/// What identifies a state of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl Watcher {
    /// A watcher of nothing yet, and where it says "maybe"; `main` is the file that
    /// there must be.
    pub(super) fn new(main: PathBuf) -> (Self, Edits) {
        // One slot: a burst of events is one reason to look.
        let (maybe, signs) = mpsc::channel(1);
        let tell = maybe.clone();
        let inotify = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, is_news) {
                let _ = tell.try_send(());
            }
        });
        let inotify = inotify
            .inspect_err(|error| {
                tracing::warn!(%error, "no file events; looking at the files every few seconds");
            })
            .ok();
        let watcher = Self {
            inotify,
            directories: BTreeSet::new(),
            files: Vec::new(),
            seen: Vec::new(),
            looked: Instant::now(),
            maybe,
        };
        let edits = Edits {
            main,
            maybe: signs,
            pending: None,
        };
        (watcher, edits)
    }

    /// Watches what decides the content of `files`, and `directories` for new
    /// ones; no longer what is in neither.
    pub(super) fn set(&mut self, files: Vec<PathBuf>, directories: &[PathBuf]) {
        let mut wanted: BTreeSet<PathBuf> = directories.iter().cloned().collect();
        for file in &files {
            wanted.extend(deciding_directories(file));
        }
        self.watch_directories(wanted);
        self.seen = files.iter().map(|file| Stamp::of(file)).collect();
        self.files = files;
    }

    fn watch_directories(&mut self, wanted: BTreeSet<PathBuf>) {
        let Some(inotify) = &mut self.inotify else {
            return;
        };
        for gone in self.directories.difference(&wanted) {
            // It may be gone from the disk, and its watch with it.
            let _ = inotify.unwatch(gone);
        }
        for directory in &wanted {
            // Again for those already watched: a directory that was renamed
            // away and made anew is another one.
            if let Err(error) = inotify.watch(directory, RecursiveMode::NonRecursive)
                && directory.exists()
            {
                tracing::warn!(directory = %directory.display(), %error, "directory is not watched");
            }
        }
        self.directories = wanted;
    }

    /// The net: says "maybe" if a file is not what it was. Call it every second.
    pub(super) fn poll(&mut self) {
        if self.looked.elapsed() < NET {
            return;
        }
        self.looked = Instant::now();
        let seen: Vec<_> = self.files.iter().map(|file| Stamp::of(file)).collect();
        if seen != self.seen {
            self.seen = seen;
            let _ = self.maybe.try_send(());
        }
    }
}

/// Where edits are waited for.
pub(super) struct Edits {
    main: PathBuf,
    maybe: mpsc::Receiver<()>,
    /// First and last sign of an edit that is not over yet. Kept here and not
    /// in a future, which is dropped whenever something else happens first.
    pending: Option<(Instant, Instant)>,
}

impl Edits {
    /// Resolves when an edit seems to be over.
    pub(super) async fn settled(&mut self) {
        loop {
            let Some((first, last)) = self.pending else {
                match self.maybe.recv().await {
                    Some(()) => self.pending = Some((Instant::now(), Instant::now())),
                    // The watcher lives as long as the process.
                    None => std::future::pending().await,
                }
                continue;
            };
            // Whoever removes the main file before writing it anew is not done in between,
            // and a busy disk may make that long.
            let quiet = if self.main.exists() { QUIET } else { LONGEST };
            let over = (last + quiet).min(first + LONGEST);
            match timeout_at(over, self.maybe.recv()).await {
                Ok(_) => self.pending = Some((first, Instant::now())),
                Err(_) => {
                    self.pending = None;
                    return;
                }
            }
        }
    }
}

fn is_news(event: &Event) -> bool {
    // Our own reading of the files is an access.
    event.need_rescan() || !matches!(event.kind, EventKind::Access(_))
}

/// The directories in which a rename or a write can change what `file` says:
/// its own, and those of every link on the way.
fn deciding_directories(file: &Path) -> Vec<PathBuf> {
    /// As the kernel: more links than this are a loop.
    const MOST_LINKS: usize = 40;
    let mut directories = Vec::new();
    let mut path = file.to_owned();
    for _ in 0..MOST_LINKS {
        let Some(directory) = path.parent().map(Path::to_path_buf) else {
            break;
        };
        // A link among the directories themselves (Kubernetes' `..data`).
        for ancestor in path.ancestors().skip(1) {
            if let (Ok(_), Some(parent)) = (ancestor.read_link(), ancestor.parent()) {
                directories.push(parent.to_owned());
            }
        }
        let target = path.read_link().map(|target| directory.join(target));
        directories.push(directory);
        match target {
            Ok(target) => path = target,
            Err(_) => break,
        }
    }
    directories
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_not_there_is_given_more_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let main = directory.path().join("longhaul.toml");
        let (watcher, mut edits) = Watcher::new(main.clone());
        let mut takes = async || {
            let start = Instant::now();
            watcher.maybe.try_send(()).expect("room for a sign");
            edits.settled().await;
            start.elapsed()
        };
        assert_eq!(takes().await, LONGEST);
        std::fs::write(&main, "").expect("to write");
        assert_eq!(takes().await, QUIET);
    }
}
