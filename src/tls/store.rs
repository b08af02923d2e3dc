//! The last good pair of each configured place, carried over reloads.
//!
//! Certificate and key are two writes, and a reload may fall between them:
//! whatever is read then is no reason to stop serving what worked. This file
//! does not warn or count; the caller does, by the [`Freshness`].
//!
//! Invariant: an entry is replaced only by a pair that was proven good.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::pair::{Pair, PairError, PairFiles};
use crate::config::CertificatePair;

/// The cache of last good pairs; one for the process.
///
/// It is filled while a reload is prepared, even if that reload is then
/// rejected: the next one finds the pair [`Freshness::Unchanged`], which so
/// says nothing about what is being served.
#[derive(Debug, Default)]
pub struct Pairs {
    last_good: Mutex<HashMap<CertificatePair, Arc<Pair>>>,
    /// When the files of a pair, as they were last read, become valid.
    early: Mutex<HashMap<CertificatePair, SystemTime>>,
}

/// How a pair relates to the last good one.
#[derive(Debug)]
pub enum Freshness {
    /// Its files were read for the first time or have new content.
    New,
    /// Its files still have the content of the last good pair.
    ///
    /// Dates are not looked at again: a running proxy does not drop a listener
    /// because a certificate expired. Warn if [`Pair::is_expired`].
    Unchanged,
    /// Its files are bad now, for this reason; the last good pair stays.
    KeptLastGood(PairError),
}

impl Pairs {
    /// Reads the files of `pair`; blocks.
    ///
    /// # Errors
    /// If the files hold no usable pair and there was never a good one.
    pub fn load_or_keep(
        &self,
        pair: &CertificatePair,
        now: SystemTime,
    ) -> Result<(Arc<Pair>, Freshness), PairError> {
        let last_good = self.lock().get(pair).cloned();
        let loaded = PairFiles::read(pair).and_then(|files| match &last_good {
            Some(last) if files.are_those_of(last) => Ok((Arc::clone(last), Freshness::Unchanged)),
            _ => Ok((files.load(now)?, Freshness::New)),
        });
        match &loaded {
            Err(PairError::NotYetValid { at, .. }) => self.early().insert(pair.clone(), *at),
            _ => self.early().remove(pair),
        };
        match (loaded, last_good) {
            (Ok((loaded, freshness)), _) => {
                self.lock().insert(pair.clone(), Arc::clone(&loaded));
                Ok((loaded, freshness))
            }
            (Err(error), Some(last)) => Ok((last, Freshness::KeptLastGood(error))),
            (Err(error), None) => Err(error),
        }
    }

    /// The files of the pairs, and when their certificates end.
    pub fn ends(&self) -> Vec<(PathBuf, SystemTime)> {
        let pairs = self.lock();
        let ends = pairs.iter();
        ends.map(|(place, pair)| (place.chain.clone(), pair.not_after))
            .collect()
    }

    /// Forgets the pairs that the committed configuration no longer names.
    pub fn retain(&self, is_used: impl Fn(&CertificatePair) -> bool) {
        self.lock().retain(|pair, _| is_used(pair));
        self.early().retain(|pair, _| is_used(pair));
    }

    /// Whether a pair that came too early has become valid: said once, for
    /// whoever loads it again.
    pub fn take_due(&self, now: SystemTime) -> bool {
        let mut early = self.early();
        let before = early.len();
        early.retain(|_, at| *at > now);
        early.len() < before
    }

    fn early(&self) -> MutexGuard<'_, HashMap<CertificatePair, SystemTime>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A map of finished values is sound whatever its holder died of.
    fn lock(&self) -> MutexGuard<'_, HashMap<CertificatePair, Arc<Pair>>> {
        self.last_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::tls::tests::certificates::{Ca, Issued, today};

    const YEAR: Duration = Duration::from_secs(366 * 86_400);

    /// A store that holds the first of two pairs for the same place.
    struct Renewal {
        dir: tempfile::TempDir,
        pairs: Pairs,
        place: CertificatePair,
        old: Arc<Pair>,
        next: Issued,
    }

    impl Renewal {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let ca = Ca::new("ca");
            let place = ca
                .issue_for_years(&["a"], 2029, 2031)
                .write(dir.path(), "a");
            let pairs = Pairs::default();
            let (old, freshness) = pairs.load_or_keep(&place, today()).unwrap();
            assert!(matches!(freshness, Freshness::New));
            Self {
                dir,
                pairs,
                place,
                old,
                next: ca.issue(&["a"]),
            }
        }

