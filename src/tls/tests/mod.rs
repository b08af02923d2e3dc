//! What this room's tests share. The tests themselves stand below the code
//! that they are about.

pub(super) mod certificates;
pub(super) mod handshakes;
pub(super) mod responses;
