//! What the command line accepts: every command, flag, help text and example.
//!
//! The parser, the completions and the man page all come from the one
//! definition here. It only says what was typed, checked as far as one value
//! alone can be checked; it opens no file and decides nothing.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use http::{HeaderName, HeaderValue, Method, Uri};

use super::operator::args as operator;

const EXAMPLES: &str = "\
Examples:
  longhaul demo
      See it work: three backends, a page, a config to edit while it runs
  longhaul check /etc/longhaul/longhaul.toml
      Find every mistake that a reload would find, and change nothing
  longhaul run --config /etc/longhaul/longhaul.toml
      Serve; edit the file to change routes, no signal needed

Signals of `run`:
  SIGHUP            read the config again now
  SIGUSR1           open the file of log.access_to anew, after it was moved away
  SIGTERM, SIGINT   stop: no new connections, tunnels get a Close frame
  the same again    stop at once

Exit codes:
  0  done    1  failed    2  bad usage or bad config";

const RUN_EXAMPLES: &str = "\
Examples:
  longhaul run --config /etc/longhaul/longhaul.toml

The file and all that it includes are watched. A good edit takes effect within
a second and closes no tunnel; a wrong one changes nothing and is reported in
the log with file:line:column.";

const CHECK_EXAMPLES: &str = "\
Examples:
  longhaul check longhaul.toml
  longhaul check longhaul.toml --explain wss://chat.example.com/ws/room-7
  longhaul check longhaul.toml --explain https://example.com/api \\
      --method POST --header 'cookie: sid=42' --client 192.0.2.7
  longhaul check longhaul.toml --explain wss://example.com/mqtt --subprotocol mqtt
  longhaul check longhaul.toml --against /run/longhaul/admin.sock

Addresses are bound for a moment; those that the longhaul which runs this file
holds are its own, as its admin socket tells. What only that process could know,
such as what its user may do, is a warning.

A ws or wss URL is explained as a WebSocket upgrade, http and https as a plain
request.";

const DEMO_EXAMPLES: &str = "\
Examples:
  longhaul demo
  longhaul demo --port 9080 --tls-port 9443
  longhaul demo --address 0.0.0.0      # to open the page on a phone

Everything is written to one directory, which is removed at the end unless
--dir named it.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  longhaul completions bash > /etc/bash_completion.d/longhaul
  longhaul completions zsh > ~/.zfunc/_longhaul
  longhaul completions fish > ~/.config/fish/completions/longhaul.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  longhaul man > /usr/local/share/man/man1/longhaul.1
  longhaul man | man -l -";

/// The load balancer for connections that stay: a WebSocket-aware reverse
/// proxy whose routes you can edit while tunnels live.
#[derive(Clone, Debug, Parser)]
#[command(name = "longhaul", version, max_term_width = 100)]
#[command(after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve until stopped
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArguments),
    /// Find every mistake in a config, or explain what happens to one request
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArguments),
    /// Say what a running longhaul is and does
    #[command(after_help = operator::STATUS_EXAMPLES)]
    Status(operator::StatusArguments),
    /// Show what happens, live in the terminal
    #[command(after_help = operator::TOP_EXAMPLES)]
    Top(operator::TopArguments),
    /// List, show and close live tunnels
    #[command(after_help = operator::TUNNELS_EXAMPLES)]
    Tunnels(Box<operator::TunnelsArguments>),
    /// List backends, and set their states while longhaul runs
    #[command(after_help = operator::BACKENDS_EXAMPLES)]
    Backends(operator::BackendsArguments),
    /// Spread live tunnels over the backends of an upstream again
    #[command(after_help = operator::REBALANCE_EXAMPLES)]
    Rebalance(operator::RebalanceArguments),
    /// Start three WebSocket backends behind longhaul, and a page to try them
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArguments),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArguments),
    /// Print the man page
    #[command(after_help = MAN_EXAMPLES)]
    Man,
}

