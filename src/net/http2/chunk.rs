//! Bytes on their way out, which say when they have been sent.
//!
//! `h2` drops what waits to be sent when a stream is reset, and does not say
//! whether anything does; so each part counts itself as long as it lives.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::ready::Ticket;

/// A part of a stream's data.
#[derive(Debug)]
pub struct Chunk {
    bytes: Bytes,
    ticket: Arc<Ticket>,
}

impl Chunk {
    pub(super) fn new(bytes: Bytes, ticket: &Arc<Ticket>) -> Self {
        ticket.queue();
        Self {
            bytes,
            ticket: Arc::clone(ticket),
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.ticket.sent();
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
