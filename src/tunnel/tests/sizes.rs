//! What a tunnel costs: bounds on the structs that each of them owns.

use tokio::net::TcpStream;

use super::*;

#[test]
fn a_plain_tunnel_is_small() {
    let entry = size_of::<Tunnel>();
    let relay = size_of::<Relay<TcpStream, TcpStream>>();
    assert!(entry <= 240, "entry is {entry}");
    assert!(relay <= 208, "relay is {relay}");
}
