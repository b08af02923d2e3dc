//! Files: what is included, watched, hashed, and said about those that cannot
//! be read.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::config::{Loaded, load};

const MAIN: &str = "include = [\"routes.d/*.toml\"]\n[listeners.a]\naddress = \"[::]:1\"\n";
const CHAT: &str = "[[routes]]\nupstream = \"chat\"\n[upstreams.chat]\n\
                    backends = [{ address = \"unix:chat.sock\" }]\n";

struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            this.write(name, text);
        }
        this
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn load(&self) -> Loaded {
        load(&self.path("longhaul.toml"))
    }

    /// Everything found, with the directory left out.
    fn found(&self) -> String {
        let found = self.load().result.expect_err("nothing found").to_string();
        found.replace(&format!("{}/", self.0.path().display()), "")
    }

    /// The loaded files, relative.
    fn names(&self, paths: &[PathBuf]) -> Vec<String> {
        let below = |path: &PathBuf| path.strip_prefix(self.0.path()).unwrap().to_owned();
        let names = paths.iter().map(|path| below(path).display().to_string());
        names.collect()
    }
}

#[test]
fn reads_main_and_included_files() {
    let files = Files::new(&[
        ("longhaul.toml", MAIN),
        ("routes.d/b.toml", "# nothing yet\n"),
        ("routes.d/a.toml", CHAT),
        ("routes.d/.a.toml.swp", "not toml"),
        ("routes.d/.#a.toml", "not toml"),
        ("routes.d/a.toml~", "not toml"),
    ]);
    let loaded = files.load();
    let config = loaded.result.unwrap();
    assert_eq!(
        files.names(&loaded.files),
        ["longhaul.toml", "routes.d/a.toml", "routes.d/b.toml"]
    );
    assert_eq!(files.names(&loaded.directories), ["", "routes.d"]);
    let socket = files.path("routes.d/chat.sock");
    let backend = &config.upstreams["chat"].backends[0];
    assert_eq!(
        backend.address,
        crate::config::BackendAddress::Unix(socket),
        "relative to the file that says it"
    );
    assert_eq!(backend.name, "unix:chat.sock");
    let place = &config.upstreams["chat"].place;
    assert!(
        place.to_string().ends_with("/routes.d/a.toml:3:1"),
        "{place:?}"
    );
}

#[test]
fn shows_files_as_the_operator_names_them() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let relative = manifest.strip_prefix(std::env::current_dir().unwrap());
    let main = relative.unwrap().join("config/examples/includes.toml");
    let loaded = load(&main);
    assert!(loaded.files.iter().all(|path| path.is_absolute()));
    assert!(loaded.directories.iter().all(|path| path.is_absolute()));
    let config = loaded.result.unwrap();
    let place = &config.upstreams["chat"].place;
    assert_eq!(&*place.file, "config/examples/routes.d/chat.toml");
}

#[test]
fn a_pattern_may_match_nothing_and_its_directory_is_watched_for() {
    let text = format!("{}{CHAT}", MAIN.replace("routes.d", "later/routes.d"));
    let files = Files::new(&[("longhaul.toml", &text)]);
    let loaded = files.load();
    loaded.result.unwrap();
    assert_eq!(files.names(&loaded.directories), [""]);
    fs::create_dir(files.path("later")).unwrap();
    assert_eq!(files.names(&files.load().directories), ["", "later"]);
}

#[test]
fn patterns_over_directories_and_twice_the_same_file() {
    let include = "include = [\"teams/*/*.toml\", \"teams/a/x.toml\", \"*.toml\"]\n";
    let files = Files::new(&[
        (
            "longhaul.toml",
            &MAIN.replace("include = [\"routes.d/*.toml\"]\n", include),
        ),
        ("teams/a/x.toml", CHAT),
        ("teams/b/readme.md", ""),
    ]);
    let loaded = files.load();
    loaded.result.unwrap();
    assert_eq!(
        files.names(&loaded.files),
        ["longhaul.toml", "teams/a/x.toml"]
    );
    assert_eq!(
        files.names(&loaded.directories),
        ["", "teams", "teams/a", "teams/b"]
    );
}

#[test]
fn a_directory_whose_name_looks_like_a_pattern() {
    let files = Files::new(&[
        ("a[b]*/longhaul.toml", MAIN),
        ("a[b]*/routes.d/a.toml", CHAT),
    ]);
    let loaded = load(&files.path("a[b]*/longhaul.toml"));
    loaded.result.unwrap();
    assert_eq!(loaded.files.len(), 2);
}