        #[track_caller]
        fn assert_keeps_old(&self) -> PairError {
            let (pair, freshness) = self.pairs.load_or_keep(&self.place, today()).unwrap();
            assert!(Arc::ptr_eq(&pair, &self.old));
            match freshness {
                Freshness::KeptLastGood(reason) => reason,
                other => panic!("{other:?}"),
            }
        }

        #[track_caller]
        fn assert_takes_next(&self) {
            let (pair, freshness) = self.pairs.load_or_keep(&self.place, today()).unwrap();
            assert!(matches!(freshness, Freshness::New));
            assert_eq!(pair.certified_key.cert[0], self.next.leaf());
            let (again, freshness) = self.pairs.load_or_keep(&self.place, today()).unwrap();
            assert!(matches!(freshness, Freshness::Unchanged));
            assert!(Arc::ptr_eq(&again, &pair));
        }
    }

    #[test]
    fn key_first_then_certificate_never_loses_the_pair() {
        let renewal = Renewal::new();
        fs::write(&renewal.place.key, renewal.next.key_pem()).unwrap();
        let reason = renewal.assert_keeps_old();
        assert!(matches!(reason, PairError::Mismatch { .. }));
        fs::write(&renewal.place.chain, renewal.next.chain_pem()).unwrap();
        renewal.assert_takes_next();
    }

    #[test]
    fn certificate_first_in_parts_then_key_never_loses_the_pair() {
        let renewal = Renewal::new();
        let chain = renewal.next.chain_pem();
        for part in [0, 10, chain.len() / 3, chain.len() - 40] {
            fs::write(&renewal.place.chain, &chain[..part]).unwrap();
            assert!(matches!(renewal.assert_keeps_old(), PairError::File(_)));
        }
        fs::write(&renewal.place.chain, chain).unwrap();
        assert!(matches!(
            renewal.assert_keeps_old(),
            PairError::Mismatch { .. }
        ));
        fs::write(&renewal.place.key, renewal.next.key_pem()).unwrap();
        renewal.assert_takes_next();
    }

    #[test]
    fn a_vanished_file_keeps_the_pair() {
        let renewal = Renewal::new();
        fs::remove_file(&renewal.place.chain).unwrap();
        assert!(matches!(renewal.assert_keeps_old(), PairError::File(_)));
    }

    #[test]
    fn an_expired_pair_that_is_unchanged_stays() {
        let renewal = Renewal::new();
        let later = today() + 2 * YEAR;
        let (pair, freshness) = renewal.pairs.load_or_keep(&renewal.place, later).unwrap();
        assert!(matches!(freshness, Freshness::Unchanged));
        assert!(pair.is_expired(later));
        let expired = Ca::new("ca").issue_for_years(&["a"], 2020, 2021);
        expired.write(renewal.dir.path(), "a");
        assert!(matches!(
            renewal.assert_keeps_old(),
            PairError::Expired { .. }
        ));
    }

    #[test]
    fn a_pair_that_came_too_early_is_due_once_when_it_becomes_valid() {
        let renewal = Renewal::new();
        let early = Ca::new("ca").issue_for_years(&["a"], 2030, 2032);
        early.write(renewal.dir.path(), "a");
        let second = Duration::from_secs(1);
        let before = today() - second;
        let pairs = &renewal.pairs;
        let (kept, _) = pairs.load_or_keep(&renewal.place, before).unwrap();
        assert!(Arc::ptr_eq(&kept, &renewal.old));
        assert!(!pairs.take_due(before));
        assert!(pairs.take_due(today()));
        assert!(!pairs.take_due(today()), "it is due only once");
        pairs.load_or_keep(&renewal.place, before).unwrap();
        let (loaded, _) = pairs.load_or_keep(&renewal.place, today()).unwrap();
        assert!(!Arc::ptr_eq(&loaded, &renewal.old));
        assert!(!pairs.take_due(today()), "it is loaded");
    }

    #[test]
    fn a_pair_that_was_never_good_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("ca");
        let pairs = Pairs::default();
        let expired = ca
            .issue_for_years(&["a"], 2020, 2021)
            .write(dir.path(), "a");
        let error = pairs.load_or_keep(&expired, today()).unwrap_err();
        assert!(matches!(error, PairError::Expired { .. }));
        fs::write(&expired.chain, "").unwrap();
        let error = pairs.load_or_keep(&expired, today()).unwrap_err();
        assert!(error.to_string().ends_with("a.pem is empty"), "{error}");
    }

    #[test]
    fn pairs_that_are_no_longer_named_are_forgotten() {
        let renewal = Renewal::new();
        renewal.pairs.retain(|pair| *pair == renewal.place);
        assert_eq!(renewal.pairs.lock().len(), 1);
        renewal.pairs.retain(|_| false);
        assert_eq!(renewal.pairs.lock().len(), 0);
    }
}
