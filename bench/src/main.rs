//! `lhbench`: load generator, echo backend, bare relay, bare HTTP proxy and certificate of longhaul's benchmark, one
//! thread each.
//!
//! It deliberately compares nothing: `bench/run` starts it against one target after the other. Only loopback addresses
//! are accepted as targets. Invariant: a load prints one JSON object, or fails with a sentence.

mod answers;
mod backend;
mod cert;
mod churn;
mod client;
mod fleet;
mod frame;
mod hpack;
mod http2;
mod hyper_proxy;
mod load;
mod outgoing;
mod poll;
mod procfs;
mod relay;
mod session;
mod streams;
mod tickets;
mod transport;
mod window;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::client::Kind;
use crate::load::Setup;

#[derive(Parser)]
enum Cli {
    /// Write the certificate of all targets into a directory.
    Cert { dir: PathBuf },
    /// Echo, room and plain response.
    Backend { listen: SocketAddr },
    /// Bare TCP relay.
    Relay {
        listen: SocketAddr,
        backend: SocketAddr,
        /// Move bytes by splice(2) instead of copying them.
        #[arg(long)]
        splice: bool,
    },
    /// Bare HTTP proxy of hyper.
    Hyper {
        listen: SocketAddr,
        backend: SocketAddr,
    },
    /// Generate load.
    Load {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        load: Load,
    },
}

#[derive(Args)]
struct Common {
    /// A loopback address.
    #[arg(long)]
    target: SocketAddr,
    /// The certificate to trust (DER); absent: no TLS.
    #[arg(long)]
    tls: Option<PathBuf>,
    /// Speak HTTP/2, with so many tunnels on a connection (RFC 8441): echo, hold and room only.
    #[arg(long)]
    http2: Option<NonZeroUsize>,
    /// Keep session tickets and use them.
    #[arg(long)]
    resume: bool,
    #[arg(long, default_value = "/ws/echo")]
    path: String,
    /// The protocol asked for in Upgrade.
    #[arg(long, default_value = "websocket")]
    protocol: String,
    #[arg(long, default_value_t = 64)]
    conns: usize,
    /// Payload bytes of one message.
    #[arg(long, default_value_t = 125)]
    size: usize,
    /// Seconds before the measured window.
    #[arg(long, default_value_t = 0.3)]
    warm: f64,
    /// Seconds of the measured window.
    #[arg(long, default_value_t = 1.0)]
    time: f64,
    /// The proxy (with its descendants) whose CPU is counted.
    #[arg(long)]
    pid: Option<u32>,
}

#[derive(Subcommand)]
enum Load {
    /// One message under way on each tunnel, or a fixed rate.
    Echo {
        /// Messages a second, open loop; absent: saturated.
        #[arg(long)]
        rate: Option<f64>,
    },
    /// Plain keep-alive requests.
    Requests,
    /// Idle tunnels, in steps; a line on stdin goes on to the next.
    Hold { steps: Vec<usize> },
    /// One handshake after the other.
    Handshakes,
    /// One speaks, all hear.
    Room,
    /// Live tunnels and new ones while somebody reloads the proxy.
    Churn {
        #[arg(long, default_value_t = 40.0)]
        opens: f64,
    },
}

fn main() -> Result<()> {
    match Cli::parse() {
        Cli::Cert { dir } => cert::write(&dir),
        Cli::Backend { listen } => backend::run(listen),
        Cli::Relay {
            listen,
            backend,
            splice,
        } => relay::run(listen, backend, splice),
        Cli::Hyper { listen, backend } => hyper_proxy::run(listen, backend),
        Cli::Load { common, load } => run_load(&common, &load),
    }
}

fn run_load(common: &Common, load: &Load) -> Result<()> {
    ensure!(
        common.target.ip().is_loopback(),
        "only loopback addresses are targets"
    );
    // Wake up when a message is due, not up to 50 microseconds later.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)).ok();
    let over_streams = matches!(load, Load::Echo { .. } | Load::Hold { .. } | Load::Room);
    ensure!(
        over_streams || common.http2.is_none(),
        "this load knows no HTTP/2"
    );
    let alpn: &[u8] = common.http2.map_or(b"http/1.1", |_| b"h2");
    let tls = common
        .tls
        .as_ref()
        .map(|path| transport::tls_config(path, common.resume, alpn))
        .transpose()?;
    let setup = Setup {
        target: common.target,
        tls,
        http2: common.http2,
        path: common.path.clone(),
        protocol: common.protocol.clone(),
        conns: common.conns,
        size: common.size,
        warm: Duration::from_secs_f64(common.warm),
        time: Duration::from_secs_f64(common.time),
        pid: common.pid,
    };
    let result = match load {
        Load::Echo { rate: None } => load::echo_saturated(&setup, Kind::WebSocket)?,
        Load::Echo { rate: Some(rate) } => load::echo_at_rate(&setup, *rate)?,
        Load::Requests => load::echo_saturated(&setup, Kind::Requests)?,
        Load::Hold { steps } => return load::hold(&setup, steps),
        Load::Handshakes => load::handshakes(&setup)?,
        Load::Room => load::room(&setup)?,
        Load::Churn { opens } => churn::churn(&setup, *opens)?,
    };
    println!("{result}");
    Ok(())
}
