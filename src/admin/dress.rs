//! TLS of the admin API over TCP: the handshake, and whom the certificate shows.
//!
//! Certificates, CA and the names of operators are those of the configuration in
//! force, so that they can be renewed; whether there is TLS at all was decided at
//! the start.
//!
//! Invariant: a port that began with TLS never speaks without.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::desk::Desk;
use super::person::{Caller, Certified, Peer};
use crate::state::{AdminTls, State};
use crate::tls::{self, ClientCertificate};

/// For a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes that are calculated at once, on the thread that has all of an
/// operator's business.
const MOST_HANDSHAKES: usize = 4;

#[derive(Debug)]
pub(super) struct Dress {
    /// What was in force last, for when an edit has taken it out.
    last: Mutex<Option<Arc<AdminTls>>>,
    turns: Semaphore,
}

impl Default for Dress {
    fn default() -> Self {
        Self {
            last: Mutex::default(),
            turns: Semaphore::new(MOST_HANDSHAKES),
        }
    }
}

impl Dress {
    /// The dressed stream and who has come by it; `None` if nobody did.
    pub(super) async fn accept<S>(
        &self,
        stream: S,
        peer: Peer,
        desk: &Desk,
    ) -> Option<(TlsStream<S>, Caller)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Before the first configuration is in force there is nothing to say.
        let tls = self.in_force(&desk.state)?;
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let accepted = tls::accept(tls.tls.clone(), stream, deadline, &self.turns).await;
        match accepted {
            Ok((stream, _)) => {
                let shown = ClientCertificate::of(stream.get_ref().1);
                let certificate = shown.map(|shown| Certified::new(shown, &tls.operators));
                let caller = Caller {
                    peer,
                    is_tls: true,
                    certificate: certificate.map(Arc::new),
                };
                Some((stream, caller))
            }
            Err(error) => {
                desk.denials.undressed(peer, &error);
                None
            }
        }
    }

    fn in_force(&self, state: &State) -> Option<Arc<AdminTls>> {
        let now = state.snapshot().admin_tls.clone();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if now.is_some() {
            *last = now;
        }
        last.clone()
    }
}
