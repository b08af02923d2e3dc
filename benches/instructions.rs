//! How many instructions the frame cursor and the route table take, counted by
//! callgrind, with bounds: where noise cannot hide a regression, the gate fails.
//!
//! A bound is what was counted when it was written and a tenth more, for other
//! compilers and another C library. It goes down with an improvement. One that
//! has to go up says why in its commit. Seeds of hash maps change the counts of
//! the route table by a few instructions from run to run.
//!
//! `.ci/run instructions`, which has valgrind and the runner installed

// Of what the macros below make of names.
#![allow(unused_qualifications)]

#[path = "support/inputs.rs"]
mod inputs;

use std::hint::black_box;

use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use inputs::{Question, READ, fragmented_message, large_message, small_messages, table};
use longhaul::route::Table;
use longhaul::ws::frame::FrameCursor;

fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind.hard_limits([(EventKind::Ir, instructions)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

// Follows the bytes as a tunnel that gets `read` of them at a time.
#[library_benchmark]
#[bench::small_messages(args = (small_messages(100), READ), config = at_most(26_400))]
#[bench::byte_by_byte(args = (small_messages(100), 1), config = at_most(1_140_000))]
#[bench::fragments_and_pings(args = (fragmented_message(100), READ), config = at_most(47_500))]
#[bench::a_large_message(args = (large_message(1 << 20), READ), config = at_most(3_400))]
fn follow(bytes: Vec<u8>, read: usize) -> (Vec<u8>, u64) {
    let mut cursor = FrameCursor::new();
    for part in bytes.chunks(read) {
        cursor.advance(black_box(part));
    }
    // Given back, so that freeing them is not counted.
    (bytes, cursor.messages())
}

// The way to a boundary, as when a tunnel is being closed.
#[library_benchmark]
#[bench::of_a_fragmented_message(args = (fragmented_message(100),), config = at_most(53_700))]
fn boundary(bytes: Vec<u8>) -> (Vec<u8>, usize) {
    let mut cursor = FrameCursor::new();
    let first = &bytes[..1];
    cursor.advance(black_box(first));
    let at = cursor.advance_to_message_boundary(black_box(&bytes[1..]));
    (bytes, at)
}

// The same bound for 100 routes and for 1,000: a lookup does not depend on how
// many there are.
#[library_benchmark]
#[bench::exact_host_of_100(args = (table(100), Question::exact()), config = at_most(1_870))]
#[bench::exact_host_of_1000(args = (table(1000), Question::exact()), config = at_most(1_870))]
#[bench::unknown_host_of_100(args = (table(100), Question::unknown()), config = at_most(1_540))]
#[bench::unknown_host_of_1000(args = (table(1000), Question::unknown()), config = at_most(1_540))]
fn lookup(table: Table<usize>, question: Question) -> (Table<usize>, Question, usize) {
    let found = *table.lookup(&black_box(question.request())).unwrap();
    (table, question, found)
}

library_benchmark_group!(name = cursor, benchmarks = [follow, boundary]);
library_benchmark_group!(name = route, benchmarks = [lookup]);
main!(library_benchmark_groups = [cursor, route]);