#[test]
fn a_main_file_that_is_not_there_or_empty_is_no_config() {
    let files = Files::new(&[]);
    assert_eq!(
        files.found(),
        "longhaul.toml: cannot read the file: No such file or directory (os error 2)"
    );
    assert_eq!(files.names(&files.load().files), ["longhaul.toml"]);
    for text in ["", "\n\n", "\u{feff}", " \t\r\n"] {
        files.write("longhaul.toml", text);
        assert_eq!(files.found(), "longhaul.toml: the file is empty");
    }
    files.write("longhaul.toml", "# a comment\n");
    assert_eq!(
        files.found(),
        "longhaul.toml: no listener: there must be at least one table [listeners.NAME]\n\
         longhaul.toml: no route: there must be at least one table [[routes]]"
    );
    assert!(load(files.0.path()).result.is_err(), "a directory");
}

#[test]
fn files_that_are_no_text() {
    let files = Files::new(&[("longhaul.toml", MAIN), ("routes.d/c.toml", CHAT)]);
    files.write("routes.d/a.toml", b"# \xc3\xbc\n#  \xff\n");
    files.write("routes.d/b.toml", "");
    fs::create_dir(files.path("routes.d/d.toml")).unwrap();
    std::os::unix::fs::symlink("gone", files.path("routes.d/e.toml")).unwrap();
    assert_eq!(
        files.found(),
        "routes.d/a.toml:2:4: the file is not UTF-8\n\
         routes.d/b.toml: the file is empty\n\
         routes.d/e.toml: cannot read the file: No such file or directory (os error 2)"
    );
}

#[test]
fn includes_that_are_wrong() {
    let include =
        "include = [\n\"gone.toml\",\n\"longhaul.toml\",\n\"a[\",\n\"routes.d\",\n\"\", 7]\n";
    let files = Files::new(&[
        (
            "longhaul.toml",
            &MAIN.replace("include = [\"routes.d/*.toml\"]\n", include),
        ),
        ("routes.d/a.toml", CHAT),
    ]);
    assert_eq!(
        files.found(),
        "longhaul.toml:2:1: include `gone.toml`: cannot read the file: \
         No such file or directory (os error 2)\n\
         longhaul.toml:3:1: the main file includes itself\n\
         longhaul.toml:4:1: wrong pattern in `include`\n  \
         found: \"a[\": invalid range pattern\n  \
         allowed: `*`, `?` and `[abc]`\n\
         longhaul.toml:5:1: include `routes.d`: cannot read the file: not a regular file\n\
         longhaul.toml:6:1: wrong value of `include` in the main file\n  \
         found: \"\"\n  \
         allowed: a string of at least one character and no control characters\n\
         longhaul.toml:6:5: wrong value of `include` in the main file\n  \
         found: the integer 7\n  \
         allowed: a string of at least one character and no control characters"
    );
}

#[test]
fn what_included_files_may_not_hold() {
    let files = Files::new(&[("longhaul.toml", MAIN), ("routes.d/a.toml", CHAT)]);
    let more = "include = []\n[limits]\nmax_tls_handshakes = 0\n[listener.a]\n";
    files.write("routes.d/b.toml", format!("{more}{CHAT}"));
    assert_eq!(
        files.found(),
        "routes.d/b.toml:1:1: `include` in an included file belongs in the main file\n  \
         allowed: routes, upstreams\n\
         routes.d/b.toml:2:2: `limits` in an included file belongs in the main file\n  \
         allowed: routes, upstreams\n\
         routes.d/b.toml:4:2: unknown key `listener` in an included file\n  \
         allowed: routes, upstreams\n\
         routes.d/b.toml:5:1: route `* /*` matches the same requests as route `* /*`\n  \
         the first is at routes.d/a.toml:1:1\n\
         routes.d/b.toml:7:12: upstream `chat` is defined twice\n  \
         first defined at routes.d/a.toml:3:12"
    );
}

#[test]
fn the_hash_is_of_the_contents() {
    let here = Files::new(&[("longhaul.toml", MAIN), ("routes.d/a.toml", CHAT)]);
    let there = Files::new(&[("longhaul.toml", MAIN), ("routes.d/a.toml", CHAT)]);
    let hash = here.load().hash;
    assert_eq!(hash, there.load().hash, "wherever the files are");
    assert_eq!(hash, here.load().hash);
    let mut hashes = vec![hash];
    let mut changed = |files: &Files| {
        let hash = files.load().hash;
        assert!(!hashes.contains(&hash));
        hashes.push(hash);
    };
    there.write("routes.d/b.toml", "");
    changed(&there);
    fs::rename(there.path("routes.d/b.toml"), there.path("routes.d/c.toml")).unwrap();
    changed(&there);
    there.write("routes.d/c.toml", "#");
    changed(&there);
    there.write("longhaul.toml", format!("{MAIN}\n"));
    changed(&there);
    fs::remove_file(there.path("longhaul.toml")).unwrap();
    changed(&there);
    there.write("longhaul.toml", "");
    changed(&there);
}
