//! What a tunnel costs on each engine: CPU of the relaying threads per echo and
//! per gigabyte, and memory per idle tunnel.
//!
//! It compares the two engines in one process; proxies are compared by `bench/`.
//! Relaying threads run on one core and everything else on another.
//!
//! `cargo bench --bench engines [-- echo|bulk|memory]`

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventFlags};
use support::{Kind, Relays, pin, rss, thread_cpu};

const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_secs(2);
/// 125 bytes behind a client's header.
const MESSAGE: [u8; 131] = {
    let mut message = [7; 131];
    (message[0], message[1]) = (0x82, 0x80 | 125);
    message
};

fn main() {
    let part = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    // A process of its own for each: memory that was freed is used again.
    match part.as_deref() {
        Some("memory-of-tokio") => return println!("{}", memory(Kind::Tokio)),
        Some("memory-of-engine") => return println!("{}", memory(Kind::Engine)),
        _ => {}
    }
    let wants = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if wants("echo") {
        for tunnels in [64, 1000] {
            compare(&format!("echo, {tunnels} tunnels, us CPU each"), &|kind| {
                echo(kind, tunnels)
            });
        }
    }
    if wants("bulk") {
        for tunnels in [1, 16] {
            let title = format!("1 MiB messages, {tunnels} tunnels, GB per CPU-second");
            compare(&title, &|kind| bulk(kind, tunnels));
        }
    }
    if wants("memory") {
        compare("bytes per idle tunnel (user space)", &|kind| {
            let part = match kind {
                Kind::Tokio => "memory-of-tokio",
                Kind::Engine => "memory-of-engine",
            };
            let this = std::env::current_exe().unwrap();
            let output = Command::new(this).arg(part).output().unwrap();
            let figure = String::from_utf8(output.stdout).unwrap();
            figure.trim().parse().unwrap()
        });
    }
}

/// Interleaved rounds; minimum, median and maximum.
fn compare(title: &str, measure: &dyn Fn(Kind) -> f64) {
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (kind, figures) in [Kind::Tokio, Kind::Engine].into_iter().zip(&mut figures) {
            figures.push(measure(kind));
        }
    }
    for (name, figures) in ["tokio", "engine"].into_iter().zip(&mut figures) {
        figures.sort_by(f64::total_cmp);
        let [least, median, most] = [0, ROUNDS / 2, ROUNDS - 1].map(|at| figures[at]);
        println!("{title}: {name} {least:.2} / {median:.2} / {most:.2}");
    }
}

/// Every client sends a message as soon as it has its last one back.
fn echo(kind: Kind, tunnels: usize) -> f64 {
    let relays = Relays::start(kind);
    let (mut clients, mut backends) = (Vec::new(), Vec::new());
    for _ in 0..tunnels {
        let (client, backend) = relays.tunnel();
        clients.push(client);
        backends.push(backend);
    }
    let done = Instant::now() + SPAN;
    let echoes = thread::spawn(move || on_readable(&backends, done + SPAN / 4, |_| ()));
    for mut client in &clients {
        client.write_all(&MESSAGE).unwrap();
    }
    let mut count = 0u64;
    let before = thread_cpu();
    on_readable(&clients, done, |bytes| count += bytes as u64);
    let cpu = thread_cpu() - before;
    drop(clients);
    echoes.join().unwrap();
    cpu.as_secs_f64() * 1e6 / (count as f64 / MESSAGE.len() as f64)
}

/// Sends back whatever comes, until `done`.
fn on_readable(streams: &[TcpStream], done: Instant, mut seen: impl FnMut(usize)) {
    pin(0);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for (index, stream) in streams.iter().enumerate() {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&epoll, stream, data, EventFlags::IN).unwrap();
    }
    let mut events = Vec::with_capacity(1024);
    let mut buffer = [0; 4096];
    let patience = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    while Instant::now() < done {
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        epoll::wait(&epoll, room, Some(&patience)).unwrap();
        for event in &events {
            let mut stream = &streams[{ event.data }.u64() as usize];
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => epoll::delete(&epoll, stream).unwrap(),
                Ok(read) => {
                    seen(read);
                    let _ = stream.write(&buffer[..read]);
                }
            }
        }
    }
}

/// Clients send messages of 1 MiB, backends read.
fn bulk(kind: Kind, tunnels: usize) -> f64 {
    let relays = Relays::start(kind);
    let mut message = vec![0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3, 4];
    message.resize(14 + (1 << 20), 9);
    let done = Instant::now() + SPAN;
    let before = thread_cpu();
    let mut threads = Vec::new();
    for _ in 0..tunnels {
        let (mut client, mut backend) = relays.tunnel();
        let message = message.clone();
        let writes = thread::spawn(move || {
            pin(0);
            while Instant::now() < done {
                client.write_all(&message).unwrap();
            }
        });
        let reads = thread::spawn(move || {
            pin(0);
            let (mut buffer, mut read) = (vec![0; 1 << 18], 0u64);
            loop {
                match backend.read(&mut buffer).unwrap() {
                    0 => return read,
                    some => read += some as u64,
                }
            }
        });
        threads.push((writes, reads));
    }
    let mut bytes = 0;
    for (writes, reads) in threads {
        writes.join().unwrap();
        bytes += reads.join().unwrap();
    }
    bytes as f64 / 1e9 / (thread_cpu() - before).as_secs_f64()
}

/// From a ninth of the tunnels to all of them, after an echo through each.
fn memory(kind: Kind) -> f64 {
    const MOST: usize = 3600;
    let relays = Relays::start(kind);
    let mut ends = Vec::with_capacity(MOST);
    let mut base = 0;
    while ends.len() < MOST {
        let (mut client, mut backend) = relays.tunnel();
        let mut message = [0; 131];
        client.write_all(&MESSAGE).unwrap();
        backend.read_exact(&mut message).unwrap();
        backend.write_all(&message).unwrap();
        client.read_exact(&mut message).unwrap();
        ends.push((client, backend));
        if ends.len() == MOST / 9 {
            base = rss();
        }
    }
    (rss() - base) as f64 / (MOST - MOST / 9) as f64
}
