//! From sums that grow to rates, and their last minute as a line of blocks.
//!
//! Invariant: it keeps [`KEPT`] samples of each thing that is still there.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

const KEPT: usize = 60;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[derive(Debug, Default)]
pub(super) struct Sums {
    at_ms: u64,
    pid: u64,
    /// The most that each sum has been: it may look smaller for a moment, while a
    /// tunnel ends.
    most: BTreeMap<String, u64>,
    lines: BTreeMap<String, VecDeque<f64>>,
}

impl Sums {
    /// Takes in one answer of `/live`.
    pub(super) fn take(&mut self, live: &Value) {
        let at_ms = live["at_unix_ms"].as_u64().unwrap_or(0);
        let pid = live["pid"].as_u64().unwrap_or(0);
        if at_ms == self.at_ms {
            // The same moment, told again.
            return;
        }
        if pid != self.pid {
            *self = Self {
                pid,
                ..Self::default()
            };
        }
        let seconds = at_ms.saturating_sub(self.at_ms) as f64 / 1000.0;
        let is_first = std::mem::replace(&mut self.at_ms, at_ms) == 0;
        let mut all = 0.0;
        let mut seen = vec!["tunnels".to_owned(), "rate".to_owned()];
        for upstream in live["upstreams"].as_array().into_iter().flatten() {
            for backend in upstream["backends"].as_array().into_iter().flatten() {
                let name = name_of(upstream, backend);
                let passed = ["messages_in", "messages_out"].map(|key| backend[key].as_u64());
                let sum = passed.into_iter().flatten().sum();
                let rate = self.rate(&name, sum, seconds, is_first);
                all += rate;
                let tunnels = backend["tunnels"].as_f64().unwrap_or(0.0);
                for (kind, value) in [("rate", rate), ("tunnels", tunnels)] {
                    let line = format!("{name} {kind}");
                    self.push(&line, value);
                    seen.push(line);
                }
                seen.push(name);
            }
        }
        self.push("tunnels", live["tunnels"].as_f64().unwrap_or(0.0));
        self.push("rate", all);
        seen.sort_unstable();
        self.lines
            .retain(|name, _| seen.binary_search(name).is_ok());
        self.most.retain(|name, _| seen.binary_search(name).is_ok());
    }

    fn rate(&mut self, name: &str, sum: u64, seconds: f64, is_first: bool) -> f64 {
        let before = self.most.get(name).copied();
        let now = sum.max(before.unwrap_or(0));
        self.most.insert(name.to_owned(), now);
        match before {
            Some(before) if !is_first && seconds > 0.0 => (now - before) as f64 / seconds,
            _ => 0.0,
        }
    }

    fn push(&mut self, name: &str, value: f64) {
        let line = self.lines.entry(name.to_owned()).or_default();
        if line.len() == KEPT {
            line.pop_front();
        }
        line.push_back(value);
    }

    pub(super) fn last(&self, name: &str) -> f64 {
        let last = self.lines.get(name).and_then(VecDeque::back);
        last.copied().unwrap_or(0.0)
    }

    /// The last `width` samples, the highest a full block.
    pub(super) fn line(&self, name: &str, width: usize) -> String {
        let Some(line) = self.lines.get(name) else {
            return String::new();
        };
        let last = line.iter().skip(line.len().saturating_sub(width));
        let top = last.clone().copied().fold(0.0, f64::max);
        let block = |value: &f64| match top > 0.0 {
            true => BLOCKS[((value / top * 7.0).round() as usize).min(7)],
            false => BLOCKS[0],
        };
        format!("{:>width$}", last.map(block).collect::<String>())
    }
}

/// As its lines are called.
pub(super) fn name_of(upstream: &Value, backend: &Value) -> String {
    let word = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", word(upstream), word(backend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(pid: u64, at_ms: u64, sum: u64) -> Value {
        let backend = json!({ "name": "b", "tunnels": 2, "messages_in": sum, "messages_out": 0 });
        let upstream = json!({ "name": "u", "backends": [backend] });
        json!({ "pid": pid, "at_unix_ms": at_ms, "tunnels": 2, "upstreams": [upstream] })
    }

    #[test]
    fn sums_become_rates_that_no_ended_tunnel_disturbs() {
        let mut sums = Sums::default();
        sums.take(&live(1, 1000, 500));
        assert_eq!(sums.last("u/b rate"), 0.0);
        sums.take(&live(1, 3000, 520));
        assert_eq!(sums.last("u/b rate"), 10.0);
        // A tunnel in between, and back.
        sums.take(&live(1, 4000, 20));
        assert_eq!(sums.last("u/b rate"), 0.0);
        sums.take(&live(1, 5000, 530));
        assert_eq!((sums.last("u/b rate"), sums.last("rate")), (10.0, 10.0));
        assert_eq!(sums.line("u/b rate", 4), "▁█▁█");
        assert_eq!(sums.line("u/b tunnels", 6), "  ████");
        // Told again, and another process.
        sums.take(&live(1, 5000, 999));
        assert_eq!(sums.last("u/b rate"), 10.0);
        sums.take(&live(2, 6000, 7));
        assert_eq!(
            (sums.last("u/b rate"), sums.line("rate", 3)),
            (0.0, "  ▁".to_owned())
        );
    }

    #[test]
    fn it_keeps_a_minute_of_what_is_there() {
        let mut sums = Sums::default();
        for second in 1..=100 {
            sums.take(&live(1, second * 1000, second));
        }
        assert_eq!(sums.line("rate", 100).trim_start().chars().count(), KEPT);
        let mut none = live(1, 200_000, 0);
        none["upstreams"] = json!([]);
        sums.take(&none);
        assert_eq!((sums.lines.len(), sums.most.len()), (2, 0));
    }
}
