//! `longhaul demo`: the whole thing on one machine with nothing set up.
//!
//! Three WebSocket backends in this process, a directory with a certificate
//! and a config, the real server in front, and a page that shows what happens.
//! The server is the one that `longhaul run` starts, with a config file as its
//! only input; nothing in it knows that this is a demo. The backends run on a
//! thread of their own, so that a busy page cannot slow the proxy down.

mod backend;
mod files;
mod hub;
mod session;
mod watch;

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::runtime::Runtime;
use tokio::sync::watch as channel;

use self::files::{Directory, Plan};
use self::hub::Hub;
use self::session::Place;
use self::watch::Status;
use super::args::DemoArguments;

const BACKENDS: [&str; 3] = ["red", "green", "blue"];

/// Sets everything up and gives the config to `serve`, which serves until it
/// is told to stop (Ctrl-C) and then returns.
///
/// # Errors
/// When a port is taken, the directory cannot be used, or `serve` fails.
pub fn run(
    arguments: &DemoArguments,
    serve: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let directory = Directory::open(arguments.dir.as_deref())?;
    let listeners = bind_backends()?;
    let backends = listeners
        .iter()
        .map(|(name, listener)| Ok((*name, listener.local_addr()?)))
        .collect::<std::io::Result<Vec<_>>>()?;
    let port = free_port(arguments.address, arguments.port, "--port")?;
    let tls_port = free_port(arguments.address, arguments.tls_port, "--tls-port")?;
    directory.fill(&Plan {
        address: arguments.address,
        port,
        tls_port,
        backends: &backends,
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("demo-backends")
        .enable_all()
        .build()?;
    start(&runtime, listeners, &directory)?;
    let served = serve(&directory.config());
    runtime.shutdown_background();
    served
}

/// Loopback, whatever the demo itself listens on: backends are not exposed.
fn bind_backends() -> anyhow::Result<Vec<(&'static str, TcpListener)>> {
    let mut listeners = Vec::new();
    for name in BACKENDS {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot start a backend")?;
        listener.set_nonblocking(true)?;
        listeners.push((name, listener));
    }
    Ok(listeners)
}

/// Tries the port before the server does, to name the flag that changes it.
/// Port 0 is left for the server.
fn free_port(address: IpAddr, port: u16, flag: &str) -> anyhow::Result<u16> {
    let wanted = SocketAddr::new(address, port);
    match TcpListener::bind(wanted) {
        Ok(_) => Ok(port),
        Err(error) => bail!("cannot listen on {wanted}: {error}; choose another with {flag}"),
    }
}

fn start(
    runtime: &Runtime,
    listeners: Vec<(&'static str, TcpListener)>,
    directory: &Directory,
) -> anyhow::Result<()> {
    let hub = Hub::new();
    let (sender, receiver) = channel::channel(Status::default());
    let _inside = runtime.enter();
    for (name, listener) in listeners {
        let place = Place {
            backend: name,
            hub: Arc::clone(&hub),
            status: receiver.clone(),
            file: directory.routes().to_string_lossy().into_owned(),
            edits: directory.edits(name),
        };
        let listener = tokio::net::TcpListener::from_std(listener)?;
        runtime.spawn(backend::serve(listener, Arc::new(place)));
    }
    runtime.spawn(follow(directory.admin_socket(), directory.routes(), sender));
    Ok(())
}

/// Passes each change of longhaul's status on to the pages; the first one also
/// says that the server is up, and where.
async fn follow(socket: PathBuf, routes: PathBuf, sender: channel::Sender<Status>) {
    let mut greeted = false;
    loop {
        let status = watch::status(&socket).await;
        // Generation 0 is a server that is still starting.
        if let Ok(status) = status
            && status.generation > 0
        {
            if !greeted {
                greeted = true;
                // Without a terminal to greet, the demo still works.
                let _ = std::io::stdout().write_all(greeting(&status, &routes).as_bytes());
            }
            sender.send_if_modified(|last| {
                let changed = *last != status;
                *last = status;
                changed
            });
        }
        tokio::time::sleep(watch::INTERVAL).await;
    }
}

fn greeting(status: &Status, routes: &Path) -> String {
    let url = |name: &str, scheme: &str, loopback: &str| {
        let listener = status.listeners.iter().find(|l| l.name == name);
        let address = listener.and_then(|l| l.address.parse::<SocketAddr>().ok());
        match address {
            Some(address) => format!("{scheme}://{}/", browsable(address, loopback)),
            None => format!("{scheme}: not bound"),
        }
    };
    let routes = routes.display();
    format!(
        "
  longhaul demo: three backends (red, green, blue) behind one longhaul

    open  {plain}
      or  {tls}   (its certificate was made just now: accept the warning)

  1. Open the page in two browsers, or in a private window as well: each sticks
     to its backend, and the chat crosses all of them.
  2. Edit {routes}
     The page gives you commands to paste. No tunnel closes.
  3. Ctrl-C stops: tunnels get a Close frame, files are cleaned up.

",
        // Two names for one machine: browsers keep cookies by name and not by
        // port, and a `Secure` one from https would block the plain one.
        plain = url("plain", "http", "127.0.0.1"),
        tls = url("tls", "https", "localhost"),
    )
}

/// An address as a browser on this machine would reach it.
fn browsable(address: SocketAddr, loopback: &str) -> String {
    let local = IpAddr::from([127, 0, 0, 1]);
    if address.ip() == local || address.ip().is_unspecified() {
        return format!("{loopback}:{}", address.port());
    }
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_flag() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = free_port(IpAddr::from([127, 0, 0, 1]), port, "--tls-port");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("--tls-port") && error.contains(&port.to_string()));
    }

    #[test]
    fn the_greeting_gives_addresses_that_a_browser_takes() {
        let listener = |name: &str, address: &str| watch::Listener {
            name: name.to_owned(),
            address: address.to_owned(),
        };
        let status = Status {
            listeners: vec![
                listener("plain", "0.0.0.0:8080"),
                listener("tls", "[2001:db8::1]:8443"),
            ],
            ..Status::default()
        };
        let text = greeting(&status, Path::new("/tmp/x/routes.d/demo.toml"));
        assert!(text.contains("http://127.0.0.1:8080/"), "{text}");
        assert!(text.contains("https://[2001:db8::1]:8443/"), "{text}");
        assert!(text.contains("/tmp/x/routes.d/demo.toml"), "{text}");
    }

    #[test]
    fn the_server_gets_a_whole_directory_and_running_backends() {
        let parent = tempfile::tempdir().unwrap();
        let arguments = DemoArguments {
            port: 0,
            tls_port: 0,
            address: IpAddr::from([127, 0, 0, 1]),
            dir: Some(parent.path().join("demo")),
        };
        let mut asked = String::new();
        run(&arguments, |config| {
            let text = std::fs::read_to_string(config.with_file_name("routes.d/demo.toml"))?;
            let port = text.split("127.0.0.1:").nth(1).unwrap();
            let port = port.split('"').next().unwrap().parse::<u16>()?;
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
            std::io::Read::read_to_string(&mut stream, &mut asked)?;
            Ok(())
        })
        .unwrap();
        assert!(asked.starts_with("HTTP/1.1 200 OK\r\n"), "{asked}");
        assert!(asked.contains(r#"data-backend="red""#));
    }
}
