//! The last good OCSP response of each configured file, carried over reloads.
//!
//! A certificate and its response are two writes, and the response is the later
//! one: until it comes, the new certificate is served without.
//!
//! Invariant: nothing about a response is a reason not to serve its certificate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::pair::Pair;
use super::staple::{Staple, StapleError};
use crate::config::ServedCertificate;

/// The cache of last good responses; one for the process.
#[derive(Debug, Default)]
pub struct Staples {
    standings: Mutex<HashMap<ServedCertificate, Standing>>,
}

/// What is known of the file of one certificate.
#[derive(Debug, Default)]
struct Standing {
    last_good: Option<Arc<Staple>>,
    /// When it is worth another look though nobody writes it: its response
    /// begins or ends.
    due: Option<SystemTime>,
}

impl Staples {
    /// Reads the response that `certificate` names, if any, for its loaded `pair`;
    /// blocks. What to staple, and what is wrong with the file: with both, the
    /// response is the one that was good before.
    pub fn load_or_keep(
        &self,
        certificate: &ServedCertificate,
        pair: &Pair,
        now: SystemTime,
    ) -> (Option<Arc<Staple>>, Option<StapleError>) {
        let Some(file) = &certificate.ocsp else {
            return (None, None);
        };
        let read = Staple::read(file, pair, now);
        let mut standings = self.lock();
        let standing = standings.entry(certificate.clone()).or_default();
        standing.due = match &read {
            Err(StapleError::NotYetValid { from, .. }) => Some(from.0.to_system_time()),
            _ => None,
        };
        let last = standing.last_good.take();
        let (staple, wrong) = match read {
            Ok(read) => (Some(Arc::new(read)), None),
            Err(error) => {
                let usable = |staple: &Arc<Staple>| staple.is_valid(now) && staple.is_of(pair);
                (last.filter(usable), Some(error))
            }
        };
        standing.last_good.clone_from(&staple);
        if let (Some(staple), None) = (&staple, standing.due) {
            standing.due = Some(staple.until);
        }
        (staple, wrong)
    }

    /// Forgets what the committed configuration no longer names.
    pub fn retain(&self, is_used: impl Fn(&ServedCertificate) -> bool) {
        self.lock().retain(|certificate, _| is_used(certificate));
    }

    /// Whether the response of a file has begun or ended: said once, for whoever
    /// looks at it again.
    pub fn take_due(&self, now: SystemTime) -> bool {
        let mut any = false;
        for standing in self.lock().values_mut() {
            any |= standing.due.take_if(|due| *due < now).is_some();
        }
        any
    }

    /// A map of finished values is sound whatever its holder died of.
    fn lock(&self) -> MutexGuard<'_, HashMap<ServedCertificate, Standing>> {
        self.standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use x509_ocsp::CertStatus;

    use super::*;
    use crate::tls::tests::certificates::{Ca, Issued, load, today};
    use crate::tls::tests::responses::Response;

    const DAY: Duration = Duration::from_secs(86_400);

    /// A certificate whose response somebody renews.
    struct Renewal {
        _dir: tempfile::TempDir,
        ca: Ca,
        staples: Staples,
        certificate: ServedCertificate,
        pair: Arc<Pair>,
    }

    impl Renewal {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let ca = Ca::new("ca");
            let place = ca.issue(&["a"]).write(dir.path(), "a");
            Self {
                pair: load(&place, today()).unwrap(),
                certificate: ServedCertificate {
                    pair: place,
                    ocsp: Some(dir.path().join("a.ocsp")),
                },
                _dir: dir,
                ca,
                staples: Staples::default(),
            }
        }

        fn write(&self, bytes: &[u8]) {
            fs::write(self.certificate.ocsp.as_ref().unwrap(), bytes).unwrap();
        }

        /// Valid from today for so many days.
        fn respond(&self, days: u32) -> Vec<u8> {
            let response = Response {
                status: CertStatus::good(),
                from: today(),
                until: Some(today() + DAY * days),
            };
            let bytes = response.about(&self.pair);
            self.write(&bytes);
            bytes
        }

        fn at(&self, now: SystemTime) -> (Option<Vec<u8>>, bool) {
            let loaded = self
                .staples
                .load_or_keep(&self.certificate, &self.pair, now);
            let (staple, wrong) = loaded;
            (staple.map(|it| it.response.clone()), wrong.is_some())
        }
    }

    #[test]
    fn the_last_good_response_stays_until_it_ends() {
        let renewal = Renewal::new();
        assert_eq!(renewal.at(today()), (None, true), "it is not there yet");
        let first = renewal.respond(2);
        assert_eq!(renewal.at(today()), (Some(first.clone()), false));
        for broken in [&first[..first.len() / 2], b""] {
            renewal.write(broken);
            assert_eq!(renewal.at(today()), (Some(first.clone()), true));
        }
        assert_eq!(renewal.at(today() + DAY * 3), (None, true));
        let next = renewal.respond(7);
        assert_eq!(renewal.at(today() + DAY * 3), (Some(next), false));
    }

    #[test]
    fn a_new_certificate_does_not_get_the_response_of_the_old_one() {
        let mut renewal = Renewal::new();
        renewal.respond(2);
        assert!(renewal.at(today()).0.is_some());
        renewal.pair = Issued::pair(&renewal.ca.issue(&["a"]));
        assert_eq!(renewal.at(today()), (None, true));
        let next = renewal.respond(2);
        assert_eq!(renewal.at(today()), (Some(next), false));
    }

    #[test]
    fn a_response_is_due_once_when_it_begins_and_once_when_it_ends() {
        let renewal = Renewal::new();
        let second = Duration::from_secs(1);
        let staples = &renewal.staples;
        renewal.respond(2);
        assert_eq!(renewal.at(today() - second), (None, true));
        assert!(!staples.take_due(today()));
        assert!(staples.take_due(today() + second));
        assert!(!staples.take_due(today() + second), "it is due only once");
        assert!(renewal.at(today() + second).0.is_some());
        let end = today() + DAY * 2;
        assert!(!staples.take_due(end));
        assert!(staples.take_due(end + second));
        assert_eq!(renewal.at(end + second), (None, true));
        assert!(!staples.take_due(end + DAY), "nothing more comes of it");
    }

    #[test]
    fn what_is_no_longer_named_is_forgotten() {
        let renewal = Renewal::new();
        renewal.respond(2);
        renewal.at(today());
        renewal.staples.retain(|it| *it == renewal.certificate);
        assert_eq!(renewal.staples.lock().len(), 1);
        renewal.staples.retain(|_| false);
        assert_eq!(renewal.staples.lock().len(), 0);
    }
}
