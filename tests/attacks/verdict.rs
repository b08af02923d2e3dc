//! What must be true while an attack lasts, and afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::Row;
use crate::good::{Crowd, Latency, TUNNELS};
use crate::ground::Proxied;
use crate::kit::{Proxy, eventually, soon};

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
    memory: u64,
    descriptors: usize,
}

impl Verdict {
    pub async fn of_the_quiet(proxied: &Proxied, crowd: &Crowd) -> Self {
        settle(&proxied.proxy).await;
        let quiet = quiet(crowd).await;
        let (memory, descriptors) = (proxied.proxy.memory(), proxied.proxy.descriptors());
        println!("quiet: {quiet:?}, {memory} B, {descriptors} descriptors");
        Self {
            memory,
            descriptors,
        }
    }

    /// Runs the attack beside the crowd and judges it: on a machine that does nothing
    /// else its latency may be twice the quiet figure, on any other nothing that somebody
    /// would notice, beside what the machine makes of it.
    pub async fn beside(&mut self, row: Row, proxied: &Proxied, crowd: &Crowd) {
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
        let (quiet, beside) = (middle(without), middle(with));
        let (name, p99, most) = (row.0, beside.through, 2 * quiet.through);
        println!("{name}: {p99:?} of {most:?}, which are twice the quiet figure");
        assert!(p99 < most, "{name}: {beside:?}, {quiet:?}");
    }

    async fn once(&mut self, row: Row, proxied: &Proxied, crowd: &Crowd) -> Latency {
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

    pub async fn at_the_end(&self, proxied: &Proxied) {
        let (memory, descriptors) = (proxied.proxy.memory(), proxied.proxy.descriptors());
        println!("at the end: {memory} B, {descriptors} descriptors");
        assert!(proxied.proxy.running());
    }
}

/// Whether the machine does nothing else.
fn is_quiet() -> bool {
    std::env::var_os("LONGHAUL_QUIET").is_some()
}

/// What the crowd feels when nobody attacks.
async fn quiet(crowd: &Crowd) -> Latency {
    crowd.latency();
    crowd.two_rounds().await;
    crowd.latency()
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
