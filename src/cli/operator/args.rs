//! What the commands for operators of a running longhaul accept.
//!
//! As [`super::super::args`], of which it is a part: it only says what was
//! typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub const TUNNELS_EXAMPLES: &str = "\
Examples:
  longhaul tunnels list --config /etc/longhaul/longhaul.toml
  longhaul tunnels list --admin /run/longhaul/admin.sock --backend chat-1 --json
  longhaul tunnels show 4711 --admin /run/longhaul/admin.sock
  longhaul tunnels close --admin /run/longhaul/admin.sock --client 203.0.113.0/24 --code 1008
  longhaul tunnels close --admin /run/longhaul/admin.sock --backend chat-1 --rate 50/s --dry-run

Without a command it lists. A tunnel is closed at a message boundary, with a
Close frame to both sides.";

pub const BACKENDS_EXAMPLES: &str = "\
Examples:
  longhaul backends list --admin /run/longhaul/admin.sock
  longhaul backends list --admin /run/longhaul/admin.sock --overridden
  longhaul backends set chat chat-1 draining --admin /run/longhaul/admin.sock
  longhaul backends set chat chat-1 draining --admin /run/longhaul/admin.sock --no-wait
  longhaul backends set chat chat-1 config --admin /run/longhaul/admin.sock

What is set holds over reloads, until the file says another state than it does
now, or `config` takes it back.";

pub const REBALANCE_EXAMPLES: &str = "\
Examples:
  longhaul rebalance chat --admin /run/longhaul/admin.sock --dry-run
  longhaul rebalance chat --admin /run/longhaul/admin.sock --to 5% --rate 200/s

Closes the excess of backends that have more than their share: tunnels whose
keys belong elsewhere first, the oldest first. Tunnels that would only come back
to the same backend stay.";

pub const STATUS_EXAMPLES: &str = "\
Examples:
  longhaul status --config /etc/longhaul/longhaul.toml
  longhaul status --admin /run/longhaul/admin.sock --json
  longhaul status --admin https://proxy.example.com:9443 --ca ops-ca.pem \\
      --certificate alice.pem --certificate-key alice.key";

pub const TOP_EXAMPLES: &str = "\
Examples:
  longhaul top --config /etc/longhaul/longhaul.toml
  longhaul top --admin http://127.0.0.1:9000 --token-file /etc/longhaul/admin.token

Keys:
  Tab, 1 to 4   backends, tunnels, last closes, last reloads
  j, k          down and up; so do the arrows, and PageDown and PageUp
  /             search the tunnels; Esc shows all again
  s             sort the tunnels by another column
  d             drain the backend, or take it back; asks first
  x             close the tunnel, or those of the backend; asks first
  q             leave";

/// Which longhaul is meant, and by what right.
#[derive(Args, Clone, Debug)]
pub struct Socket {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub right: Right,
}

/// By what right something is asked over TCP: at the address that is given as `admin`.
#[derive(Args, Clone, Debug)]
pub struct Right {
    /// File with the token that an http:// or https:// address asks for
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub token_file: Option<PathBuf>,
    /// File with the CAs to verify an https:// address by [default: those of the system]
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub ca: Option<PathBuf>,
    /// File with the certificate to show at an https:// address, and its chain
    #[arg(long, value_name = "FILE", requires_all = ["admin", "certificate_key"])]
    pub certificate: Option<PathBuf>,
    /// File with the key of that certificate
    #[arg(long, value_name = "FILE", requires_all = ["admin", "certificate"])]
    pub certificate_key: Option<PathBuf>,
}

/// Where it answers.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct Place {
    /// The admin socket of the running longhaul, or http://HOST:PORT or https://HOST:PORT of its
    /// admin API
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// The config file that names that address
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct TunnelsArguments {
    #[command(subcommand)]
    pub command: Option<TunnelsCommand>,
    #[command(flatten)]
    pub list: ListArguments,
}

#[derive(Clone, Debug, Subcommand)]
pub enum TunnelsCommand {
    /// List live tunnels, oldest first
    List(ListArguments),
    /// Show all that is known of one
    Show(ShowArguments),
    /// Close one, or all that have something in common
    Close(CloseArguments),
}

