//! Headers as the text has them, and bytes that are none.

use proptest::prelude::*;

use super::*;

/// Reads as a socket would be read: never more than is surely the header's.
fn read_by(bytes: &[u8], most: usize) -> Result<Option<(Header, usize)>, Mistake> {
    let mut have = 0;
    loop {
        match parse(&bytes[..have])? {
            Step::Done(header, length) => {
                assert_eq!(length, have, "not one byte too many");
                return Ok(Some((header, length)));
            }
            Step::More(wanted) => {
                assert!(wanted > 0 && have + wanted <= MAX_HEADER, "{wanted}");
                let more = wanted.min(most).min(bytes.len() - have);
                if more == 0 {
                    return Ok(None);
                }
                have += more;
            }
        }
    }
}

fn proxied(source: &str, destination: &str) -> Header {
    Header::Proxied(Proxied {
        addresses: Some(Addresses {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }),
        ..Proxied::default()
    })
}

fn unknown() -> Header {
    Header::Proxied(Proxied::default())
}

/// A header of version 2 around addresses and TLVs.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = v2::SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    bytes.extend(rest);
    bytes
}

const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0x01, 0xbb];

fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[V4, tlvs].concat())
}

/// The sum over the header in which `at` are its four bytes.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&bytes).to_be_bytes();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&sum);
    bytes
}

fn good() -> Vec<(Vec<u8>, Header)> {
    let v4 = || proxied("192.0.2.1:12345", "198.51.100.2:443");
    let text = |line: &str, header| (format!("{line}\r\n").into_bytes(), header);
    let v6: Vec<u8> = [[1; 16], [2; 16]].concat();
    vec![
        text("PROXY TCP4 192.0.2.1 198.51.100.2 12345 443", v4()),
        text(
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 0",
            proxied("1.1.1.1:1", "2.2.2.2:0"),
        ),
        text(
            "PROXY TCP6 ::1 2001:db8::2 65535 1",
            proxied("[::1]:65535", "[2001:db8::2]:1"),
        ),
        text("PROXY UNKNOWN", unknown()),
        text("PROXY UNKNOWN what\rever  it is", unknown()),
        text(
            "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
            unknown(),
        ),
        (binary(0x20, 0x00, b""), Header::Local),
        (binary(0x20, 0x11, V4), Header::Local),
        (binary(0x20, 0xff, b"ignored"), Header::Local),
        (binary(0x21, 0x00, b"ignored"), unknown()),
        (binary(0x21, 0x31, &[0; 216]), unknown()),
        (binary(0x21, 0x12, V4), unknown()),
        (with_tlvs(b""), v4()),
        (with_tlvs(&[4, 0, 2, 0, 0, 0xea, 0, 1, 9]), v4()),
        (
            binary(0x21, 0x21, &[&*v6, &[0, 1, 0, 2]].concat()),
            proxied(
                "[101:101:101:101:101:101:101:101]:1",
                "[202:202:202:202:202:202:202:202]:2",
            ),
        ),
        (sealed(with_tlvs(&[3, 0, 4, 0, 0, 0, 0])), v4()),
    ]
}

#[test]
fn good_headers_are_read_whole_and_byte_by_byte() {
    for (bytes, header) in good() {
        let followed = [&*bytes, b"GET / HTTP/1.1\r\n"].concat();
        for most in [1, 2, 7, usize::MAX] {
            let read = read_by(&followed, most);
            assert_eq!(read, Ok(Some((header.clone(), bytes.len()))), "{bytes:?}");
        }
        // Also of a reader that has read beyond it.
        let step = Step::Done(header, bytes.len());
        assert_eq!(parse(&followed), Ok(step), "{bytes:?}");
    }
}

#[test]
fn every_truncation_wants_more() {
    for (bytes, _) in good() {
        for length in 0..bytes.len() {
            let step = parse(&bytes[..length]);
            let Ok(Step::More(wanted)) = step else {
                panic!("{step:?} at {length} of {bytes:?}");
            };
            assert!(
                wanted <= bytes.len() - length,
                "{wanted} at {length} of {bytes:?}"
            );
        }
    }
}

