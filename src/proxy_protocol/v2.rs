//! Version 2: binary, with what else is known in TLVs (section 2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Header, MAX_HEADER, Mistake, Proxied, Step, Tls};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length of the rest.
const FIXED: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;

const CLIENT_SSL: u8 = 0x01;
/// On this connection, not only in the session that it resumes.
const CLIENT_CERT_CONN: u8 = 0x02;

/// `bytes` begin with the signature.
pub(super) fn parse(bytes: &[u8]) -> Result<Step, Mistake> {
    let Some(fixed) = bytes.get(..FIXED) else {
        return Ok(Step::More(FIXED - bytes.len()));
    };
    let (command, family) = (fixed[12], fixed[13]);
    if !matches!(command, LOCAL | PROXY) {
        return Err(Mistake::Malformed("another version or command than 2 has"));
    }
    let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MAX_HEADER {
        return Err(Mistake::TooLong);
    }
    let Some(whole) = bytes.get(..length) else {
        return Ok(Step::More(length - bytes.len()));
    };
    let header = match command {
        // Family and the rest are to be ignored (section 2.2).
        LOCAL => Header::Local,
        _ => Header::Proxied(proxied(whole, family)?),
    };
    Ok(Step::Done(header, length))
}

fn proxied(whole: &[u8], family: u8) -> Result<Proxied, Mistake> {
    let rest = &whole[FIXED..];
    // Bytes of the addresses of each family; protocols are streams and datagrams.
    let (size, is_stream) = match (family >> 4, family & 0xf) {
        (0, 0..=2) => return Ok(Proxied::default()),
        (1, kind @ 0..=2) => (12, kind == 1),
        (2, kind @ 0..=2) => (36, kind == 1),
        (3, 0..=2) => (216, false),
        _ => return Err(Mistake::Malformed("its family is none")),
    };
    let Some((addresses, tlvs)) = rest.split_at_checked(size) else {
        return Err(Mistake::Malformed("it is shorter than its addresses"));
    };
    let mut proxied = Proxied {
        addresses: is_stream.then(|| read_addresses(addresses)).flatten(),
        ..Proxied::default()
    };
    let mut tlvs = Tlvs(tlvs);
    while let Some(tlv) = tlvs.next() {
        let (kind, value) = tlv?;
        match kind {
            ALPN => proxied.alpn = text(value),
            AUTHORITY => proxied.authority = text(value),
            SSL => proxied.tls = tls(value)?,
            CRC32C => check(whole, whole.len() - tlvs.0.len() - value.len(), value)?,
            _ => {}
        }
    }
    Ok(proxied)
}

fn read_addresses(bytes: &[u8]) -> Option<Addresses> {
    // Both addresses, then both ports.
    let (ips, ports) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let (source, destination) = ips.split_at_checked(ips.len() / 2)?;
    let ip = |bytes: &[u8]| match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some(Addresses {
        source: SocketAddr::new(ip(source)?, port(0)),
        destination: SocketAddr::new(ip(destination)?, port(2)),
    })
}

/// What cannot be read is not worth the connection.
fn text(value: &[u8]) -> Option<String> {
    str::from_utf8(value).ok().map(str::to_owned)
}

fn tls(value: &[u8]) -> Result<Option<Tls>, Mistake> {
    let Some((&[client, a, b, c, d], tlvs)) = value.split_first_chunk() else {
        return Err(Mistake::Malformed("its part about TLS is too short"));
    };
    if client & CLIENT_SSL == 0 {
        return Ok(None);
    }
    let mut tls = Tls {
        version: None,
        // Zero is good, where there is a certificate.
        verified: client & CLIENT_CERT_CONN != 0 && [a, b, c, d] == [0; 4],
    };
    for tlv in Tlvs(tlvs) {
        if let (SSL_VERSION, value) = tlv? {
            tls.version = text(value);
        }
    }
    Ok(Some(tls))
}

/// The sum is that of the whole header with zeros in its own place.
fn check(whole: &[u8], at: usize, value: &[u8]) -> Result<(), Mistake> {
    let Ok(sum) = <[u8; 4]>::try_from(value) else {
        return Err(Mistake::Malformed("its checksum is none"));
    };
    let sum_before = crc32c::crc32c(&whole[..at]);
    let with_zeros = crc32c::crc32c_append(sum_before, &[0; 4]);
    let found = crc32c::crc32c_append(with_zeros, &whole[at + 4..]);
    match found == u32::from_be_bytes(sum) {
        true => Ok(()),
        false => Err(Mistake::Checksum),
    }
}

/// Type, length, value, one behind the other.
struct Tlvs<'a>(&'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<(u8, &'a [u8]), Mistake>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.0);
        if rest.is_empty() {
            return None;
        }
        let split = rest.split_first_chunk().and_then(|(&[kind, a, b], rest)| {
            let length = usize::from(u16::from_be_bytes([a, b]));
            let (value, rest) = rest.split_at_checked(length)?;
            self.0 = rest;
            Some((kind, value))
        });
        Some(split.ok_or(Mistake::Malformed("a TLV is longer than the header")))
    }
}

pub(super) fn write(header: &Header) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    let Header::Proxied(proxied) = header else {
        bytes.extend([LOCAL, UNSPECIFIED, 0, 0]);
        return bytes;
    };
    let Some(addresses) = proxied.addresses else {
        bytes.extend([PROXY, UNSPECIFIED, 0, 0]);
        return bytes;
    };
    let mut rest = Vec::new();
    let family = write_addresses(&mut rest, addresses);
    for (kind, name) in [(ALPN, &proxied.alpn), (AUTHORITY, &proxied.authority)] {
        if let Some(name) = name {
            push(&mut rest, kind, name.as_bytes());
        }
    }
    if let Some(tls) = &proxied.tls {
        let mut value = match tls.verified {
            true => vec![CLIENT_SSL | CLIENT_CERT_CONN, 0, 0, 0, 0],
            false => vec![CLIENT_SSL, 0, 0, 0, 1],
        };
        if let Some(version) = &tls.version {
            push(&mut value, SSL_VERSION, version.as_bytes());
        }
        push(&mut rest, SSL, &value);
    }
    bytes.extend([PROXY, family]);
    bytes.extend(length(&rest));
    bytes.extend(rest);
    bytes
}

fn write_addresses(to: &mut Vec<u8>, addresses: Addresses) -> u8 {
    let (source, destination) = (addresses.source, addresses.destination);
    let mut put = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => to.extend(Ipv4Addr::octets(&ip)),
        IpAddr::V6(ip) => to.extend(Ipv6Addr::octets(&ip)),
    };
    put(source.ip());
    put(destination.ip());
    to.extend(source.port().to_be_bytes());
    to.extend(destination.port().to_be_bytes());
    if source.is_ipv4() { TCP4 } else { TCP6 }
}

/// Names are cut where a receiver that holds to the text would not take them.
fn push(to: &mut Vec<u8>, kind: u8, value: &[u8]) {
    const LONGEST: usize = 255;
    let value = &value[..value.len().min(LONGEST)];
    to.push(kind);
    to.extend(length(value));
    to.extend(value);
}

/// Everything here is far shorter than 64 KiB.
fn length(value: &[u8]) -> [u8; 2] {
    u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes()
}
