//! The loads: echo (closed and open loop), idle tunnels, handshakes, plain requests, a room. Churn has its own file.
//!
//! It deliberately measures one target per call; who is compared with whom is decided by `bench/run`.
//! Invariants: an open loop counts latency from the time a message was due, not from the time it was sent; every answer
//! is checked; a failed connection ends every load here.

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
    let stride = stride(setup);
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
            let slot = ((sent * stride) % setup.conns as u64) as usize;
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

// How far the next tunnel is from the last, so that all get their turn. Over HTTP/2 neighbours share a connection: their
// messages would come to it in trains, which no clients that know nothing of each other would send.
fn stride(setup: &Setup) -> u64 {
    let conns = setup.conns as u64;
    let mut stride = setup.http2.map_or(1, |each| each.get() as u64 + 1);
    while divisor(stride, conns) > 1 {
        stride += 1;
    }
    stride
}

// The greatest common one.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
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
