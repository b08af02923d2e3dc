//! One direction of a tunnel whose source may not send everything: what is too
//! large, or comes too often, does not begin at the sink.
//!
//! What a source may send is for `quota` to say.

use std::io;
use std::task::Context;

use tokio::io::{AsyncRead, AsyncWrite};

use super::direction::Flow;
use super::pump::Pump;
use crate::ws::head::Head;

impl<S: AsyncRead + Unpin, K: AsyncWrite + Unpin> Pump<'_, S, K> {
    /// Passes on bytes just read, as far as the source may send them.
    pub(super) fn screen(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        let (way, now) = (self.way, self.now);
        self.heard(way);
        if self.direction.flow == Flow::Stopped {
            // They go nowhere, and are followed for the Close that may be among them.
            self.release_head(cx)?;
            return self.onward(cx, bytes);
        }
        let Some(quota) = self.quota.as_deref_mut() else {
            return self.onward(cx, bytes);
        };
        let look = quota.look(way, bytes, now);
        self.onward_some(cx, look.freed.bytes())?;
        self.onward_some(cx, &bytes[..look.passes])?;
        if look.stops {
            self.direction.flow = Flow::Stopped;
            self.release_head(cx)?;
            self.onward_some(cx, &bytes[look.seen..])?;
        }
        Ok(())
    }

    /// Has what is held of a header go the way of the rest.
    pub(super) fn release_head(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let way = self.way;
        let quota = self.quota.as_deref_mut();
        let held = quota.map_or_else(Head::default, |quota| quota.release(way));
        self.onward_some(cx, held.bytes())
    }

    fn onward_some(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        match bytes.is_empty() {
            true => Ok(()),
            false => self.onward(cx, bytes),
        }
    }
}
