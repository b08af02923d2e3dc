//! Whether the sockets of a configuration could be bound here and now: what
//! `check` says beforehand.
//!
//! It binds the real addresses for a moment. What the process that runs this
//! configuration holds is its own: a reload keeps it, or moves from it. What
//! depends on who asks (the right to a port, a directory) is a mistake only if
//! it is known of that process, else a doubt.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::Access;
use rustix::io::Errno;

use super::bind::{Share, bind_tcp, excludes_another, overlap};
use crate::config::{Admin, Config, Diagnostic, Diagnostics, ListenAddress, Place};

/// The process that runs the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incumbent {
    /// There is none.
    Nobody,
    /// There may be one; it could not be asked.
    Unknown,
    Known {
        pid: u32,
        /// What its listeners are bound to, by name, as it says it.
        listeners: BTreeMap<String, String>,
    },
}

/// What stands in the way, and what perhaps does.
#[derive(Debug, Default)]
pub struct Obstacles {
    pub findings: Diagnostics,
    pub doubts: Vec<String>,
}

enum Obstacle {
    Sure(io::Error),
    Perhaps(io::Error, &'static str),
}
use Obstacle::{Perhaps, Sure};

const OTHER_USER: &str = "for the user that runs this check";
const OWN_PERHAPS: &str =
    "unless it is by the longhaul that runs this config, which could not be asked";

/// Tries to bind the listeners and the admin socket.
pub fn would_bind(config: &Config, incumbent: &Incumbent) -> Obstacles {
    let mut obstacles = Obstacles::default();
    let mut attempt = Attempt {
        config,
        incumbent,
        bound: Vec::new(),
    };
    for (name, listener) in &config.listeners {
        let tried = match &listener.address {
            ListenAddress::Tcp(address) => attempt.tcp(name, *address),
            ListenAddress::Unix { path, .. } => attempt.unix(path),
        };
        let what = format!("listener {name:?} cannot be bound to {}", listener.address);
        obstacles.note(&listener.place, &what, tried);
    }
    if let Some(admin) = &config.admin
        && !matches!(incumbent, Incumbent::Known { .. })
    {
        attempt.admin(admin, &mut obstacles);
    }
    obstacles
}

impl Obstacles {
    fn note(&mut self, place: &Place, what: &str, tried: Result<(), Obstacle>) {
        match tried {
            Ok(()) => {}
            Err(Sure(error)) => {
                let message = format!("{what}: {error}");
                self.findings.push(Diagnostic::new(place.clone(), message));
            }
            Err(Perhaps(error, why)) => {
                self.doubts.push(format!("{place}: {what}: {error}, {why}"));
            }
        }
    }
}

struct Attempt<'a> {
    config: &'a Config,
    incumbent: &'a Incumbent,
    /// Held until the end, so that two listeners get in each other's way.
    bound: Vec<TcpListener>,
}

impl Attempt<'_> {
    fn admin(&mut self, admin: &Admin, obstacles: &mut Obstacles) {
        if let Some(socket) = &admin.socket {
            let what = format!(
                "the admin socket cannot be bound to unix:{}",
                socket.display()
            );
            obstacles.note(&admin.place, &what, socket_file(socket));
        }
        if let Some(address) = admin.listen {
            let what = format!("the admin API cannot be bound to {address}");
            let tried = match (self.bind(address), self.incumbent) {
                (Ok(socket), _) => {
                    self.bound.push(socket);
                    Ok(())
                }
                (Err(error), Incumbent::Unknown) => Err(Perhaps(error, OWN_PERHAPS)),
                (Err(error), _) => Err(Sure(error)),
            };
            obstacles.note(&admin.place, &what, tried);
        }
    }

    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        bind_tcp(address, Share::Never, &self.config.tcp.into())
    }

    fn tcp(&mut self, name: &str, address: SocketAddr) -> Result<(), Obstacle> {
        if self.holds(&address.to_string()) {
            return Ok(());
        }
        let tried = self.bind(address).map(|socket| self.bound.push(socket));
        let may = match self.incumbent {
            Incumbent::Known { pid, .. } => Some(may_bind(*pid, address.port())),
            _ => None,
        };
        match (tried, may) {
            (Ok(()), Some(false)) => Err(Sure(Errno::ACCESS.into())),
            (Ok(()), _) => Ok(()),
            (Err(error), _) if error.kind() == io::ErrorKind::AddrInUse => {
                self.in_use(name, address, error)
            }
            (Err(error), may) if error.kind() == io::ErrorKind::PermissionDenied => match may {
                Some(true) => Ok(()),
                Some(false) => Err(Sure(error)),
                None => Err(Perhaps(error, OTHER_USER)),
            },
            (Err(error), _) => Err(Sure(error)),
        }
    }

    fn in_use(&self, name: &str, address: SocketAddr, error: io::Error) -> Result<(), Obstacle> {
        match self.incumbent {
            _ if excludes_another(self.config, name, address) => Err(Sure(error)),
            Incumbent::Nobody => Err(Sure(error)),
            Incumbent::Unknown => Err(Perhaps(error, OWN_PERHAPS)),
            // It moves from there.
            Incumbent::Known { listeners, .. } => {
                let held = listeners.values().filter_map(|held| held.parse().ok());
                match held.into_iter().any(|held| overlap(held, address)) {
                    true => Ok(()),
                    false => Err(Sure(error)),
                }
            }
        }
    }

    fn unix(&self, path: &Path) -> Result<(), Obstacle> {
        if self.holds(&format!("unix:{}", path.display())) {
            return Ok(());
        }
        match (socket_file(path), self.incumbent) {
            (Err(Sure(error)), Incumbent::Unknown)
                if error.kind() == io::ErrorKind::AddrInUse && is_socket(path) =>
            {
                Err(Perhaps(error, OWN_PERHAPS))
            }
            (tried, _) => tried,
        }
    }

    fn holds(&self, address: &str) -> bool {
        match self.incumbent {
            Incumbent::Known { listeners, .. } => listeners.values().any(|held| held == address),
            _ => false,
        }
    }
}

/// Whether a socket file could be made at this path, or one that a dead process
/// has left be replaced.
fn socket_file(path: &Path) -> Result<(), Obstacle> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Sure(Errno::NOTDIR.into())),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Perhaps(error, OTHER_USER));
        }
        Err(error) => return Err(Sure(error)),
    }
    if let Err(error) = rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK) {
        return Err(match error {
            Errno::ACCESS => Perhaps(error.into(), OTHER_USER),
            other => Sure(other.into()),
        });
    }
    let stale =
        || UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
    // Of a path that is there in any form, bind(2) says EADDRINUSE.
    match fs::symlink_metadata(path) {
        Ok(_) if is_socket(path) && stale() => Ok(()),
        Ok(_) => Err(Sure(Errno::ADDRINUSE.into())),
        Err(_) => Ok(()),
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Whether a process may bind this port (`ip(7)`, `capabilities(7)`).
fn may_bind(pid: u32, port: u16) -> bool {
    const CAP_NET_BIND_SERVICE: u64 = 1 << 10;
    let unprivileged = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    if port == 0 || port >= unprivileged {
        return true;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    // What cannot be known is not held against it.
    effective.is_none_or(|set| set & CAP_NET_BIND_SERVICE != 0)
}
