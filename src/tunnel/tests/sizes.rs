//! What a tunnel costs: bounds on the structs that each of them owns.

use tokio::net::TcpStream;

use super::super::engine::testing::ENTRY;
use super::super::scratch::{self, Scratch};
use super::*;

#[test]
fn a_plain_tunnel_is_small() {
    let entry = size_of::<Tunnel>();
    let relay = size_of::<Relay<TcpStream, TcpStream>>();
    // With both counts of its `Arc` and its place among the others: less than
    // 200 bytes, beside the words of its request.
    assert!(entry <= 168, "the registry's entry is {entry}");
    assert!(entry + 2 * size_of::<usize>() + size_of::<Option<Arc<Tunnel>>>() < 200);
    assert!(relay <= 208, "the relay in tokio is {relay}");
    let place = ENTRY;
    assert!(place <= 200, "the engine's entry is {place}");
}

#[test]
fn the_scratch_buffer_begins_in_the_middle_of_a_page() {
    let mut scratch = Scratch::take();
    let bytes = scratch.bytes();
    assert_eq!(bytes.as_ptr().addr() % 4096, 2048);
    assert_eq!(bytes.len(), scratch::SIZE);
}
