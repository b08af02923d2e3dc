//! The vectors of RFC 7541, blocks that are none, and what comes back of what was
//! encoded.

use proptest::prelude::*;

use super::*;

type Fields = Vec<(String, String)>;

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, NotHpack> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decoder.decode(block, |name, value| fields.push((text(name), text(value))))?;
    Ok(fields)
}

fn fields(expected: &[(&str, &str)]) -> Fields {
    let owned = expected.iter().map(|(n, v)| (n.to_string(), v.to_string()));
    owned.collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// Appendix C.3 and C.4: three requests on one connection, without and with
/// Huffman coding.
#[test]
fn requests_of_the_rfc() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::default();
        let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
        let host = (":authority", "www.example.com");
        let expected = [
            fields(&[usual[0], usual[1], usual[2], host]),
            fields(&[
                usual[0],
                usual[1],
                usual[2],
                host,
                ("cache-control", "no-cache"),
            ]),
            fields(&[
                usual[0],
                (":scheme", "https"),
                (":path", "/index.html"),
                host,
                ("custom-key", "custom-value"),
            ]),
        ];
        for (block, expected) in blocks.iter().zip(expected) {
            assert_eq!(decoded(&mut decoder, &bytes(block)), Ok(expected));
        }
    }
}

/// Appendix C.5: the oldest entries go when the table is full.
#[test]
fn entries_are_evicted() {
    let mut decoder = Decoder::default();
    // The table is made 256 bytes large first.
    let first = "3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 \
        3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 \
        2e63 6f6d";
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let location = ("location", "https://www.example.com");
    let private = ("cache-control", "private");
    assert_eq!(
        decoded(&mut decoder, &bytes(first)),
        Ok(fields(&[(":status", "302"), private, date, location]))
    );
    assert_eq!(
        decoded(&mut decoder, &bytes("4803 3330 37c1 c0bf")),
        Ok(fields(&[(":status", "307"), private, date, location]))
    );
    // ":status 302" had to go: there are four entries and no fifth.
    assert_eq!(decoded(&mut decoder, &[0x80 | 66]), Err(NotHpack));
}

#[test]
fn what_is_no_block_is_found() {
    for block in [
        &[0x80][..],                           // index 0
        &[0xff, 0x80],                         // an integer cut off
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], // one beyond all bounds
        &[0xbe],                               // an entry that is not there
        &[0x00, 0x05, b'a'],                   // a string cut off
        &[0x00, 0x81, 0x00, 0x00],             // bad padding
        &[0x82, 0x20],                         // a size behind a field
        &[0x3f, 0xe2, 0x1f],                   // a size of 4097
    ] {
        let result = decoded(&mut Decoder::default(), block);
        assert_eq!(result, Err(NotHpack), "{block:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_block_or_none(block in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::default();
        let _ = decoded(&mut decoder, &block);
        let _ = decoded(&mut decoder, &block);
    }

    #[test]
    fn what_was_encoded_comes_back(
        written in proptest::collection::vec(("[a-z-]{1,20}", ".{0,300}"), 0..10)
    ) {
        let mut block = Vec::new();
        for (name, value) in &written {
            encode(&mut block, name.as_bytes(), value.as_bytes());
        }
        prop_assert_eq!(decoded(&mut Decoder::default(), &block), Ok(written));
    }
}