/// Which tunnels are meant; together, those that match every word.
#[derive(Args, Clone, Debug, Default)]
pub struct Which {
    /// Of this client: its address behind trusted proxies, or a network
    #[arg(long, value_name = "IP")]
    pub client: Option<String>,
    /// Whose sticky key has this hash, as the list shows it
    #[arg(long, value_name = "HASH")]
    pub key: Option<String>,
    /// Accepted by this listener
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// Of this route
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Of this upstream
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
    /// At this backend
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// In this state: open, half_closed or closing
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub struct ListArguments {
    #[command(flatten)]
    pub socket: Socket,
    #[command(flatten)]
    pub which: Which,
    /// With this text in the client's address, host, path, or a name
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Begin where another list has ended
    #[arg(long, value_name = "PLACE", default_value_t = 0)]
    pub after: u64,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ShowArguments {
    /// The tunnel's id, as in the list and the access log
    pub id: u64,
    #[command(flatten)]
    pub socket: Socket,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct CloseArguments {
    /// The id of one tunnel
    pub id: Option<u64>,
    #[command(flatten)]
    pub socket: Socket,
    #[command(flatten)]
    pub which: Which,
    /// All tunnels, if nothing else says which
    #[arg(long)]
    pub all: bool,
    /// Code of the Close frame, or none for no frame [default: that of drain.close_codes or drain.close_code]
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
    /// Reason in the Close frame, at most 123 bytes
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub pace: PaceArguments,
}

/// How fast, and whether at all.
#[derive(Args, Clone, Debug)]
pub struct PaceArguments {
    /// No faster than this, such as 50/s
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,
    /// Spread over this time, such as 30s
    #[arg(long, value_name = "TIME")]
    pub window: Option<String>,
    /// Say how many it would be, and close none
    #[arg(long)]
    pub dry_run: bool,
    /// Do not show at a terminal how many are left until none is
    #[arg(long)]
    pub no_wait: bool,
    /// Print the answer as JSON, and do not wait
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BackendsArguments {
    #[command(subcommand)]
    pub command: Option<BackendsCommand>,
    #[command(flatten)]
    pub list: BackendsListArguments,
}

#[derive(Clone, Debug, Subcommand)]
pub enum BackendsCommand {
    /// List backends, with their states and by whose word
    List(BackendsListArguments),
    /// Set a backend's state while longhaul runs
    Set(SetArguments),
}

#[derive(Args, Clone, Debug)]
pub struct BackendsListArguments {
    #[command(flatten)]
    pub socket: Socket,
    /// Of this upstream only
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
    /// Only those whose state a person has set
    #[arg(long)]
    pub overridden: bool,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct SetArguments {
    /// The upstream's name
    pub upstream: String,
    /// The backend's name
    pub backend: String,
    /// What it is to be; config is what the file says
    #[arg(value_parser = ["active", "draining", "disabled", "config"])]
    pub state: String,
    #[command(flatten)]
    pub socket: Socket,
    /// Do not show at a terminal how many tunnels a draining backend has left
    #[arg(long)]
    pub no_wait: bool,
    /// Print the answer as JSON, and do not wait
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct RebalanceArguments {
    /// The upstream's name
    pub upstream: String,
    #[command(flatten)]
    pub socket: Socket,
    /// How far from its share a backend may be, such as 10%
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub to: Option<f64>,
    #[command(flatten)]
    pub pace: PaceArguments,
}

#[derive(Args, Clone, Debug)]
pub struct TopArguments {
    #[command(flatten)]
    pub socket: Socket,
}

#[derive(Args, Clone, Debug)]
pub struct StatusArguments {
    #[command(flatten)]
    pub socket: Socket,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let number = text
        .strip_suffix('%')
        .and_then(|number| number.parse::<f64>().ok());
    match number {
        Some(number) if (0.0..=100.0).contains(&number) => Ok(number / 100.0),
        _ => Err("expected a share from 0% to 100%, such as 10%".to_owned()),
    }
}
