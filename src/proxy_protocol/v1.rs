//! Version 1: a line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Header, Mistake, Proxied, Step};

pub(super) const MARK: &[u8] = b"PROXY ";

/// With the line's end (section 2.1).
const LONGEST: usize = 107;

const UNKNOWN: &[u8] = b"PROXY UNKNOWN";

/// Family, addresses and ports.
const FIELDS: usize = 5;
const NUMBER: Mistake = Mistake::Malformed("it has another number of fields");

/// `bytes` begin with the mark, and are as many as the shortest header has.
pub(super) fn parse(bytes: &[u8]) -> Result<Step, Mistake> {
    let seen = &bytes[..bytes.len().min(LONGEST)];
    if let Some(end) = seen.windows(2).position(|two| two == b"\r\n") {
        let line = str::from_utf8(&seen[..end]);
        let line = line.map_err(|_| Mistake::Malformed("it is no text"))?;
        return Ok(Step::Done(Header::Proxied(proxied(line)?), end + 2));
    }
    if bytes.len() >= LONGEST {
        return Err(Mistake::TooLong);
    }
    Ok(Step::More(wanting(bytes)?.min(LONGEST - bytes.len())))
}

/// How many bytes at least an unfinished line still wants.
fn wanting(line: &[u8]) -> Result<usize, Mistake> {
    let last = line.last();
    let spaces = line.iter().filter(|byte| **byte == b' ').count();
    let fields = match line.starts_with(UNKNOWN) {
        true => 0,
        false => FIELDS.checked_sub(spaces).ok_or(NUMBER)?,
    };
    if last == Some(&b'\r') {
        return Ok(1);
    }
    // Each with a space before it, the one that has begun, and the line's end.
    Ok(2 * fields + usize::from(fields > 0 && last == Some(&b' ')) + 2)
}

fn proxied(line: &str) -> Result<Proxied, Mistake> {
    let mut fields = line.split(' ').skip(1);
    let family = fields.next();
    if family == Some("UNKNOWN") {
        // Whatever follows is to be ignored.
        return Ok(Proxied::default());
    }
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return Err(NUMBER);
    };
    let ip = |text: &str| match family {
        Some("TCP4") => text.parse().map(|ip: Ipv4Addr| IpAddr::V4(ip)).ok(),
        Some("TCP6") => text.parse().map(|ip: Ipv6Addr| IpAddr::V6(ip)).ok(),
        _ => None,
    };
    let address = |text, written_port| {
        let ip = ip(text).ok_or(Mistake::Malformed("an address is none of its family"))?;
        let port = port(written_port).ok_or(Mistake::Malformed("a port is none"))?;
        Ok(SocketAddr::new(ip, port))
    };
    Ok(Proxied {
        addresses: Some(Addresses {
            source: address(source, source_port)?,
            destination: address(destination, destination_port)?,
        }),
        ..Proxied::default()
    })
}

/// Decimal, without a sign and without leading zeros (section 2.1).
fn port(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| plain)
}

pub(super) fn write(header: &Header) -> Vec<u8> {
    let addresses = match header {
        Header::Local => None,
        Header::Proxied(proxied) => proxied.addresses,
    };
    let Some(Addresses {
        source,
        destination,
    }) = addresses
    else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let (from_port, to_port) = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").into_bytes()
}
