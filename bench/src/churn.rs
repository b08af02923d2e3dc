//! Live tunnels and new ones, while somebody reloads the proxy.
//!
//! It deliberately does not end when a tunnel fails, as the other loads do. Invariant: each tunnel that is lost is counted
//! once, with those that lived from the start or with those that came meanwhile.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{Kind, Outcome};
use crate::fleet::Fleet;
use crate::load::Setup;

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
