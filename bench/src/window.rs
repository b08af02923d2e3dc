//! The measured part of a run: CPU, time and counts between the end of the warm-up and the end.
//!
//! It deliberately knows no connection. Invariant: what was counted in the warm-up is forgotten when the window begins.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::load::Setup;
use crate::procfs;

/// The measured part of a run.
pub struct Window {
    pub pids: Vec<u32>,
    pub warm_until: Instant,
    pub until: Instant,
    pub begun: Option<(Instant, u64, (u64, u64))>,
    pub count: u64,
    pub latency: Histogram<u64>,
}

impl Window {
    /// Begins the warm-up.
    ///
    /// # Errors
    /// When the histogram's bounds are wrong.
    pub fn new(setup: &Setup) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            pids: setup.pid.map(procfs::family).unwrap_or_default(),
            warm_until: now + setup.warm,
            until: now + setup.warm + setup.time,
            begun: None,
            count: 0,
            latency: Histogram::new_with_bounds(100, 60_000_000_000, 3)?,
        })
    }

    /// False when the time is over.
    pub fn goes_on(&mut self, now: Instant) -> bool {
        if self.begun.is_none() && now >= self.warm_until {
            self.count = 0;
            self.latency.reset();
            self.begun = Some((now, procfs::cpu_ns(&self.pids), procfs::ticks(&self.pids)));
        }
        now < self.until
    }

    /// What was measured, as JSON.
    ///
    /// # Errors
    /// When nothing was.
    pub fn result(&self) -> Result<Value> {
        let Some((begun, cpu, ticks)) = self.begun else {
            bail!("the run was too short")
        };
        ensure!(self.count > 0, "nothing was answered");
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = procfs::cpu_ns(&self.pids) - cpu;
        let now = procfs::ticks(&self.pids);
        let (user, system) = (now.0 - ticks.0, now.1 - ticks.1);
        let micros = |q: f64| self.latency.value_at_quantile(q) as f64 / 1e3;
        let mut result = json!({
            "count": self.count,
            "seconds": seconds,
            "per_second": self.count as f64 / seconds,
            "p50_us": micros(0.5), "p99_us": micros(0.99), "p999_us": micros(0.999), "max_us": micros(1.0),
        });
        // A direct connection has no proxy whose CPU could be counted.
        if self.pids.is_empty() {
            return Ok(result);
        }
        result["cpu_seconds"] = json!(cpu as f64 / 1e9);
        result["cpu_us_each"] = json!(cpu as f64 / 1e3 / self.count as f64);
        result["cpu_share"] = json!(cpu as f64 / 1e9 / seconds);
        result["user_share"] = json!(user as f64 / (user + system).max(1) as f64);
        Ok(result)
    }
}