#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// The main config file
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct CheckArguments {
    /// The main config file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Show the route, sticky key, backend and request head for this URL
    #[arg(long, value_name = "URL", value_parser = explained_url)]
    pub explain: Option<Uri>,
    /// Say how many live tunnels of the longhaul at this admin socket, or http://HOST:PORT, it
    /// would move or close
    #[arg(long, value_name = "ADDRESS", conflicts_with = "explain")]
    pub against: Option<String>,
    /// File with the token that an http:// address asks for
    #[arg(long, value_name = "FILE", requires = "against")]
    pub token_file: Option<PathBuf>,
    /// Method of the explained request [default: GET]
    #[arg(long, value_name = "METHOD", requires = "explain")]
    pub method: Option<Method>,
    /// Header line of the explained request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", requires = "explain", value_parser = header_line)]
    pub headers: Vec<(String, HeaderValue)>,
    /// Address that the explained request comes from [default: 127.0.0.1]
    #[arg(long, value_name = "IP", requires = "explain")]
    pub client: Option<IpAddr>,
    /// WebSocket subprotocol that the client offers; may be repeated
    #[arg(long = "subprotocol", value_name = "NAME", requires = "explain", value_parser = subprotocol)]
    pub subprotocols: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct DemoArguments {
    /// Port of the plain listener; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Port of the TLS listener; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub tls_port: u16,
    /// Address to listen on; the default is reachable from this machine only
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// Empty or new directory for the demo's files [default: a fresh one under the temp directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct CompletionsArguments {
    /// The shell to write for
    pub shell: Shell,
}

/// A URL with a host, in one of the schemes that a client can ask longhaul for.
fn explained_url(text: &str) -> Result<Uri, String> {
    let allowed = "expected http://, https://, ws:// or wss:// and a host";
    // Without a scheme, `chat.example.com/ws` is no URI at all.
    let uri: Uri = text.parse().map_err(|_| allowed.to_owned())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https" | "ws" | "wss"));
    if !known || uri.host().is_none_or(str::is_empty) {
        return Err(allowed.to_owned());
    }
    Ok(uri)
}

/// The name as it was spelled, which is what a backend would see.
fn header_line(text: &str) -> Result<(String, HeaderValue), String> {
    let Some((name, value)) = text.split_once(':') else {
        return Err("expected 'name: value'".to_owned());
    };
    let name = name.trim();
    name.parse::<HeaderName>()
        .map_err(|_| format!("`{name}` is no header name"))?;
    let value = value
        .trim()
        .parse::<HeaderValue>()
        .map_err(|_| format!("the value of `{name}` holds a character that headers cannot"))?;
    Ok((name.to_owned(), value))
}

/// One token (RFC 6455 section 11.5), which header names happen to share.
fn subprotocol(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    match HeaderName::from_bytes(lower.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("expected one subprotocol token, such as mqtt".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &[&str]) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(std::iter::once(&"longhaul").chain(line))
            .map(|arguments| arguments.command)
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn run_wants_a_config() {
        let Ok(Command::Run(run)) = parse(&["run", "--config", "a.toml"]) else {
            panic!("not run");
        };
        assert_eq!(run.config, PathBuf::from("a.toml"));
        let error = parse(&["run"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument);
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn check_reads_the_whole_request() {
        let line = [
            "check",
            "a.toml",
            "--explain",
            "wss://a.example/ws?room=1",
            "--method",
            "GET",
            "--header",
            "Cookie: sid=1:2",
            "--header",
            "x-empty:",
            "--client",
            "2001:db8::1",
            "--subprotocol",
            "graphql-transport-ws",
        ];
        let Ok(Command::Check(check)) = parse(&line) else {
            panic!("not check");
        };
        assert_eq!(check.explain.unwrap().query(), Some("room=1"));
        assert_eq!(check.method, Some(Method::GET));
        assert_eq!(check.headers[0].0, "Cookie");
        assert_eq!(check.headers[0].1, "sid=1:2");
        assert_eq!(check.headers[1].1, "");
        assert!(check.client.unwrap().is_ipv6());
        assert_eq!(check.subprotocols, ["graphql-transport-ws"]);
    }

    #[test]
    fn parts_of_a_request_need_a_url() {
        let error = parse(&["check", "a.toml", "--method", "GET"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn a_url_without_a_scheme_gets_the_schemes() {
        for url in [
            "/ws",
            "chat.example.com/ws",
            "chat.example.com",
            "http://a b/",
        ] {
            let error = parse(&["check", "a", "--explain", url]).unwrap_err();
            assert!(error.to_string().contains("expected http://"), "{error}");
        }
    }

    #[test]
    fn wrong_values_are_usage_errors() {
        for line in [
            ["check", "a", "--explain", "/path/only"],
            ["check", "a", "--explain", "ftp://a.example/"],
            ["check", "a", "--explain", "http://"],
            ["run", "--config", "a", "--verbose"],
        ] {
            assert_eq!(parse(&line).unwrap_err().exit_code(), 2, "{line:?}");
        }
        for header in ["no colon", "b@d: x", "a: b\u{7f}"] {
            let line = ["check", "a", "--explain", "http://a", "--header", header];
            assert_eq!(parse(&line).unwrap_err().exit_code(), 2, "{header:?}");
        }
    }

    #[test]
    fn demo_has_the_ports_of_the_readme() {
        let Ok(Command::Demo(demo)) = parse(&["demo"]) else {
            panic!("not demo");
        };
        assert_eq!((demo.port, demo.tls_port), (8080, 8443));
        assert!(demo.address.is_loopback());
    }
}
