//! `[traces]` to a collector that spans can be sent to.

use std::sync::Arc;

use super::Work;
use crate::otlp::Collector;
use crate::tls;

impl Work<'_> {
    /// Where spans are sent: the same as before if nothing about it has changed.
    pub(super) fn collector(&mut self) -> Option<Arc<Collector>> {
        let settings = self.config.traces.as_ref()?;
        let ca = settings.ca.as_deref();
        let tls = match settings.endpoint.is_https {
            true => match tls::client_config(ca, None) {
                Ok(tls) => Some(tls),
                Err(error) => {
                    self.find(ca, &settings.place.0, error.to_string());
                    return None;
                }
            },
            false => None,
        };
        let current = self.state.snapshot();
        // The CA's file may be another, so what is verified is looked at anew.
        let same = |before: &&Arc<Collector>| before.settings == *settings && tls.is_none();
        if let Some(before) = current.collector.as_ref().filter(same) {
            return Some(Arc::clone(before));
        }
        Some(Arc::new(Collector {
            settings: settings.clone(),
            tls,
        }))
    }
}
