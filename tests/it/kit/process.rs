//! What the kernel tells of the running process: its memory, the time of its
//! threads, its descriptors and what is in its pipes.
//!
//! It asks longhaul nothing, so longhaul cannot tell it wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::ioctl_fionread;

use super::Proxy;

impl Proxy {
    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("status");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("VmRSS");
        let number = line.split_whitespace().nth(1).expect("a number");
        1024 * number.parse::<u64>().expect("a number")
    }

    /// Time that all its threads together have spent on a core.
    pub fn cpu(&self) -> Duration {
        self.cpu_of("")
    }

    /// The same of the threads whose names begin so.
    pub fn cpu_of(&self, threads: &str) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("its threads");
        let spent = tasks.filter_map(|task| {
            // A thread may end while this looks.
            let path = task.ok()?.path();
            let name = fs::read_to_string(path.join("comm")).ok()?;
            let text = fs::read_to_string(path.join("schedstat")).ok()?;
            let spent = text.split_whitespace().next()?.parse::<u64>().ok()?;
            name.starts_with(threads).then_some(spent)
        });
        Duration::from_nanos(spent.sum())
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("fd")
            .count()
    }

    /// Bytes in the pipes of which it holds both ends: what others can neither
    /// have written nor will read.
    pub fn piped(&self) -> u64 {
        let mut pipes = BTreeMap::<PathBuf, Vec<PathBuf>>::new();
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("fd");
        // A descriptor may be closed while this looks.
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if let Ok(target) = fs::read_link(&path)
                && target.to_string_lossy().starts_with("pipe:")
            {
                pipes.entry(target).or_default().push(path);
            }
        }
        let whole = pipes.into_values().filter(|ends| ends.len() == 2);
        let bytes = whole.filter_map(|ends| {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            ioctl_fionread(open(&ends[0], flags, Mode::empty()).ok()?).ok()
        });
        bytes.sum()
    }
}
