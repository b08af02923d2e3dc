//! The client's side of an upgrade that has yet to happen, over HTTP/1.1 and
//! HTTP/2 alike: what it yields is a byte stream.
//!
//! It does not answer the client; whoever does makes it happen.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::net::http2::Tunnel;
use crate::net::{ClientIo, Transport};

/// Travels with a request that may become a tunnel, as a request extension.
#[derive(Clone, Debug)]
pub struct ClientUpgrade(Pending);

#[derive(Clone, Debug)]
enum Pending {
    /// After a 101.
    Connection(OnUpgrade),
    /// After a 200 to an extended CONNECT (RFC 8441 section 5). Taken once.
    Stream(Arc<Mutex<Option<oneshot::Receiver<Tunnel>>>>),
}

impl ClientUpgrade {
    pub fn of_connection(upgrade: OnUpgrade) -> Self {
        Self(Pending::Connection(upgrade))
    }

    /// With the sender that makes it happen.
    pub fn of_stream() -> (oneshot::Sender<Tunnel>, Self) {
        let (sender, receiver) = oneshot::channel();
        let receiver = Arc::new(Mutex::new(Some(receiver)));
        (sender, Self(Pending::Stream(receiver)))
    }

    /// Whether the client takes any 2xx for a tunnel, as HTTP/2 has no 101.
    pub fn is_stream(&self) -> bool {
        matches!(self.0, Pending::Stream(_))
    }

    /// The stream, and what was read ahead of it; `None` if the client left.
    pub async fn opened(self) -> Option<(Transport, Bytes)> {
        match self.0 {
            Pending::Connection(upgrade) => {
                let upgraded = upgrade.await.ok()?;
                let parts = upgraded.downcast::<TokioIo<ClientIo>>().ok()?;
                Some((parts.io.into_inner().into_transport(), parts.read_buf))
            }
            Pending::Stream(receiver) => {
                let receiver = take(&receiver)?;
                Some((Transport::Http2(receiver.await.ok()?), Bytes::new()))
            }
        }
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}
