//! The demo's directory: a certificate made on the spot, a config, and the
//! edits that the page tells people to make.
//!
//! It writes only into a directory that it made or found empty, and removes
//! only what it made without being told where. The edits live here, beside the
//! text that they change, and a test runs them.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde::Serialize;

/// Names tried in the temp directory before giving up.
const FRESH_NAMES: u32 = 1000;

/// Where the demo's files are.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    removal: Removal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    AtEnd,
    Never,
}

/// What the config is written for.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub address: IpAddr,
    pub port: u16,
    pub tls_port: u16,
    pub backends: &'a [(&'static str, SocketAddr)],
}

/// One thing to try, as a command to paste into a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edit {
    pub label: String,
    pub command: String,
    /// What to watch for.
    pub says: String,
    /// The command that takes it back.
    pub undo: String,
}

impl Directory {
    /// Takes `wanted`, which must be empty or new, or makes a fresh one.
    ///
    /// # Errors
    /// When it cannot be made, or holds something.
    pub fn open(wanted: Option<&Path>) -> anyhow::Result<Self> {
        match wanted {
            Some(path) => Self::named(path),
            None => Self::fresh(&std::env::temp_dir()),
        }
    }

    fn named(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = fs::canonicalize(path)?;
        if fs::read_dir(&path)?.next().is_some() {
            bail!(
                "{} is not empty: name another directory with --dir",
                path.display()
            );
        }
        Ok(Self {
            path,
            removal: Removal::Never,
        })
    }

    fn fresh(parent: &Path) -> anyhow::Result<Self> {
        let parent = fs::canonicalize(parent)?;
        for n in 1..=FRESH_NAMES {
            let path = match n {
                1 => parent.join("longhaul-demo"),
                _ => parent.join(format!("longhaul-demo-{n}")),
            };
            // Making it, instead of looking first, keeps others' links out.
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let removal = Removal::AtEnd;
                    return Ok(Self { path, removal });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot make {}", path.display()));
                }
            }
        }
        bail!(
            "{} holds {FRESH_NAMES} demos already: remove some, or name a directory with --dir",
            parent.display()
        )
    }

    pub fn config(&self) -> PathBuf {
        self.path.join("longhaul.toml")
    }

    /// The file that people are told to edit.
    pub fn routes(&self) -> PathBuf {
        self.path.join("routes.d/demo.toml")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.path.join("admin.sock")
    }

    /// Writes certificate and config.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn fill(&self, plan: &Plan<'_>) -> anyhow::Result<()> {
        fs::create_dir(self.path.join("routes.d"))?;
        fs::create_dir(self.path.join("certs"))?;
        self.write_certificate(plan.address)?;
        fs::write(self.config(), main_config(plan))?;
        fs::write(self.routes(), routes(plan))?;
        Ok(())
    }

    /// The edits to try for somebody whose tunnel ends at `backend`.
    pub fn edits(&self, backend: &str) -> Vec<Edit> {
        edits(&shell_word(&self.routes()), backend)
    }

    fn write_certificate(&self, address: IpAddr) -> anyhow::Result<()> {
        let mut names = vec!["localhost".into(), "127.0.0.1".into(), "::1".into()];
        if !address.is_loopback() && !address.is_unspecified() {
            names.push(address.to_string());
        }
        let mut params = CertificateParams::new(names)?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, "longhaul demo (throw-away)");
        params.distinguished_name = subject;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        fs::write(self.path.join("certs/demo.pem"), certificate.pem())?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path.join("certs/demo.key"))?;
        Ok(file.write_all(key.serialize_pem().as_bytes())?)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.removal == Removal::AtEnd {
            // Nothing depends on it, and it lies in the temp directory.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn main_config(plan: &Plan<'_>) -> String {
    let plain = SocketAddr::new(plan.address, plan.port);
    let tls = SocketAddr::new(plan.address, plan.tls_port);
    format!(
        r#"# Written by `longhaul demo`. Listeners and everything else that is not a route;
# the file to play with is routes.d/demo.toml.
include = ["routes.d/*.toml"]

[listeners.plain]
address = "{plain}"

[listeners.tls]
address = "{tls}"
certificates = [{{ chain = "certs/demo.pem", key = "certs/demo.key" }}]

[admin]
socket = "admin.sock"

# short, so that Ctrl-C is
[drain]
window = "500ms"
deadline = "3s"
close_timeout = "1s"
"#
    )
}

