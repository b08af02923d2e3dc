//! What a proxy used, read from /proc: CPU time to the nanosecond, over all its processes and threads.
//!
//! It deliberately reads no cgroups: a benchmark should need no set-up. Invariant: a process counts if it is the given
//! one or a descendant of it at the time of reading.

use std::collections::HashMap;
use std::fs;

/// The process and all its descendants.
pub fn family(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|s| s.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name may hold anything; what follows its last bracket is fixed (proc(5)).
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut family = vec![root];
    let mut at = 0;
    while at < family.len() {
        family.extend(children.get(&family[at]).into_iter().flatten());
        at += 1;
    }
    family
}

/// Nanoseconds on a CPU, user and system, of these processes together.
pub fn cpu_ns(pids: &[u32]) -> u64 {
    pids.iter()
        .flat_map(|pid| {
            fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
                .flatten()
        })
        .filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
}

/// Ticks of user and of system time (proc(5): fields 14 and 15), for the share of each.
pub fn ticks(pids: &[u32]) -> (u64, u64) {
    let mut sum = (0, 0);
    for pid in pids {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let Some((_, rest)) = stat.rsplit_once(')') else {
            continue;
        };
        let field = |n: usize| {
            rest.split_whitespace()
                .nth(n)
                .and_then(|s| s.parse::<u64>().ok())
                .unwrap_or(0)
        };
        sum.0 += field(11);
        sum.1 += field(12);
    }
    sum
}
