//! Connects to a server that may have several addresses.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Why no address could be connected to: the reason of the last.
#[derive(Debug)]
pub enum ConnectFault {
    Failed(io::Error),
    Timeout,
}

/// Tries each address, giving each its share of the time left, so that one that
/// swallows packets does not use up the others' chance.
///
/// # Errors
/// See [`ConnectFault`].
pub async fn connect(
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<TcpStream, ConnectFault> {
    let mut last = ConnectFault::Timeout;
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = ConnectFault::Failed(error),
            Err(_) => last = ConnectFault::Timeout,
        }
    }
    Err(last)
}
