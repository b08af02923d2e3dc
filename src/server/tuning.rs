//! What an accepted socket has of its listening socket: Linux copies the options of
//! TCP to the socket of each connection when its handshake ends, which saves as many
//! system calls for each of them as there are options.
//!
//! Invariant: an accepted socket that is said to be tuned has the options of the
//! snapshot of that moment.

use std::fs;

use super::bind::BACKLOG;
use super::listener::Acceptor;
use crate::net::{Keepalive, tune_tcp};

/// The options that the connections of one listening socket are born with.
#[derive(Debug, Default)]
pub(super) struct Tuning {
    keepalive: Option<Keepalive>,
    /// Connections that may have been waiting for accept before those were set.
    older: u32,
}

impl Tuning {
    /// Of a socket that had these options before it listened.
    pub(super) fn before_listening(keepalive: Keepalive) -> Self {
        Self {
            keepalive: Some(keepalive),
            older: 0,
        }
    }

    /// Whether a socket that has just been accepted has these options. After they
    /// have changed, as many have not as may have been waiting.
    pub(super) fn covers(&mut self, acceptor: &Acceptor, keepalive: Keepalive) -> bool {
        let Acceptor::Tcp(socket) = acceptor else {
            return true;
        };
        if self.keepalive != Some(keepalive) {
            self.keepalive = None;
            if tune_tcp(socket, &keepalive).is_ok() {
                *self = Self {
                    keepalive: Some(keepalive),
                    older: most_waiting(),
                };
            }
            return false;
        }
        let is_older = self.older > 0;
        self.older = self.older.saturating_sub(1);
        !is_older
    }
}

/// How many may wait at a socket, whoever has bound it: the kernel lets nobody have
/// more, and lets one in beyond what was asked for. Those accepted meanwhile count
/// too.
fn most_waiting() -> u32 {
    let limit = fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    let limit = limit.and_then(|limit| limit.trim().parse().ok());
    limit.unwrap_or(u32::MAX - 2).max(BACKLOG as u32) + 2
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::bind::{Share, bind_tcp};
    use super::*;

    const FIRST: Keepalive = Keepalive {
        idle: Duration::from_secs(31),
        interval: Duration::from_secs(11),
        probes: 4,
        user_timeout: Duration::from_secs(61),
    };

    async fn listening() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    /// What the kernel says of the socket of a new connection.
    async fn born_with(socket: &TcpListener) -> (bool, bool, Keepalive) {
        let address = socket.local_addr().unwrap();
        let (_far, near) = tokio::join!(TcpStream::connect(address), socket.accept());
        let (near, _) = near.unwrap();
        let near = SockRef::from(&near);
        let keepalive = Keepalive {
            idle: near.tcp_keepalive_time().unwrap(),
            interval: near.tcp_keepalive_interval().unwrap(),
            probes: near.tcp_keepalive_retries().unwrap(),
            user_timeout: near.tcp_user_timeout().unwrap().unwrap_or_default(),
        };
        (
            near.tcp_nodelay().unwrap(),
            near.keepalive().unwrap(),
            keepalive,
        )
    }

    /// The kernel's promise that this stands on.
    #[tokio::test]
    async fn a_connection_is_born_with_the_options_of_its_listener() {
        let acceptor = Acceptor::Tcp(listening().await);
        let Acceptor::Tcp(socket) = &acceptor else {
            return;
        };
        let (nodelay, alive, before) = born_with(socket).await;
        assert!(!nodelay && !alive && before != FIRST);
        let mut tuning = Tuning::default();
        let second = Keepalive { probes: 5, ..FIRST };
        for keepalive in [FIRST, second] {
            assert!(!tuning.covers(&acceptor, keepalive));
            assert_eq!(born_with(socket).await, (true, true, keepalive));
        }
    }

    #[tokio::test]
    async fn a_socket_that_longhaul_binds_covers_its_first_connection() {
        let address = "127.0.0.1:0".parse().unwrap();
        let socket = bind_tcp(address, Share::Never, &FIRST).unwrap();
        let acceptor = Acceptor::Tcp(TcpListener::from_std(socket).unwrap());
        let Acceptor::Tcp(socket) = &acceptor else {
            return;
        };
        assert_eq!(born_with(socket).await, (true, true, FIRST));
        let mut tuning = Tuning::before_listening(FIRST);
        assert!(tuning.covers(&acceptor, FIRST));
        // An edit may have come in between.
        let second = Keepalive { probes: 5, ..FIRST };
        assert!(!tuning.covers(&acceptor, second));
        assert_eq!(born_with(socket).await, (true, true, second));
        assert!(!tuning.covers(&acceptor, second));
    }

    #[tokio::test]
    async fn whoever_may_have_waited_before_a_change_is_not_covered() {
        let acceptor = Acceptor::Tcp(listening().await);
        let mut tuning = Tuning::default();
        for probes in [1, 2] {
            let keepalive = Keepalive { probes, ..FIRST };
            for _ in 0..=most_waiting() {
                assert!(!tuning.covers(&acceptor, keepalive));
            }
            assert!(tuning.covers(&acceptor, keepalive));
            assert!(tuning.covers(&acceptor, keepalive));
        }
    }
}
