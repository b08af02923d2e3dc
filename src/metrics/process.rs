//! What the kernel says of this process, under the names that Prometheus' own
//! clients give it, and the limit of memory that a container or unit sets.
//!
//! Everything is read when a page is made; what cannot be read is left out.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};
use rustix::system::sysinfo;
use rustix::time::{ClockId, clock_gettime};

#[derive(Debug)]
pub(super) struct Process {
    started: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            started: since.map_or(0.0, |since| since.as_secs_f64()),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let to = &mut encoder;
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        let (about, metric) = ("CPU time, user and system.", ConstCounter::new(cpu));
        say(to, "process_cpu_seconds", about, &metric)?;
        gauge(
            to,
            "process_open_fds",
            "Open file descriptors.",
            open_files(),
        )?;
        gauge(
            to,
            "process_max_fds",
            "The limit of open file descriptors.",
            limit(Resource::Nofile),
        )?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = kilobytes(&status, "VmRSS:");
        gauge(
            to,
            "process_resident_memory_bytes",
            "Memory in use.",
            resident,
        )?;
        let virt = kilobytes(&status, "VmSize:");
        gauge(
            to,
            "process_virtual_memory_bytes",
            "Address space in use.",
            virt,
        )?;
        let most = limit(Resource::As);
        gauge(
            to,
            "process_virtual_memory_max_bytes",
            "The limit of address space.",
            most,
        )?;
        gauge(
            to,
            "process_threads",
            "Threads.",
            number(&status, "Threads:"),
        )?;
        let about = "When the process started, in seconds since 1970.";
        gauge(to, "process_start_time_seconds", about, Some(self.started))?;
        let about = "The memory that the process may use: by its control group, or all there is.";
        gauge(
            to,
            "longhaul_memory_limit_bytes",
            about,
            Some(memory_limit()),
        )
    }
}

fn gauge(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    about: &str,
    value: Option<f64>,
) -> Result<(), fmt::Error> {
    match value {
        Some(value) => say(to, name, about, &ConstGauge::new(value)),
        None => Ok(()),
    }
}

fn say<M: EncodeMetric + TypedMetric>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    about: &str,
    metric: &M,
) -> Result<(), fmt::Error> {
    metric.encode(to.encode_descriptor(name, about, None, M::TYPE)?)
}

/// Newer kernels (6.2) say it as the directory's size. Counting takes long where
/// there are a million.
fn open_files() -> Option<f64> {
    let directory = Path::new("/proc/self/fd");
    let size = fs::metadata(directory).ok()?.size();
    if size > 0 {
        return Some(size as f64);
    }
    // Less the one that reads.
    let count = fs::read_dir(directory).ok()?.count();
    Some(count.saturating_sub(1) as f64)
}

/// The soft limit, or infinity.
fn limit(of: Resource) -> Option<f64> {
    Some(
        getrlimit(of)
            .current
            .map_or(f64::INFINITY, |most| most as f64),
    )
}

fn number(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kilobytes(status: &str, key: &str) -> Option<f64> {
    Some(number(status, key)? * 1024.0)
}

/// The lowest limit of the control groups that the process is in, and at most
/// what the machine has.
fn memory_limit() -> f64 {
    // Not of /proc, where a unit may hide all but processes.
    let machine = sysinfo();
    let all = machine.totalram as f64 * f64::from(machine.mem_unit);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    group_limit(&groups, Path::new("/sys/fs/cgroup")).min(all)
}

/// The lowest limit of these groups (cgroups(7), `/proc/PID/cgroup`) and of those
/// above them, by the files below `mounted`; infinity if none has one.
fn group_limit(groups: &str, mounted: &Path) -> f64 {
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let (root, file) = match controllers {
            "" => (mounted.to_owned(), "memory.max"),
            _ => (mounted.join("memory"), "memory.limit_in_bytes"),
        };
        let counts = controllers.is_empty() || controllers.split(',').any(|it| it == "memory");
        let own = Path::new(group.trim_start_matches('/'));
        // In a container the group's own path may be the host's: its root is the limit.
        let groups = own.ancestors().filter(move |_| counts);
        groups.filter_map(move |group| {
            let text = fs::read_to_string(root.join(group).join(file)).ok()?;
            text.trim().parse::<f64>().ok()
        })
    });
    limits.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let status = "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t  12 kB\nThreads:\t7\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(12.0 * 1024.0));
        assert_eq!(number(status, "Threads:"), Some(7.0));
        assert_eq!(number(status, "VmSwap:"), None);
        let open = open_files().unwrap();
        let more: Vec<_> = (0..20)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        assert!(
            open_files().unwrap() >= open + 10.0,
            "others close some meanwhile"
        );
        drop(more);
        assert!(memory_limit() > 1e6);
    }

    #[test]
    fn the_lowest_limit_of_the_control_groups_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let limit = |groups: &str| group_limit(groups, dir.path());
        assert_eq!(limit(""), f64::INFINITY);
        assert_eq!(limit("0::/a/b\n"), f64::INFINITY, "no such group");
        write("a/b/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), f64::INFINITY);
        write("a/memory.max", "3000\n");
        write("a/b/memory.max", "5000\n");
        write("c/memory.max", "7\n");
        assert_eq!(limit("0::/a/b\n"), 3000.0, "of the one above it");
        assert_eq!(limit("0::/a/bb/c\n"), 3000.0);
        assert_eq!(limit("0::/\n"), f64::INFINITY);
        write("memory.max", "2000\n");
        assert_eq!(limit("0::/\n"), 2000.0, "what a container sees as its root");
        // The first version: a tree for each controller.
        write("memory/d/memory.limit_in_bytes", "1000\n");
        write("cpu/d/memory.limit_in_bytes", "1\n");
        assert_eq!(limit("4:memory:/d\n2:cpu,cpuacct:/d\n0::/\n"), 1000.0);
        assert_eq!(limit("4:cpu,memory:/d/e\n1:name=systemd:/d\n"), 1000.0);
        assert_eq!(limit("2:cpu:/d\n"), f64::INFINITY);
    }
}
