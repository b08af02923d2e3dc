//! Facts of the running process that the admin API shows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Written by the server, read by the admin API.
#[derive(Debug, Default)]
pub struct Live(Mutex<Facts>);

#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Name and bound address of each listener.
    pub listeners: Vec<(String, String)>,
    pub last_reload: Option<LastReload>,
}

#[derive(Clone, Debug)]
pub struct LastReload {
    pub ok: bool,
    pub at: SystemTime,
    /// What changed, or what is wrong.
    pub message: String,
}

impl Live {
    pub fn facts(&self) -> Facts {
        self.lock().clone()
    }

    pub fn set_listeners(&self, listeners: Vec<(String, String)>) {
        self.lock().listeners = listeners;
    }

    pub fn reloaded(&self, ok: bool, message: String) {
        self.lock().last_reload = Some(LastReload {
            ok,
            at: SystemTime::now(),
            message,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        // Whole values are set, so they are whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
