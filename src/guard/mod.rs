//! Who may come in: by what is known of a client before its request costs more
//! than reading it.
//!
//! Pure judgement of facts that others have found out: it dials nobody, waits
//! for nothing, and neither logs nor counts.

mod origin;

pub use origin::{check_origin, letting_in};
