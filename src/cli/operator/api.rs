//! Which longhaul a command asks, and where that answers.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, anyhow, bail};
use rustls::ClientConfig;
use serde_json::Value;

use super::args::{Right, Socket};
use super::ask::{AdminApi, AskError};
use crate::admin::{Endpoint, first_token};
use crate::cli::WrongConfig;
use crate::config::{self, CertificatePair};
use crate::tls::{self, Pairs};

/// Where the longhaul that is meant answers.
pub(super) fn meant(socket: &Socket) -> anyhow::Result<AdminApi> {
    let place = &socket.place;
    match (&place.admin, &place.config) {
        (Some(admin), _) => api(admin, &socket.right),
        (None, Some(file)) => {
            let loaded = config::load(file).result.map_err(WrongConfig)?;
            match &loaded.admin {
                Some(admin) => api_of(admin),
                None => bail!(
                    "{} has no [admin], so nobody can be asked; put in, for instance:\n\n\
                     [admin]\nsocket = \"/run/longhaul/admin.sock\"",
                    file.display()
                ),
            }
        }
        (None, None) => bail!("which longhaul? give --admin or --config"),
    }
}

/// The API where somebody has written, and what is shown there.
pub fn api(written: &str, right: &Right) -> anyhow::Result<AdminApi> {
    if is_authority(written) && !Path::new(written).exists() {
        bail!("there is no socket {written}; over TCP it is --admin http://{written}");
    }
    let token = right.token_file.as_deref().map(token).transpose()?;
    let config = match written.starts_with("https://") {
        true => Some(client_config(right)?),
        false if right.ca.is_some() || right.certificate.is_some() => {
            bail!("{written}: --ca and --certificate are for https://HOST:PORT")
        }
        false => None,
    };
    AdminApi::parse(written, token, config).map_err(|error| anyhow!(error))
}

fn client_config(right: &Right) -> anyhow::Result<Arc<ClientConfig>> {
    let files = right.certificate.clone().zip(right.certificate_key.clone());
    let pair = files.map(|(chain, key)| CertificatePair { chain, key });
    let load = |pair| Pairs::default().load_or_keep(pair, SystemTime::now());
    let pair = pair.as_ref().map(load).transpose()?;
    let own = pair.as_ref().map(|(pair, _)| &**pair);
    Ok(tls::client_config(right.ca.as_deref(), own)?)
}

/// Whether it is a host and a port, as somebody writes who means a URL.
fn is_authority(written: &str) -> bool {
    match written.rsplit_once(':') {
        Some((host, port)) => {
            let usual = !host.is_empty() && !written.contains('/');
            usual && port.parse::<u16>().is_ok()
        }
        None => false,
    }
}

/// The API of a config: at its socket, if there is one.
pub fn api_of(admin: &config::Admin) -> anyhow::Result<AdminApi> {
    if let Some(socket) = &admin.socket {
        return Ok(AdminApi::Socket(socket.clone()));
    }
    let address = admin.listen.context("[admin] has no address")?;
    if !admin.certificates.is_empty() {
        // By which name its certificate is good, and what to show, no config says.
        bail!("[admin] speaks TLS alone: ask it by --admin https://HOST:PORT");
    }
    let token_file = admin.token_file.as_ref().or(admin.read_token_file.as_ref());
    let token = token_file.map(|file| token(file)).transpose()?;
    Ok(AdminApi::Tcp {
        authority: reachable(address).to_string(),
        token,
        tls: None,
    })
}

/// What listens on every address is asked on this machine's own.
fn reachable(mut address: std::net::SocketAddr) -> std::net::SocketAddr {
    use std::net::{Ipv4Addr, Ipv6Addr};
    match address.ip() {
        ip if !ip.is_unspecified() => {}
        std::net::IpAddr::V4(_) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        std::net::IpAddr::V6(_) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
    }
    address
}

fn token(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file);
    let text = text.with_context(|| format!("the token file {}", file.display()))?;
    first_token(&text).with_context(|| format!("the token file {} is not usable", file.display()))
}

/// Says which longhaul it was that did not answer.
pub fn asked(api: &AdminApi, answer: Result<Value, AskError>) -> anyhow::Result<Value> {
    match answer {
        Err(error @ AskError::Io(_)) => Err(error).with_context(|| api.to_string()),
        answer => Ok(answer?),
    }
}

pub(super) fn target(endpoint: Endpoint, query: &[(&str, String)]) -> String {
    let path = endpoint.path();
    let pair = |(key, value): &(&str, String)| format!("{key}={}", encoded(value));
    let pairs: Vec<String> = query.iter().map(pair).collect();
    format!("{path}?{}", pairs.join("&"))
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_arrives_as_it_was_typed() {
        let query = [("route", "a b/*?&=".to_owned()), ("limit", "7".to_owned())];
        assert_eq!(
            target(Endpoint::Tunnels, &query),
            "/tunnels?route=a%20b%2F%2A%3F%26%3D&limit=7"
        );
    }
}
