use longhaul::proxy_protocol::{Header, MAX_HEADER, Mistake, Step, Version, parse};

/// PROXY headers: read as they come and never a byte too far, with the same
/// outcome at every pace; and what is written reads as what it says.
pub fn proxy_protocol(data: &[u8]) {
    let read = read_by(data, usize::MAX);
    match (&read, read_by(data, 1)) {
        (Ok(at_once), Ok(one_by_one)) => assert_eq!(at_once, &one_by_one),
        // Which mistake is seen first may differ, that there is one may not.
        (Err(_), Err(_)) => {}
        (read, other) => panic!("{read:?} at once and {other:?} byte by byte"),
    }
    if let Ok(Some((header, length))) = read {
        let more = [&data[..length], b"\0GET / HTTP/1.1\r\n"].concat();
        assert_eq!(parse(&more), Ok(Step::Done(header.clone(), length)));
        written_again(&header);
    }
}

/// As a socket would be read: never more than surely belongs to the header.
fn read_by(bytes: &[u8], most: usize) -> Result<Option<(Header, usize)>, Mistake> {
    let mut have = 0;
    loop {
        match parse(&bytes[..have])? {
            Step::Done(header, length) => {
                assert_eq!(length, have, "bytes behind the header were taken");
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

fn written_again(header: &Header) {
    let addresses = |header: &Header| match header {
        Header::Local => None,
        Header::Proxied(proxied) => proxied.addresses,
    };
    let binary = Version::Two.write(header);
    let again = read_by(&binary, 1).expect("a header").expect("all of it");
    assert_eq!(again.1, binary.len());
    // Without addresses the rest is not passed on.
    if addresses(header).is_some() {
        assert_eq!(&again.0, header);
    }
    let line = Version::One.write(header);
    let again = read_by(&line, 1).expect("a line").expect("all of it");
    assert_eq!(addresses(&again.0), addresses(header));
}
