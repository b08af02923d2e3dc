//! The primitives under `signals` and `inbox`, which a test compiles a second
//! time against those of a model checker.

pub(super) use std::sync::atomic::{AtomicU8, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