fn routes(plan: &Plan<'_>) -> String {
    let mut text = String::from(
        r#"# Edit this file while the page is open. A good edit takes effect within a
# second, a wrong one changes nothing, and neither closes a tunnel.

[[routes]]
name = "demo"
path = "/*"
upstream = "colours"

[upstreams.colours]
sticky = ["cookie"]
backends = [
"#,
    );
    for (name, address) in plan.backends {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            r#"  {{ name = "{name}", address = "{address}", weight = 1 }},"#
        );
    }
    text.push_str("]\n");
    text
}

fn edits(file: &str, backend: &str) -> Vec<Edit> {
    vec![
        Edit {
            label: format!("Remove {backend}"),
            command: format!(r#"sed -i '/name = "{backend}"/s/^/#/' {file}"#),
            says: format!(
                "Takes your own backend out of the config. New clients go elsewhere; \
                 your tunnel stays on {backend} and keeps counting."
            ),
            undo: format!(r#"sed -i '/name = "{backend}"/s/^#*//' {file}"#),
        },
        Edit {
            label: "Change weights".to_owned(),
            command: format!(
                r#"sed -i '/name = "{backend}"/s/weight = [0-9]*/weight = 8/' {file}"#
            ),
            says: format!(
                "Sends most newcomers to {backend}. Whoever has a tunnel or a cookie stays \
                 where they are."
            ),
            undo: format!(r#"sed -i '/name = "{backend}"/s/weight = [0-9]*/weight = 1/' {file}"#),
        },
        Edit {
            label: "Make a mistake".to_owned(),
            command: format!("sed -i 's/^upstream = /upstraem = /' {file}"),
            says: "Misspells a key. The generation stays, nothing changes for anybody, and the \
                   log says what is wrong, where, and what was probably meant."
                .to_owned(),
            undo: format!("sed -i 's/^upstraem = /upstream = /' {file}"),
        },
    ]
}

/// A path as one word of a POSIX shell.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    fn plan<'a>(backends: &'a [(&'static str, SocketAddr)]) -> Plan<'a> {
        Plan {
            address: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            tls_port: 0,
            backends,
        }
    }

    fn backends() -> Vec<(&'static str, SocketAddr)> {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        vec![("red", address), ("green", address), ("blue", address)]
    }

    #[test]
    fn a_fresh_directory_is_private_and_goes_away() {
        let parent = tempfile::tempdir().unwrap();
        let one = Directory::fresh(parent.path()).unwrap();
        let two = Directory::fresh(parent.path()).unwrap();
        assert_ne!(one.path, two.path);
        let mode = fs::metadata(&one.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        one.fill(&plan(&backends())).unwrap();
        let path = one.path.clone();
        let key = path.join("certs/demo.key");
        let mode = fs::metadata(key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(one);
        assert!(!path.exists());
    }

    #[test]
    fn a_named_directory_must_be_empty_and_stays() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("it's here");
        let directory = Directory::open(Some(&path)).unwrap();
        directory.fill(&plan(&backends())).unwrap();
        drop(directory);
        assert!(path.exists());
        let error = Directory::open(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("--dir"), "{error}");
    }

    /// Runs each command as a person would, in a directory whose name needs
    /// quoting, and compares the file before, between and after.
    #[test]
    fn edits_do_what_they_say_and_can_be_taken_back() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(Some(&parent.path().join("it's here"))).unwrap();
        directory.fill(&plan(&backends())).unwrap();
        let shell = |command: &str| {
            let done = Command::new("sh").args(["-c", command]).status().unwrap();
            assert!(done.success(), "{command}");
            fs::read_to_string(directory.routes()).unwrap()
        };
        let before = fs::read_to_string(directory.routes()).unwrap();
        let expected = [
            "#  { name = \"green\"",
            "name = \"green\", address = \"127.0.0.1:9\", weight = 8",
            "upstraem",
        ];
        let edits = directory.edits("green");
        assert_eq!(edits.len(), expected.len());
        for (edit, expected) in edits.iter().zip(expected) {
            let text = shell(&edit.command);
            assert!(text.contains(expected), "{}:\n{text}", edit.label);
            // Pasted twice, it still comes back.
            shell(&edit.command);
            assert_eq!(shell(&edit.undo), before, "{}", edit.label);
        }
    }
}