#[test]
fn what_is_no_header_is_told_at_the_first_wrong_byte() {
    for bytes in [
        &b"G"[..],
        b"GET / HTTP/1.1\r\n",
        b"PROXZ",
        b"\x16\x03\x01",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"PROXY\t",
    ] {
        assert_eq!(read_by(bytes, 1), Err(Mistake::NotAHeader), "{bytes:?}");
    }
}

#[test]
fn wrong_headers_are_mistakes() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 12345",
        "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443 ",
        "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443 1",
        "PROXY TCP4  192.0.2.1 198.51.100.2 12345 443",
        "PROXY TCP4 192.0.2.1 198.51.100.2 12345 65536",
        "PROXY TCP4 192.0.2.1 198.51.100.2 012345 443",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1234 443",
        "PROXY TCP4 192.0.2.01 198.51.100.2 12345 443",
        "PROXY TCP4 ::1 ::1 12345 443",
        "PROXY TCP6 192.0.2.1 198.51.100.2 12345 443",
        "PROXY UDP4 192.0.2.1 198.51.100.2 12345 443",
        "PROXY TCP4 192.0.2.1 198.51.100.\u{fe} 12345 443",
    ] {
        let bytes = format!("{line}\r\n").into_bytes();
        for most in [1, usize::MAX] {
            let read = read_by(&bytes, most);
            assert!(
                matches!(read, Err(Mistake::Malformed(_))),
                "{line}: {read:?}"
            );
        }
    }
    let mut forged = sealed(with_tlvs(&[3, 0, 4, 0, 0, 0, 0]));
    forged[16] ^= 1;
    assert_eq!(parse(&forged), Err(Mistake::Checksum));
    for bytes in [
        binary(0x11, 0x11, V4),
        binary(0x22, 0x11, V4),
        binary(0x21, 0x41, V4),
        binary(0x21, 0x13, V4),
        binary(0x21, 0x11, &V4[1..]),
        binary(0x21, 0x21, V4),
        binary(0x21, 0x31, V4),
        with_tlvs(&[4]),
        with_tlvs(&[4, 0, 3, 0, 0]),
        with_tlvs(&[3, 0, 3, 0, 0, 0]),
        with_tlvs(&[0x20, 0, 4, 1, 0, 0, 0]),
        with_tlvs(&[0x20, 0, 7, 1, 0, 0, 0, 0, 0x21, 0]),
    ] {
        let read = read_by(&bytes, usize::MAX);
        assert!(
            matches!(read, Err(Mistake::Malformed(_))),
            "{bytes:?}: {read:?}"
        );
    }
}

#[test]
fn no_header_is_longer_than_its_bound() {
    let endless = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
    assert_eq!(read_by(&endless, usize::MAX), Err(Mistake::TooLong));
    assert_eq!(read_by(&endless, 1), Err(Mistake::TooLong));
    let largest = MAX_HEADER - 16;
    let filler = |size: usize| {
        let length = u16::try_from(size - V4.len() - 3).unwrap().to_be_bytes();
        let tlv = [&[4], &length[..], &vec![0; size - V4.len() - 3]].concat();
        with_tlvs(&tlv)
    };
    assert!(matches!(read_by(&filler(largest), usize::MAX), Ok(Some(_))));
    let beyond = filler(largest + 1);
    // Before it is there.
    assert_eq!(parse(&beyond[..16]), Err(Mistake::TooLong));
}

