//! Handshakes as real clients send them (`handshakes/*.txt`, as captured), each
//! mutated in forty ways.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::ground::{Ground, drain};
use crate::kit::soon;

const CAPTURES: usize = 17;
const MUTATIONS: u64 = 40;

pub async fn mutated(ground: Arc<Ground>) {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/handshakes");
    let mut heads: Vec<_> = fs::read_dir(place)
        .expect("handshakes")
        .map(|entry| fs::read(entry.expect("a file").path()).expect("a head"))
        .collect();
    heads.sort();
    assert_eq!(heads.len(), CAPTURES);
    let mut answers = JoinSet::new();
    for (number, head) in heads.into_iter().enumerate() {
        assert_eq!(answer(&ground, number, &head).await, Some(101));
        for seed in 0..MUTATIONS {
            let (ground, mutant) = (Arc::clone(&ground), mutate(&head, seed));
            answers.spawn(async move { (answer(&ground, number, &mutant).await, mutant) });
        }
    }
    let mut upgraded = 0;
    for (status, mutant) in answers.join_all().await {
        let text = String::from_utf8_lossy(&mutant);
        // Whoever is refused is told so as a client's mistake, not as a fault.
        let fine = status.is_none_or(|status| matches!(status, 101 | 200 | 400..=499 | 501 | 505));
        assert!(fine, "{status:?} for {text:?}");
        upgraded += usize::from(status == Some(101));
    }
    println!("{upgraded} mutants got a tunnel");
}

/// The status that comes for this head, if one does.
async fn answer(ground: &Ground, number: usize, head: &[u8]) -> Option<u16> {
    let mut stream = ground.connect(&ground.plain, number).await;
    let _ = stream.write_all(head).await;
    let mut line = [0; 12];
    let answered = soon("an answer or an end", stream.read_exact(&mut line)).await;
    let _ = stream.shutdown().await;
    drain(&mut stream).await;
    answered.ok()?;
    let line = std::str::from_utf8(&line).expect("a status line");
    line.strip_prefix("HTTP/1.1 ").expect("HTTP").parse().ok()
}

/// One to three changes, always the same for the same seed.
fn mutate(head: &[u8], seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut mutant = head.to_vec();
    for _ in 0..random.random_range(1..=3) {
        let at = random.random_range(0..mutant.len());
        let to = random.random_range(at..mutant.len().min(at + 40)) + 1;
        match random.random_range(0..8) {
            0 => mutant[at] ^= 1 << random.random_range(0..8),
            1 => mutant[at] = random.random(),
            2 => drop(mutant.drain(at..to)),
            3 => mutant.truncate(at.max(1)),
            4 => mutant.insert(at, [0, b'\r', b'\n', b' ', b':', 0xff][seed as usize % 6]),
            5 => {
                let part = mutant[at..to].to_vec();
                mutant.splice(at..at, part.repeat(random.random_range(1..200)));
            }
            6 => mutant[at..to].make_ascii_uppercase(),
            _ => swap_lines(&mut mutant, &mut random),
        }
        if mutant.is_empty() {
            mutant.push(b'\n');
        }
    }
    mutant
}

/// Puts a line of the head to another place, the request line too.
fn swap_lines(mutant: &mut Vec<u8>, random: &mut StdRng) {
    let mut lines: Vec<_> = mutant.split_inclusive(|byte| *byte == b'\n').collect();
    let (one, other) = (
        random.random_range(0..lines.len()),
        random.random_range(0..lines.len()),
    );
    lines.swap(one, other);
    *mutant = lines.concat();
}
