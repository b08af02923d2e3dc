//! What must be true while an attack lasts, and afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::Row;
use crate::good::{Crowd, Latency, TUNNELS};
use crate::ground::Proxied;
use crate::kit::{Proxy, eventually, soon};
use crate::place::is_quiet;

/// An echo that is later has been late, even through a build that is not optimised, on a
/// machine that does other things.
const LATE: Duration = Duration::from_secs(1);
/// What an allocator may keep in pages that are not wholly free, in bytes: it does not
/// add up from one attack to the next.
const KEPT: u64 = 48 << 20;

/// How often each is seen where latency counts: a p99 of two seconds varies by itself.
const ROUNDS: usize = 5;

type Samples = BTreeMap<String, f64>;

pub struct Verdict {
    quiet: Latency,
    memory: u64,
    descriptors: usize,
}

impl Verdict {
    pub async fn of_the_quiet(proxied: &Proxied, crowd: &Crowd) -> Self {
        settle(&proxied.proxy).await;
        let quiet = long_quiet(crowd).await;
        let (memory, descriptors) = (proxied.proxy.memory(), proxied.proxy.descriptors());
        println!("quiet: {quiet:?}, {memory} B, {descriptors} descriptors");
        Self {
            quiet,
            memory,
            descriptors,
        }
    }

    /// Runs the attack beside the crowd and judges it: on a machine that does nothing
    /// else its latency may be twice the quiet figure, on any other nothing that somebody
    /// would notice, beside what the machine makes of it.
    pub async fn beside(&self, row: Row, proxied: &Proxied, crowd: &Crowd) {
        if !is_quiet() {
            let beside = self.once(row, proxied, crowd).await;
            let allowed = LATE + 3 * beside.direct;
            assert!(beside.through < allowed, "{}: {beside:?}", row.0);
            return;
        }
        // In turns: a machine is not as fast in one minute as in the next.
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(quiet(crowd).await);
            with.push(self.once(row, proxied, crowd).await);
        }
        let worst = with.iter().map(|latency| latency.through).max();
        let worst = worst.unwrap_or_default();
        let (quiet, beside) = (middle(without), middle(with));
        let (name, p99, most) = (row.0, beside.through, 2 * quiet.through);
        println!("{name}: {p99:?} of {most:?}, twice the quiet figure; at worst {worst:?}");
        assert!(p99 < most, "{name}: {beside:?}, {quiet:?}");
    }

    async fn once(&self, row: Row, proxied: &Proxied, crowd: &Crowd) -> Latency {
        let (name, attack, most) = row;
        let proxy = &proxied.proxy;
        let counted = proxy.samples().await;
        let before = proxy.cpu();
        forget_peak(proxy);
        crowd.latency();
        tokio::join!(proxied.suffer(attack), crowd.two_rounds());
        let beside = crowd.latency();
        let spent = proxy.cpu() - before;
        let grown = peak(proxy).saturating_sub(self.memory);
        println!("{name}: {beside:?}, {spent:?} on a core, memory +{grown} B of {most}");
        assert!(grown < most + KEPT, "{name}: memory grew by {grown} B");
        settle(proxy).await;
        self.back(name, proxy).await;
        counted_rightly(name, &counted, &proxy.samples().await);
        beside
    }

    /// Descriptors are those of before; so is the memory, but for what is kept.
    async fn back(&self, name: &str, proxy: &Proxy) {
        // Each thread of the engine may keep four empty pipes.
        let pipes = 8 * available_parallelism().expect("a count").get();
        let back = || proxy.descriptors() <= self.descriptors + pipes;
        eventually(format!("{name}: the descriptors to come back"), back).await;
        let back = || proxy.memory() < self.memory + KEPT;
        eventually(format!("{name}: the memory to come back"), back).await;
    }

    /// No attack has left longhaul slower.
    pub async fn at_the_end(&self, proxied: &Proxied, crowd: &Crowd) {
        if is_quiet() {
            let (before, after) = (self.quiet, long_quiet(crowd).await);
            println!("quiet again: {after:?}");
            assert!(after.through < 2 * before.through, "{before:?}");
        }
        let (memory, descriptors) = (proxied.proxy.memory(), proxied.proxy.descriptors());
        println!("at the end: {memory} B, {descriptors} descriptors");
        assert!(proxied.proxy.running());
    }
}

/// What the crowd feels when nobody attacks.
async fn quiet(crowd: &Crowd) -> Latency {
    crowd.latency();
    crowd.two_rounds().await;
    crowd.latency()
}

/// The same, read as often as counts.
async fn long_quiet(crowd: &Crowd) -> Latency {
    let mut seen = Vec::new();
    for _ in 0..if is_quiet() { ROUNDS } else { 1 } {
        seen.push(quiet(crowd).await);
    }
    middle(seen)
}

fn middle(mut seen: Vec<Latency>) -> Latency {
    seen.sort_unstable_by_key(|latency| latency.through);
    seen[seen.len() / 2]
}

/// What longhaul says of it: nobody was turned away for the numbers, and who began a
/// TLS handshake and stopped had all its time.
fn counted_rightly(name: &str, before: &Samples, after: &Samples) {
    let grown = |start: &str| -> f64 {
        let sum = |samples: &Samples| -> f64 {
            let known = samples.iter().filter(|(name, _)| name.starts_with(start));
            known.map(|(_, value)| value).sum()
        };
        sum(after) - sum(before)
    };
    let refused = grown("longhaul_connections_refused_total");
    assert!(refused.abs() < 0.5, "{name}: {refused} are refused");
    if name == "half ClientHellos" {
        let late = grown("longhaul_tls_failures_total{refusal=\"timeout\"}");
        assert!(late > 9_999.5, "{name}: {late} in all");
    }
}

/// Waits until the tunnels are those of the crowd.
async fn settle(proxy: &Proxy) {
    let settled = async { while proxy.status().await["tunnels"] != TUNNELS {} };
    soon("the tunnels to be those of the crowd", settled).await;
}

/// Has the kernel measure the highest resident memory from now on (proc(5),
/// `clear_refs`).
fn forget_peak(proxy: &Proxy) {
    fs::write(format!("/proc/{}/clear_refs", proxy.pid()), "5").expect("to forget the peak");
}

/// The highest resident memory since, in bytes.
fn peak(proxy: &Proxy) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.expect("VmHWM").split_whitespace().nth(1);
    1024 * number.expect("a number").parse::<u64>().expect("a number")
}
