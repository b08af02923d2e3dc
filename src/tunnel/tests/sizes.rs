//! What a tunnel costs: bounds on the structs that each of them owns.

use tokio::net::TcpStream;

use super::super::engine::testing::ENTRY;
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
