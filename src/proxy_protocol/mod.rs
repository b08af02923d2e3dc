//! The PROXY protocol, versions 1 and 2: what one proxy tells the next about a
//! connection before the connection's own bytes (HAProxy's `proxy-protocol.txt`).
//!
//! Sans-I/O: [`parse`] says how many bytes more surely belong to the header, so
//! that whoever reads takes not one byte of what follows; [`Version::write`]
//! makes one. Own code, because the crates for it want a buffer that is read
//! beyond the header, and do not check the sum.
//!
//! Deliberately without datagrams and Unix addresses: who comes with them is
//! not known.

mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Most bytes of a header. Version 1 has 107 at most; version 2 could have 64 KiB,
/// which nobody needs for two addresses and a few names.
pub const MAX_HEADER: usize = 4 * 1024;

/// As many bytes as the shortest header has: `PROXY UNKNOWN` and the line's end.
const SHORTEST: usize = 15;

/// Whether these bytes, the first of a connection, are surely a header's: for those
/// who want none.
pub fn begins(bytes: &[u8]) -> bool {
    let families: [&[u8]; 3] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];
    bytes.starts_with(v2::SIGNATURE) || families.iter().any(|begin| bytes.starts_with(begin))
}

/// Which version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One line of text, addresses only.
    One,
    /// Binary, with TLVs.
    Two,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// The proxy speaks for itself, to probe for example.
    Local,
    /// It passes on a client's connection.
    Proxied(Proxied),
}

/// Where a connection comes from, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxied {
    pub addresses: Option<Addresses>,
    /// If the client spoke TLS.
    pub tls: Option<Tls>,
    /// What is spoken on the connection, by its name in ALPN (RFC 7301).
    pub alpn: Option<String>,
    /// The host that the client asked for (SNI).
    pub authority: Option<String>,
}

/// The two ends of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// What is known of a client's TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Such as `TLSv1.3`.
    pub version: Option<String>,
    /// Whether the client showed a certificate that was verified.
    pub verified: bool,
}

/// How far the parser is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// At least this many bytes more belong to the header.
    More(usize),
    /// The header, and its length in bytes.
    Done(Header, usize),
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    #[error("what came is no PROXY header")]
    NotAHeader,
    #[error("the PROXY header is too long")]
    TooLong,
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

/// Reads a header from the first bytes of a connection, of either version.
///
/// # Errors
/// As soon as the bytes cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Step, Mistake> {
    let begins = |mark: &[u8]| {
        let both = bytes.len().min(mark.len());
        bytes[..both] == mark[..both]
    };
    if !begins(v1::MARK) && !begins(v2::SIGNATURE) {
        return Err(Mistake::NotAHeader);
    }
    if bytes.len() < SHORTEST {
        return Ok(Step::More(SHORTEST - bytes.len()));
    }
    match bytes[0] == v1::MARK[0] {
        true => v1::parse(bytes),
        false => v2::parse(bytes),
    }
}

impl Version {
    /// The bytes that go before all others.
    pub fn write(self, header: &Header) -> Vec<u8> {
        match self {
            Self::One => v1::write(header),
            Self::Two => v2::write(header),
        }
    }
}

impl Addresses {
    /// Of one family, which a header needs: IPv4 unless one of them is IPv6.
    pub fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical = |it: SocketAddr| SocketAddr::new(it.ip().to_canonical(), it.port());
        let (source, destination) = (canonical(source), canonical(destination));
        if source.is_ipv4() == destination.is_ipv4() {
            return Self {
                source,
                destination,
            };
        }
        Self {
            source: mapped(source),
            destination: mapped(destination),
        }
    }
}

/// As IPv6 writes it (RFC 4291 section 2.5.5.2).
fn mapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(v6(address.ip())), address.port())
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}
