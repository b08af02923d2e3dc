//! How long the rooms on the path of a connection and of a byte take: the
//! choice of a backend, the route table, the frame cursor, and a relay.
//!
//! The first three are pure, and their times should not grow with what the
//! issue says they must not grow with. The relay goes through real sockets and
//! other threads, so its figures are of the whole machine; what it costs a
//! proxy is measured by `engines` and by `bench/`.
//!
//! `cargo bench --bench rooms [-- ring|route|cursor|relay]`

mod support;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use longhaul::balance::{key_hash, rendezvous};
use longhaul::ws::frame::FrameCursor;
use support::inputs::{
    Question, READ, fragmented_message, large_message, members, small_messages, table,
};
use support::{Kind, Relays};

criterion_group!(rooms, ring, route, cursor, relay);
criterion_main!(rooms);

/// From the bytes of a sticky key to a backend.
fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    for count in [10, 100, 1000] {
        for (name, weights) in [("equal", 1), ("weighted", 3)] {
            let members = members(count, weights);
            let mut room = 0u64;
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    room += 1;
                    rendezvous(key_hash(&room.to_le_bytes()), &members, &|_| false)
                });
            });
        }
    }
}

fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for count in [10, 100, 1000] {
        let table = table(count);
        for (name, question) in [
            ("exact host", Question::exact()),
            ("unknown host", Question::unknown()),
        ] {
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| *table.lookup(&black_box(question.request())).unwrap());
            });
        }
    }
}

fn cursor(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cursor");
    for (name, bytes) in [
        ("125 B messages", small_messages(1000)),
        ("fragments and pings", fragmented_message(1000)),
        ("a message of 1 MiB", large_message(1 << 20)),
    ] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| follow(&bytes, READ));
        });
    }
    let bytes = small_messages(1000);
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("125 B messages, byte by byte", |bencher| {
        bencher.iter(|| follow(&bytes, 1));
    });
}

fn follow(bytes: &[u8], read: usize) -> u64 {
    let mut cursor = FrameCursor::new();
    for part in bytes.chunks(read) {
        cursor.advance(black_box(part));
    }
    cursor.messages()
}

fn relay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay");
    for kind in [Kind::Tokio, Kind::Engine] {
        let relays = Relays::start(kind);
        let (mut client, backend) = relays.tunnel();
        let echo = thread::spawn(move || echo(backend));
        for (name, message) in [
            ("echo of 125 B", small_messages(1)),
            ("echo of 1 MiB", large_message(1 << 20)),
        ] {
            group.throughput(Throughput::Bytes(2 * message.len() as u64));
            group.bench_function(BenchmarkId::new(name, format!("{kind:?}")), |bencher| {
                bencher.iter(|| ask(&mut client, &message));
            });
        }
        drop(client);
        echo.join().unwrap();
    }
}

/// Sends back what comes, until the end.
fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => stream.write_all(&buffer[..read]).unwrap(),
        }
    }
}

/// Writes and reads by turns, so that neither way fills up.
fn ask(stream: &mut TcpStream, message: &[u8]) {
    let mut buffer = [0; 64 * 1024];
    for part in message.chunks(buffer.len()) {
        stream.write_all(part).unwrap();
        let mut left = part.len();
        while left > 0 {
            left -= stream.read(&mut buffer[..left]).unwrap();
        }
    }
}
