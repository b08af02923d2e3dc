//! What a client can do wrong before there is a request to answer.

use super::head_guard::Ambiguous;

/// Why [`super::ClientIo`] ended the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
    #[error("nothing came within first_byte_timeout")]
    FirstByte,
    #[error("the request head did not come within request_head_timeout")]
    RequestHead,
    /// No fault: a kept connection is not needed any more.
    #[error("no further request came within keepalive_timeout")]
    Keepalive,
    #[error("{0}")]
    Ambiguous(#[from] Ambiguous),
}

impl ClientFault {
    /// What the client is told, as far as it can be told anything: hyper
    /// cannot answer a head that it has not read.
    pub(super) fn answer(self) -> Option<&'static [u8]> {
        match self {
            Self::FirstByte | Self::Keepalive => None,
            // RFC 9110 section 15.5.9.
            Self::RequestHead => Some(
                b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            ),
            Self::Ambiguous(_) => {
                Some(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            }
        }
    }
}
