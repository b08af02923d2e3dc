//! The loads: echo (closed and open loop), idle tunnels, handshakes, plain requests, a room, churn.
//!
//! It deliberately measures one target per call; who is compared with whom is decided by `bench/run`.
//! Invariants: an open loop counts latency from the time a message was due, not from the time it was sent; every answer
//! is checked; a failed connection ends every load but churn, which counts it.

use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::net::{Shutdown, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::client::{Kind, Outcome};
use crate::fleet::Fleet;
use crate::window::Window;

/// What every load needs.
pub struct Setup {
    pub target: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
    /// HTTP/2, with so many tunnels on a connection; absent: HTTP/1.1.
    pub http2: Option<NonZeroUsize>,
    pub path: String,
    /// The name in the Upgrade header.
    pub protocol: String,
    pub conns: usize,
    pub size: usize,
    pub warm: Duration,
    pub time: Duration,
    /// The proxy whose CPU is counted.
    pub pid: Option<u32>,
}

/// Echo with one message under way on each connection, as fast as it goes.
///
/// # Errors
/// When anything is lost or changed.
pub fn echo_saturated(setup: &Setup, kind: Kind) -> Result<Value> {
    let mut fleet = Fleet::new(setup, kind)?;
    fleet.fill(setup.conns, false)?;
    let mut sent_at = vec![Instant::now(); setup.conns];
    for (slot, at) in sent_at.iter_mut().enumerate() {
        *at = Instant::now();
        fleet.send(slot)?;
    }
    let mut window = Window::new(setup)?;
    let mut events = Vec::new();
    while window.goes_on(Instant::now()) {
        fleet.wait(Duration::from_millis(100), &mut events)?;
        for (slot, outcome) in events.drain(..) {
            let Outcome::Answers(answers) = outcome? else {
                bail!("a tunnel was ended")
            };
            let now = Instant::now();
            window.count += u64::from(answers);
            window
                .latency
                .saturating_record((now - sent_at[slot]).as_nanos() as u64);
            sent_at[slot] = now;
            fleet.send(slot)?;
        }
    }
    let mut result = window.result()?;
    // Both ways: a byte that is echoed is relayed twice.
    let bytes = result["count"].as_f64().unwrap_or(0.0) * 2.0 * setup.size as f64;
    if let Some(cpu) = result["cpu_seconds"].as_f64() {
        result["gb_per_cpu_second"] = json!(bytes / 1e9 / cpu);
        let messages = result["count"].as_f64().unwrap_or(0.0) * 2.0;
        result["messages_per_cpu_second"] = json!(messages / cpu);
    }
    result["gb_per_second"] = json!(bytes / 1e9 / result["seconds"].as_f64().unwrap_or(f64::NAN));
    Ok(result)
}

/// Echo at a fixed rate over all connections in turn, whether answers have come or not.
///
/// # Errors
/// When anything is lost or changed.
pub fn echo_at_rate(setup: &Setup, rate: f64) -> Result<Value> {
    let mut fleet = Fleet::new(setup, Kind::WebSocket)?;
    fleet.fill(setup.conns, false)?;
    let mut due: Vec<VecDeque<Instant>> = vec![VecDeque::new(); setup.conns];
    let mut window = Window::new(setup)?;
    let begin = Instant::now();
    let (mut sent, mut late) = (0_u64, 0_u64);
    let mut events = Vec::new();
    loop {
        let now = Instant::now();
        if !window.goes_on(now) {
            break;
        }
        loop {
            let at = begin + Duration::from_secs_f64(sent as f64 / rate);
            if at > now {
                break;
            }
            late += u64::from(now - at > Duration::from_millis(1));
            let slot = (sent % setup.conns as u64) as usize;
            due[slot].push_back(at);
            fleet.send(slot)?;
            sent += 1;
        }
        let next = begin + Duration::from_secs_f64(sent as f64 / rate);
        fleet.wait(next.saturating_duration_since(Instant::now()), &mut events)?;
        for (slot, outcome) in events.drain(..) {
            let Outcome::Answers(answers) = outcome? else {
                bail!("a tunnel was ended")
            };
            let now = Instant::now();
            for _ in 0..answers {
                let Some(at) = due[slot].pop_front() else {
                    bail!("an answer to nothing")
                };
                // Messages that were due in the warm-up count for the warm-up.
                if at >= window.warm_until || window.begun.is_none() {
                    window
                        .latency
                        .saturating_record((now - at).as_nanos() as u64);
                    window.count += 1;
                }
            }
        }
    }
    let mut result = window.result()?;
    result["sent_late"] = json!(late as f64 / sent as f64);
    Ok(result)
}

/// Opens tunnels up to each of `steps`, one echo each, and waits for a line on stdin at each step.
///
/// # Errors
/// When a tunnel fails.
pub fn hold(setup: &Setup, steps: &[usize]) -> Result<()> {
    let mut fleet = Fleet::new(setup, Kind::WebSocket)?;
    let mut line = String::new();
    for step in steps {
        fleet.fill(*step, true)?;
        println!("{}", json!({ "held": step }));
        io::stdin().lock().read_line(&mut line)?;
    }
    Ok(())
}

/// Opens a tunnel, sees the 101, ends it with FIN, and again, `conns` at a time.
///
/// # Errors
/// When a handshake fails.
pub fn handshakes(setup: &Setup) -> Result<Value> {
    let mut fleet = Fleet::new(setup, Kind::WebSocket)?;
    let mut begun = vec![Instant::now(); setup.conns];
    for at in &mut begun {
        *at = Instant::now();
        fleet.open()?;
    }
    let mut window = Window::new(setup)?;
    let mut resumed = 0_u64;
    let mut events = Vec::new();
    while window.goes_on(Instant::now()) {
        fleet.wait(Duration::from_millis(100), &mut events)?;
        for (slot, outcome) in events.drain(..) {
            let Outcome::Opened = outcome? else {
                bail!("a tunnel was ended before it was open")
            };
            let now = Instant::now();
            window.count += 1;
            window
                .latency
                .saturating_record((now - begun[slot]).as_nanos() as u64);
            if let Some(client) = &fleet.clients[slot] {
                resumed += u64::from(window.begun.is_some() && client.resumed());
                client.socket().shutdown(Shutdown::Both).ok();
            }
            fleet.close(slot);
            let again = fleet.open()?;
            begun[again] = now;
        }
    }
    let mut result = window.result()?;
    result["resumed_share"] = json!(resumed as f64 / window.count as f64);
    Ok(result)
}

/// One member of a room speaks, all hear it, and again.
///
/// # Errors
/// When a member misses a byte.
pub fn room(setup: &Setup) -> Result<Value> {
    let mut fleet = Fleet::new(setup, Kind::WebSocket)?;
    fleet.one_stream = true;
    fleet.fill(setup.conns, false)?;
    let mut window = Window::new(setup)?;
    let mut events = Vec::new();
    let mut missing = setup.conns as u64;
    let mut spoken = Instant::now();
    fleet.send(0)?;
    while window.goes_on(Instant::now()) {
        fleet.wait(Duration::from_millis(100), &mut events)?;
        for (_, outcome) in events.drain(..) {
            let Outcome::Answers(answers) = outcome? else {
                bail!("a tunnel was ended")
            };
            window.count += u64::from(answers);
            window
                .latency
                .saturating_record(spoken.elapsed().as_nanos() as u64);
            missing -= u64::from(answers);
        }
        if missing == 0 {
            missing = setup.conns as u64;
            spoken = Instant::now();
            fleet.send(0)?;
        }
    }
    window.result()
}

/// `conns` live tunnels, each with an echo every 100 ms, and `opens` new ones a second, each held for a second.
/// Counts what is lost.
///
/// # Errors
/// Only when the load itself cannot go on.
pub fn churn(setup: &Setup, opens: f64) -> Result<Value> {
    let mut fleet = Fleet::new(setup, Kind::WebSocket)?;
    fleet.fill(setup.conns, true)?;
    println!("{}", json!({ "live": setup.conns }));
    let begin = Instant::now();
    let (mut echoes, mut opened, mut tried) = (0_u64, 0_u64, 0_u64);
    let (mut lost_live, mut lost_new) = (0_u64, 0_u64);
    let mut reasons: Vec<String> = Vec::new();
    let mut young: VecDeque<(Instant, usize, u64)> = VecDeque::new();
    let mut born = vec![0_u64; setup.conns];
    let (mut next_echo, mut turn) = (begin, 0_usize);
    let gap = Duration::from_millis(100) / setup.conns as u32;
    let mut waiting = vec![false; setup.conns];
    let mut events = Vec::new();
    while begin.elapsed() < setup.time {
        let now = Instant::now();
        while next_echo <= now {
            let slot = turn % setup.conns;
            if !waiting[slot] && fleet.clients[slot].is_some() && fleet.send(slot).is_ok() {
                waiting[slot] = true;
            }
            turn += 1;
            next_echo += gap;
        }
        while (tried as f64) < begin.elapsed().as_secs_f64() * opens {
            tried += 1;
            match fleet.open() {
                Ok(slot) => {
                    born.resize(fleet.clients.len().max(born.len()), 0);
                    waiting.resize(born.len(), false);
                    born[slot] = tried;
                    young.push_back((now + Duration::from_secs(1), slot, tried));
                }
                Err(e) => note(&mut reasons, &mut lost_new, &e.to_string()),
            }
        }
        while young.front().is_some_and(|(at, _, _)| *at <= now) {
            let Some((_, slot, id)) = young.pop_front() else {
                break;
            };
            if fleet.clients[slot].is_some() && born[slot] == id {
                fleet.close(slot);
            }
        }
        fleet.wait(Duration::from_micros(500), &mut events)?;
        for (slot, outcome) in events.drain(..) {
            match outcome {
                Ok(Outcome::Answers(n)) => {
                    echoes += u64::from(n);
                    waiting[slot] = false;
                }
                Ok(Outcome::Opened) => {
                    opened += 1;
                    fleet.send(slot).ok();
                }
                Ok(Outcome::Nothing) => {}
                other => {
                    let why = other.map_or_else(|e| e.to_string(), |_| "ended".to_owned());
                    let count = if slot < setup.conns {
                        &mut lost_live
                    } else {
                        &mut lost_new
                    };
                    note(&mut reasons, count, &why);
                    fleet.clients[slot] = None;
                    if slot >= setup.conns {
                        fleet.free.push(slot);
                    }
                }
            }
        }
    }
    reasons.truncate(5);
    Ok(
        json!({ "echoes": echoes, "tried": tried, "opened": opened, "lost_live": lost_live, "lost_new": lost_new, "reasons": reasons }),
    )
}

fn note(reasons: &mut Vec<String>, count: &mut u64, why: &str) {
    *count += 1;
    if !reasons.iter().any(|r| r == why) {
        reasons.push(why.to_owned());
    }
}
