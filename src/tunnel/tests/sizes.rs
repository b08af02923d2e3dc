//! What a tunnel costs: bounds on the structs that each of them owns.

use tokio::net::TcpStream;

use super::super::engine::testing::ENTRY;
use super::*;

#[test]
fn a_plain_tunnel_is_small() {
    let entry = size_of::<Tunnel>();
    let relay = size_of::<Relay<TcpStream, TcpStream>>();
    assert!(entry <= 208, "the registry's entry is {entry}");
    assert!(relay <= 208, "the relay in tokio is {relay}");
    let place = ENTRY;
    assert!(place <= 200, "the engine's entry is {place}");
}
