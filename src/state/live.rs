//! Facts of the running process that the admin API shows.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Reloads that are remembered.
const KEPT: usize = 20;
/// Of what each of those has to say, in bytes; the log has all of it.
const MOST_MESSAGE: usize = 4 * 1024;

/// Written by the server, read by the admin API.
#[derive(Debug, Default)]
pub struct Live {
    facts: Mutex<Facts>,
    /// Newest first.
    reloads: Mutex<VecDeque<LastReload>>,
}

#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Name and bound address of each listener.
    pub listeners: Vec<(String, String)>,
    pub last_reload: Option<LastReload>,
}

#[derive(Clone, Debug)]
pub struct LastReload {
    pub ok: bool,
    /// What was in force behind it.
    pub generation: u64,
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

    pub fn reloaded(&self, ok: bool, generation: u64, message: String) {
        let mut reload = LastReload {
            ok,
            generation,
            at: SystemTime::now(),
            message,
        };
        self.lock().last_reload = Some(reload.clone());
        let end = reload.message.floor_char_boundary(MOST_MESSAGE);
        reload.message.truncate(end);
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        reloads.truncate(KEPT - 1);
        reloads.push_front(reload);
    }

    /// The last of them, the newest first.
    pub fn reloads(&self) -> Vec<LastReload> {
        let reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        reloads.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        // Whole values are set, so they are whole after any panic.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
