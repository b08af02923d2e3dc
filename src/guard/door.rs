//! What a listener asks of a connection at accept, before TLS is paid for.

use std::net::IpAddr;

use super::lets_in;
use crate::config::Networks;

/// The door of one listener.
#[derive(Clone, Debug, Default)]
pub struct Door {
    pub networks: Networks,
}

/// Why a connection does not come in by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shut {
    #[error("the listener is not for this network")]
    Network,
}

impl Shut {
    /// The word for it in log and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Network => "network_denied",
        }
    }
}

impl Door {
    /// # Errors
    /// If the connection is to be closed.
    pub fn admit(&self, peer: Option<IpAddr>) -> Result<(), Shut> {
        match lets_in(&self.networks, peer) {
            true => Ok(()),
            false => Err(Shut::Network),
        }
    }
}