#[test]
fn what_is_known_of_tls_is_read() {
    let tlvs = [
        &[1, 0, 2][..],
        b"h2",
        &[2, 0, 6],
        b"a.test",
        &[0x20, 0, 15, 0x03, 0, 0, 0, 0, 0x21, 0, 7],
        b"TLSv1.3",
    ]
    .concat();
    let Ok(Step::Done(Header::Proxied(proxied), _)) = parse(&with_tlvs(&tlvs)) else {
        panic!("no header");
    };
    assert_eq!(proxied.alpn.as_deref(), Some("h2"));
    assert_eq!(proxied.authority.as_deref(), Some("a.test"));
    let tls = Tls {
        version: Some("TLSv1.3".to_owned()),
        verified: true,
    };
    assert_eq!(proxied.tls, Some(tls));
    // A client that speaks none.
    let none = with_tlvs(&[0x20, 0, 5, 0, 0, 0, 0, 0]);
    let Ok(Step::Done(Header::Proxied(proxied), _)) = parse(&none) else {
        panic!("no header");
    };
    assert_eq!(proxied.tls, None);
}

#[test]
fn both_addresses_are_of_one_family() {
    let mixed = Addresses::new(
        "[::ffff:192.0.2.1]:1".parse().unwrap(),
        "198.51.100.2:2".parse().unwrap(),
    );
    assert_eq!(mixed.source, "192.0.2.1:1".parse().unwrap());
    let mixed = Addresses::new(
        "192.0.2.1:1".parse().unwrap(),
        "[2001:db8::2]:2".parse().unwrap(),
    );
    assert_eq!(mixed.source, "[::ffff:192.0.2.1]:1".parse().unwrap());
    let header = Header::Proxied(Proxied {
        addresses: Some(mixed),
        ..Proxied::default()
    });
    let line = b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n";
    assert_eq!(Version::One.write(&header), line);
}

fn proxied_headers() -> impl Strategy<Value = Header> {
    let address = || any::<(IpAddr, u16)>().prop_map(SocketAddr::from);
    let name = || proptest::option::of("[a-z0-9.-]{1,80}");
    let tls = (proptest::option::of("TLSv1\\.[0-3]"), any::<bool>());
    let tls = tls.prop_map(|(version, verified)| Tls { version, verified });
    let of_client = (
        address(),
        address(),
        name(),
        name(),
        proptest::option::of(tls),
    );
    let of_client = of_client.prop_map(|(source, destination, alpn, authority, tls)| {
        Header::Proxied(Proxied {
            addresses: Some(Addresses::new(source, destination)),
            tls,
            alpn,
            authority,
        })
    });
    prop_oneof![Just(Header::Local), Just(unknown()), of_client]
}

fn addresses_of(header: &Header) -> Option<Addresses> {
    match header {
        Header::Local => None,
        Header::Proxied(proxied) => proxied.addresses,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(header in proxied_headers()) {
        let bytes = Version::Two.write(&header);
        prop_assert_eq!(read_by(&bytes, 1), Ok(Some((header.clone(), bytes.len()))));
        let line = Version::One.write(&header);
        let Ok(Some((read, _))) = read_by(&line, 1) else {
            return Err(TestCaseError::fail("no header"));
        };
        prop_assert_eq!(addresses_of(&read), addresses_of(&header));
    }

    #[test]
    fn random_bytes_are_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        let behind = |mark: &[u8]| [mark, &*bytes].concat();
        for bytes in [behind(b"PROXY "), behind(b"PROXY TCP4 "), behind(v2::SIGNATURE)] {
            prop_assert_eq!(read_by(&bytes, 1).ok(), read_by(&bytes, usize::MAX).ok());
        }
        // All of them as what the lengths of a whole header say.
        for family in [0x11, 0x21, 0x31] {
            let _ = parse(&binary(0x21, family, &bytes));
        }
        let _ = parse(&with_tlvs(&bytes));
    }

    #[test]
    fn changed_headers_are_no_harm(header in proxied_headers(), at: prop::sample::Index, byte: u8) {
        for version in [Version::One, Version::Two] {
            let mut bytes = version.write(&header);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            prop_assert_eq!(read_by(&bytes, 1).ok(), read_by(&bytes, usize::MAX).ok());
        }
    }
}
