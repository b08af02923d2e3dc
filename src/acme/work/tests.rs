//! Waits under clocks that step, limits of one name, and what is told of a name.

use std::path::Path;
use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::config::parse_text;

const DAY: Duration = Duration::from_secs(86_400);

/// With waits from two minutes to six hours.
fn wanted(storage: &Path, directory: &str) -> Option<Arc<Wanted>> {
    let text = format!(
        "[listeners.a]\naddress = '[::]:1'\ncertificates = 'acme'\n\
         acme_names = ['a.test', 'b.test']\n[[routes]]\nupstream = 'a'\n\
         [upstreams.a]\nbackends = [{{ address = 'a:1' }}]\n\
         [acme]\nagree_to_terms = true\nstorage = '{}'\n\
         directory = 'https://ca.test/{directory}'\n",
        storage.display()
    );
    let config = parse_text(&text).unwrap_or_else(|found| panic!("{found}"));
    Wanted::of(&config).map(Arc::new)
}

/// One that wants a.test and b.test, and has neither.
fn work(storage: &Path, now: Moment) -> Work {
    let mut work = Work::new(&Arc::default(), &Arc::default());
    work.adopt(wanted(storage, "one"), now);
    assert_eq!(work.due(now), ["a.test", "b.test"]);
    work
}

/// Has the storage get a certificate of these days, counted from `now`.
fn give(work: &Work, name: &str, days: (i32, i32), now: Moment) -> Arc<Pair> {
    let storage = &work.common.as_ref().unwrap().storage;
    drop(storage.take_turn().unwrap());
    let at = |days: i32| match days < 0 {
        true => now.date - DAY * days.unsigned_abs(),
        false => now.date + DAY * days.unsigned_abs(),
    };
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = at(days.0).into();
    params.not_after = at(days.1).into();
    let chain = params.self_signed(&key).unwrap().pem();
    let reserved = storage.reserve(name, &key.serialize_pem()).unwrap();
    reserved.fill(name, &chain, now.date).unwrap()
}

fn after(now: Moment, wait: Duration) -> Moment {
    Moment {
        instant: now.instant + wait,
        date: now.date + wait,
    }
}

fn stepped(now: Moment) -> [Moment; 3] {
    let at = |date: SystemTime| Moment { date, ..now };
    [now, at(now.date - 400 * DAY), at(now.date + 400 * DAY)]
}

fn minutes(work: &Work, now: Moment) -> u64 {
    // Less than the tenth that the dice may add.
    work.wait(now).as_secs() / 66
}

#[test]
fn a_step_of_the_calendar_neither_ends_a_wait_nor_draws_it_out() {
    let dir = tempfile::tempdir().unwrap();
    let now = Moment::now();
    let of_all = AcmeError::Ca(instant_acme::Error::Str("down"));
    for error in [AcmeError::Timeout, of_all] {
        let mut work = work(dir.path(), now);
        for name in ["a.test", "b.test"] {
            work.failed(name, &error, None, now);
        }
        for now in stepped(now) {
            let wait = work.wait(now).as_secs();
            assert!((120..=132).contains(&wait), "{error}: {wait}");
        }
        for now in stepped(after(now, Duration::from_secs(133))) {
            assert!(work.wait(now).is_zero(), "{error}");
        }
        for name in ["a.test", "b.test"] {
            work.common.as_ref().unwrap().storage.forget_failures(name);
        }
    }
}

#[test]
fn what_the_ca_asks_for_one_name_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let now = Moment::now();
    let mut work = work(dir.path(), now);
    let limit = AcmeError::Order(instant_acme::Error::Str("too many"));
    work.failed("a.test", &limit, Some(now.instant + DAY), now);
    assert!(work.wait(now).is_zero());
    assert_eq!(work.due(now), ["b.test"]);
    for now in stepped(after(now, DAY - Duration::from_secs(1))) {
        assert_eq!(work.due(now), ["b.test"]);
    }
    assert_eq!(work.due(after(now, DAY)), ["a.test", "b.test"]);
    // An earlier moment is no reason to come before the wait is over.
    work.failed("b.test", &limit, Some(now.instant), now);
    assert_eq!(minutes(&work, now), 1);
}

#[test]
fn certificates_that_are_due_when_they_come_are_waited_for_longer_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let now = Moment::now();
    let mut work = work(dir.path(), now);
    let rest = give(&work, "b.test", (-1, 89), now);
    work.succeeded("b.test", rest, now);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let old = give(&work, "a.test", (-80, 10), now);
        work.succeeded("a.test", old, now);
        waits.push(work.wait(now).as_secs() / 132);
    }
    assert_eq!(waits, [0, 1, 3, 7], "of two minutes and a tenth");
    let good = give(&work, "a.test", (-1, 89), now);
    work.succeeded("a.test", good, now);
    assert!(work.wait(now) > 50 * DAY);
}

#[test]
fn a_clock_that_is_behind_has_nothing_ordered_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let now = Moment::now();
    let mut work = work(dir.path(), now);
    for name in ["a.test", "b.test"] {
        give(&work, name, (2, 92), now);
    }
    work.adopt(None, now);
    work.adopt(wanted(dir.path(), "one"), now);
    assert!(work.wait(now) > 60 * DAY);
    assert!(work.desk.issued.get("a.test").is_some());
}

#[test]
fn what_is_told_of_a_name_is_of_the_certificate_in_service() {
    let dir = tempfile::tempdir().unwrap();
    let now = Moment::now();
    let mut work = work(dir.path(), now);
    let old = give(&work, "a.test", (-1, 89), now);
    work.succeeded("a.test", Arc::clone(&old), now);
    let told = |work: &Work| {
        work.publish(now);
        work.desk.standings()["a.test"].clone()
    };
    assert_eq!(told(&work).not_after, Some(old.not_after));
    // Another CA has given none yet: the old one serves, and is due.
    work.adopt(wanted(dir.path(), "two"), now);
    let standing = told(&work);
    assert_eq!(standing.not_after, Some(old.not_after));
    assert_eq!(standing.next_attempt, Some(now.date));
    // One that ends sooner takes its place all the same.
    let new = give(&work, "a.test", (-1, 9), now);
    work.succeeded("a.test", Arc::clone(&new), now);
    assert_eq!(told(&work).not_after, Some(new.not_after));
    let served = work.desk.issued.get("a.test").unwrap();
    assert!(Arc::ptr_eq(&served, &new));
}
