//! The files: an account, and a key with its certificate for each name, of one
//! CA in one directory below `storage`.
//!
//! Everything in it is for the owner alone. Key and chain are one file, so that
//! they are replaced together; the key is on the disk before the CA is asked, so
//! that what it gives can be kept.
//!
//! Invariant: a file is whole and proven, or it is not there under its name.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, flock};

use super::AcmeError;
use crate::config::{Acme, CertificatePair};
use crate::files::{self, FileError};
use crate::tls::{Pair, PairError};

/// Of the name of a directory, in bytes.
const MOST_NAME: usize = 200;
/// Of the name of a file, in bytes: NAME_MAX of Linux.
const MOST_FILE_NAME: usize = 255;
/// Of a file that is read here, in bytes; the account is half a KiB.
const MOST_READ: u64 = 64 * 1024;

/// The files of one CA.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    dir: PathBuf,
}

/// The right to order: of the processes that have one storage, one has it.
#[derive(Debug)]
pub(super) struct Turn {
    _file: File,
}

/// A key that waits for its certificate.
#[derive(Debug)]
pub(super) struct Reserved {
    file: File,
    draft: PathBuf,
    place: PathBuf,
}

impl Storage {
    pub(super) fn of(acme: &Acme) -> Self {
        let kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let url = acme.directory.trim_start_matches("https://");
        let mut name: String = url
            .chars()
            .map(|c| if kept(c) { c } else { '-' })
            .take(MOST_NAME)
            .collect();
        // Another account of the same CA.
        if let Some(account) = &acme.external_account {
            let key_id = account.key_id.chars();
            name.push('-');
            name.extend(
                key_id
                    .map(|c| if kept(c) { c } else { '-' })
                    .take(MOST_NAME / 4),
            );
        }
        Self {
            dir: acme.storage.join(name.trim_matches('.')),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The key and certificate of a name, if they are there and have not expired.
    pub(super) fn load(&self, name: &str, now: SystemTime) -> Result<Arc<Pair>, PairError> {
        load(&self.certificate(name), now)
    }

    /// Whether there is one, good or bad.
    pub(super) fn has(&self, name: &str) -> bool {
        self.certificate(name).exists()
    }

    /// Makes the directory. `None`: another process has the turn.
    pub(super) fn take_turn(&self) -> io::Result<Option<Turn>> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let file = owned().open(self.dir.join("lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Turn { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the key that a certificate is to be asked for.
    pub(super) fn reserve(&self, name: &str, key: &str) -> io::Result<Reserved> {
        let place = self.certificate(name);
        let draft = place.with_extension("new");
        // A new file, since whoever left that one may still write to it.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = owned().create_new(true).open(&draft)?;
        file.write_all(key.as_bytes())?;
        file.sync_all()?;
        Ok(Reserved { file, draft, place })
    }

    pub(super) fn account(&self) -> io::Result<Option<String>> {
        read(&self.dir.join("account.json"))
    }

    pub(super) fn keep_account(&self, text: &str) -> io::Result<()> {
        self.keep("account.json", text)
    }

    /// For an account that the CA no longer knows.
    pub(super) fn set_account_aside(&self) -> io::Result<()> {
        let account = self.dir.join("account.json");
        fs::rename(&account, account.with_extension("unknown"))
    }

    /// How often in a row a name has failed, and when last.
    pub(super) fn failures(&self, name: &str) -> Option<(u32, SystemTime)> {
        let text = read(&self.dir.join(failed(name))).ok()??;
        let (failures, at) = text.trim().split_once(' ')?;
        let at = Duration::from_millis(at.parse().ok()?);
        Some((failures.parse().ok()?, UNIX_EPOCH.checked_add(at)?))
    }

    /// So that a process that is started again and again does not ask again and
    /// again.
    pub(super) fn keep_failures(&self, name: &str, failures: u32, at: SystemTime) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = format!("{failures} {}\n", since.as_millis());
        // Without it only a restart asks too soon.
        let _ = self.keep(&failed(name), &text);
    }

    pub(super) fn forget_failures(&self, name: &str) {
        // Usually there is none.
        let _ = fs::remove_file(self.dir.join(failed(name)));
    }

    fn certificate(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}.pem", stem(name, ".pem")))
    }

    fn keep(&self, name: &str, text: &str) -> io::Result<()> {
        let place = self.dir.join(name);
        let draft = self.dir.join(format!("{name}.new"));
        let mut file = owned().truncate(true).open(&draft)?;
        file.write_all(text.as_bytes())?;
        put(&file, &draft, &place)
    }
}

impl Reserved {
    /// Puts the certificate to its key, proves them, and has them take the place
    /// of those before.
    pub(super) fn fill(
        mut self,
        name: &str,
        chain: &str,
        now: SystemTime,
    ) -> Result<Arc<Pair>, AcmeError> {
        let place = self.place.clone();
        let written = self.file.write_all(chain.as_bytes());
        written.map_err(AcmeError::storage(&place))?;
        let pair = load(&self.draft, now)?;
        if !pair.is_for(name) {
            return Err(AcmeError::GivenForAnother);
        }
        put(&self.file, &self.draft, &self.place).map_err(AcmeError::storage(&place))?;
        Ok(pair)
    }
}

/// One that is not valid yet is as good as any: no CA gives one for later, so it
/// is this clock that is behind, and clients have others.
fn load(file: &Path, now: SystemTime) -> Result<Arc<Pair>, PairError> {
    let place = CertificatePair {
        chain: file.to_owned(),
        key: file.to_owned(),
    };
    match Pair::load(&place, now) {
        Err(PairError::NotYetValid { at, .. }) => Pair::load(&place, at),
        loaded => loaded,
    }
}

/// Of the file of failures.
fn failed(name: &str) -> String {
    // Its draft has the longest name of all files.
    format!("{}.failed", stem(name, ".failed.new"))
}

/// What the name of a file begins with that is to have this ending: the name
/// itself or, where the whole would be too long, its beginning and a digest of
/// it, behind a mark that no name has.
fn stem(name: &str, ending: &str) -> String {
    let most = MOST_FILE_NAME - ending.len();
    if name.len() <= most {
        return name.to_owned();
    }
    let digest = digest(&SHA256, name.as_bytes());
    let mut hex = String::from("~");
    for byte in digest.as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    let kept = most - hex.len();
    name.chars().take(kept).chain(hex.chars()).collect()
}

/// Whoever may read it, it is the owner alone.
fn owned() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

/// A file that has been written becomes the one that is there, also after a
/// power failure.
fn put(file: &File, draft: &Path, place: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(draft, place)?;
    match place.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// `None` if it is not there.
fn read(file: &Path) -> io::Result<Option<String>> {
    let read = files::open(file).and_then(|opened| files::read(&opened, MOST_READ));
    match read {
        Ok(text) => String::from_utf8(text).map(Some).map_err(io::Error::other),
        Err(FileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(FileError::Io(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn storage(dir: &Path) -> Storage {
        Storage {
            dir: dir.join("ca/sub"),
        }
    }

    fn issued(names: &[&str]) -> (String, String) {
        let names = names.iter().map(ToString::to_string);
        let params = CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
        let key = KeyPair::generate().unwrap();
        (key.serialize_pem(), params.self_signed(&key).unwrap().pem())
    }

    #[test]
    fn a_certificate_takes_its_place_whole_and_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage(dir.path());
        let _turn = storage.take_turn().unwrap().unwrap();
        let now = SystemTime::now();
        assert!(storage.load("a.test", now).is_err());
        let (key, chain) = issued(&["a.test"]);
        let reserved = storage.reserve("a.test", &key).unwrap();
        assert!(storage.load("a.test", now).is_err(), "only reserved");
        let pair = reserved.fill("a.test", &chain, now).unwrap();
        assert!(pair.is_for("a.test"));
        assert!(storage.load("a.test", now).is_ok());
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(storage.certificate("a.test")), 0o600);
        assert_eq!(mode(storage.dir.clone()), 0o700);
        // What is given for another name, or another key, replaces nothing.
        for (key, chain) in [issued(&["b.test"]), (key, issued(&["a.test"]).1)] {
            let reserved = storage.reserve("a.test", &key).unwrap();
            assert!(reserved.fill("a.test", &chain, now).is_err());
            assert!(storage.load("a.test", now).is_ok());
        }
    }

    #[test]
    fn what_begins_later_by_this_clock_is_kept_and_what_is_over_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage(dir.path());
        let _turn = storage.take_turn().unwrap().unwrap();
        let day = Duration::from_secs(86_400);
        let now = UNIX_EPOCH + 20_000 * day;
        let give = |begins: SystemTime, ends: SystemTime, now| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
            params.not_before = begins.into();
            params.not_after = ends.into();
            let chain = params.self_signed(&key).unwrap().pem();
            let reserved = storage.reserve("a.test", &key.serialize_pem()).unwrap();
            reserved.fill("a.test", &chain, now)
        };
        // A clock that is two days behind.
        let given = give(now, now + 90 * day, now - 2 * day).unwrap();
        assert_eq!(given.not_before, now);
        let found = storage.load("a.test", now - 2 * day).unwrap();
        assert_eq!(found.not_before, now);
        assert!(give(now - 2 * day, now - day, now).is_err());
        assert_eq!(storage.load("a.test", now).unwrap().not_before, now);
        assert!(storage.load("a.test", now + 91 * day).is_err());
    }

    #[test]
    fn the_longest_names_have_files_of_their_own_and_others_their_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage(dir.path());
        let _turn = storage.take_turn().unwrap().unwrap();
        // So long that only the last letter tells them apart.
        let of = |bytes: usize, last: &str| {
            let label = format!("{}.", "a".repeat(62));
            format!("{}{last}", &label.repeat(5)[..bytes - 1])
        };
        let names = [of(253, "x"), of(253, "y"), of(252, "x"), of(245, "x")];
        for (at, name) in names.iter().enumerate() {
            let (key, chain) = issued(&[name.as_str()]);
            let reserved = storage.reserve(name, &key).unwrap();
            reserved.fill(name, &chain, SystemTime::now()).unwrap();
            storage.keep_failures(name, at as u32, UNIX_EPOCH);
        }
        for (at, name) in names.iter().enumerate() {
            let pair = storage.load(name, SystemTime::now()).unwrap();
            assert!(pair.is_for(name), "{name}");
            let failures = storage.failures(name);
            assert_eq!(failures, Some((at as u32, UNIX_EPOCH)), "{name}");
            storage.forget_failures(name);
            assert_eq!(storage.failures(name), None);
        }
        // What is there already is found.
        let longest = of(251, "x");
        let place = storage.dir.join(format!("{longest}.pem"));
        assert_eq!(storage.certificate(&longest), place);
        let longest = of(244, "x");
        assert_eq!(failed(&longest), format!("{longest}.failed"));
    }

    #[test]
    fn one_has_the_turn_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage(dir.path());
        let turn = storage.take_turn().unwrap();
        assert!(turn.is_some());
        assert!(storage.take_turn().unwrap().is_none());
        drop(turn);
        assert!(storage.take_turn().unwrap().is_some());
    }

    #[test]
    fn failures_are_remembered_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage(dir.path());
        let _turn = storage.take_turn().unwrap();
        assert_eq!(storage.failures("a.test"), None);
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        storage.keep_failures("a.test", 3, at);
        assert_eq!(storage.failures("a.test"), Some((3, at)));
        storage.forget_failures("a.test");
        assert_eq!(storage.failures("a.test"), None);
    }

    #[test]
    fn each_ca_and_each_of_its_accounts_has_a_directory() {
        let text = "[listeners.a]\naddress = '[::]:1'\ncertificates = 'acme'\n\
            [[routes]]\nhost = 'a.test'\nupstream = 'a'\n\
            [upstreams.a]\nbackends = [{ address = 'a:1' }]\n\
            [acme]\nagree_to_terms = true\nstorage = '/s'\n\
            directory = 'https://ca.test:14000/a/../b?c'\n";
        let mut acme = crate::config::parse_text(text).unwrap().acme.unwrap();
        let dir = |acme: &Acme| Storage::of(acme).dir;
        assert_eq!(dir(&acme), Path::new("/s/ca.test-14000-a-..-b-c"));
        acme.external_account = Some(crate::config::ExternalAccount {
            key_id: "x/y".to_owned(),
            key_file: "/k".into(),
        });
        assert_eq!(dir(&acme), Path::new("/s/ca.test-14000-a-..-b-c-x-y"));
    }
}
