//! The listeners in service: what an edit binds, keeps, renames and closes.
//!
//! Everything that can fail happens in [`Listeners::bind`]; putting it in force
//! cannot.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::Context;
use super::bind::{Listening, SocketFile, bind, bind_over, excludes_another, set_mode};
use super::inherit::Inherited;
use super::listener::{AcceptLoop, Acceptor, Probe};
use super::tuning::Tuning;
use crate::config::{self, Config, Diagnostic, Diagnostics, ListenAddress};
use crate::drain::Watch;
use crate::net::Keepalive;

/// By name.
pub(super) struct Listeners {
    running: BTreeMap<String, Running>,
    data_plane: Handle,
    context: Arc<Context>,
    watch: Watch,
}

struct Running {
    configured: ListenAddress,
    socket: Listening,
    file: Option<SocketFile>,
    accept_loop: AcceptLoop,
}

/// Listeners that wait for the commit. Dropped before, they were never there.
pub(super) struct Bound(Vec<(String, Opened)>);

struct Opened {
    configured: ListenAddress,
    socket: Listening,
    file: Option<SocketFile>,
    acceptor: Acceptor,
    tuning: Tuning,
}

impl Listeners {
    pub(super) fn new(data_plane: Handle, context: Arc<Context>, watch: Watch) -> Self {
        Self {
            running: BTreeMap::new(),
            data_plane,
            context,
            watch,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Name and bound address of each.
    pub(super) fn addresses(&self) -> Vec<(String, String)> {
        let address = |running: &Running| running.socket.address();
        self.running
            .iter()
            .map(|(name, running)| (name.clone(), address(running)))
            .collect()
    }

    pub(super) fn probes(&self) -> Vec<Probe> {
        let loops = self.running.values().map(|running| &running.accept_loop);
        loops.map(|accept_loop| accept_loop.probe.clone()).collect()
    }

    /// Opens what the configuration has and is not in service.
    ///
    /// # Errors
    /// Every listener that cannot be bound; then nothing stays bound.
    pub(super) fn bind(
        &self,
        config: &Config,
        mut inherited: Vec<Inherited>,
    ) -> Result<Bound, Diagnostics> {
        let mut bound = Vec::new();
        let mut findings = Diagnostics::default();
        for (name, listener) in &config.listeners {
            if self.keeps(name, &listener.address) {
                continue;
            }
            match self.open(config, listener, &mut inherited) {
                Ok(opened) => bound.push((name.clone(), opened)),
                Err(error) => findings.push(Diagnostic::new(
                    (*listener.place).clone(),
                    format!(
                        "listener {name:?} cannot be bound to {}: {error}",
                        listener.address
                    ),
                )),
            }
        }
        for unused in inherited {
            tracing::warn!(
                name = unused.name,
                address = unused.socket.address(),
                "inherited socket fits no listener; closed"
            );
        }
        findings.into_result(Bound(bound))
    }

    /// Starts what was bound and stops what the configuration no longer has.
    pub(super) fn put_in_force(&mut self, config: &Config, Bound(bound): Bound) {
        let mut gone = std::mem::take(&mut self.running);
        let kept = |name: &String, running: &mut Running| {
            let listener = config.listeners.get(name);
            listener.is_some_and(|listener| listener.address == running.configured)
        };
        self.running.extend(gone.extract_if(.., kept));
        let _runtime = self.data_plane.enter();
        for (name, opened) in bound {
            let Opened {
                configured,
                socket,
                mut file,
                acceptor,
                tuning,
            } = opened;
            // A socket under a new name: its file must not go with the old one.
            let before = gone.values_mut().find(|old| old.socket.is_at(&configured));
            if let Some(before) = before.filter(|_| file.is_none()) {
                file = before.file.take();
                set_mode(&configured);
            }
            tracing::info!(listener = name, address = socket.address(), "listening");
            let (context, watch) = (Arc::clone(&self.context), self.watch.clone());
            let moves = gone
                .get(&name)
                .is_some_and(|old| !is_taken_over(config, old));
            let old = if moves { gone.remove(&name) } else { None };
            let left = old.map(|old| old.accept_loop.leave(old.socket));
            let name_of_loop = name.as_str().into();
            let accept_loop =
                AcceptLoop::start(name_of_loop, acceptor, tuning, left, context, watch);
            let running = Running {
                configured,
                socket,
                file,
                accept_loop,
            };
            self.running.insert(name, running);
        }
    }

    fn keeps(&self, name: &str, address: &ListenAddress) -> bool {
        let running = self.running.get(name);
        running.is_some_and(|running| running.configured == *address)
    }

    /// The socket of a listener: inherited, in service under another name, or
    /// newly bound.
    fn open(
        &self,
        config: &Config,
        listener: &config::Listener,
        inherited: &mut Vec<Inherited>,
    ) -> io::Result<Opened> {
        let address = &listener.address;
        let fits = |one: &Inherited| one.name == listener.name || one.socket.is_at(address);
        let in_service = self
            .running
            .values()
            .find(|running| running.socket.is_at(address));
        let mut tuning = Tuning::default();
        let (socket, file) = if let Some(index) = inherited.iter().position(fits) {
            (inherited.swap_remove(index).socket, None)
        } else if let Some(running) = in_service {
            (running.socket.try_clone()?, None)
        } else {
            let options = config.tcp.into();
            tuning = Tuning::before_listening(options);
            self.bind_anew(config, listener, &options)?
        };
        let _runtime = self.data_plane.enter();
        let acceptor = Acceptor::new(socket.try_clone()?)?;
        Ok(Opened {
            configured: address.clone(),
            socket,
            file,
            acceptor,
            tuning,
        })
    }

    /// A new socket; where those overlap it that the configuration takes away,
    /// beside them.
    fn bind_anew(
        &self,
        config: &Config,
        listener: &config::Listener,
        options: &Keepalive,
    ) -> io::Result<(Listening, Option<SocketFile>)> {
        let bound = bind(&listener.address, options);
        let (error, address) = match (bound, &listener.address) {
            (Err(error), ListenAddress::Tcp(address))
                if error.kind() == io::ErrorKind::AddrInUse =>
            {
                (error, *address)
            }
            (done, _) => return done,
        };
        let overlapping = self
            .running
            .values()
            .filter(|running| running.socket.overlaps(address) && !is_taken_over(config, running));
        let leaving: Vec<&Listening> = overlapping.map(|running| &running.socket).collect();
        if leaving.is_empty() || excludes_another(config, &listener.name, address) {
            return Err(error);
        }
        Ok((bind_over(address, &leaving, options)?, None))
    }
}

/// Whether a listener of the configuration has the socket, under whatever name.
fn is_taken_over(config: &Config, running: &Running) -> bool {
    let mut listeners = config.listeners.values();
    listeners.any(|listener| running.socket.is_at(&listener.address))
}
