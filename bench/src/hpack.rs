//! Header blocks of HTTP/2 (RFC 7541): the one that asks for a tunnel, and the status of an answer.
//!
//! It deliberately keeps no table: requests are literals, and of an answer only the status is read, which comes first and
//! is in every table from the start. Invariant: a block that begins otherwise has no status, never a wrong one.

/// The header block of an extended CONNECT, all literals, so that it says the same at any time of a connection.
pub fn connect_block(secure: bool, authority: &str, path: &str, protocol: &str) -> Vec<u8> {
    // Indices of the static table: 1 :authority, 2 :method, 4 :path, 6 and 7 :scheme, 58 user-agent.
    let mut block = Vec::new();
    push_literal(Name::Index(2), "CONNECT", &mut block);
    push_literal(Name::New(":protocol"), protocol, &mut block);
    block.push(if secure { 0x87 } else { 0x86 });
    push_literal(Name::Index(4), path, &mut block);
    push_literal(Name::Index(1), authority, &mut block);
    push_literal(Name::New("sec-websocket-version"), "13", &mut block);
    push_literal(Name::Index(58), "lhbench", &mut block);
    block
}

enum Name {
    Index(u8),
    New(&'static str),
}

// A literal that goes into no table (RFC 7541 section 6.2.2), not in Huffman's code.
fn push_literal(name: Name, value: &str, out: &mut Vec<u8>) {
    match name {
        Name::Index(index) => push_integer(0, 4, usize::from(index), out),
        Name::New(name) => {
            out.push(0);
            push_integer(0, 7, name.len(), out);
            out.extend_from_slice(name.as_bytes());
        }
    }
    push_integer(0, 7, value.len(), out);
    out.extend_from_slice(value.as_bytes());
}

// An integer in the low `bits` of a byte and, when it does not fit, in more bytes (RFC 7541 section 5.1).
fn push_integer(first: u8, bits: u8, value: usize, out: &mut Vec<u8>) {
    let most = (1_usize << bits) - 1;
    if value < most {
        out.push(first | value as u8);
        return;
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The status that a header block begins with; None when it begins with anything else.
pub fn status(mut block: &[u8]) -> Option<u16> {
    // New sizes of the dynamic table come before all fields.
    while let [first, rest @ ..] = block
        && first >> 5 == 1
    {
        // Sizes above 30 go on in bytes with the top bit, and one without.
        let more = first & 0x1f == 0x1f;
        let end = rest.iter().position(|b| b & 0x80 == 0).filter(|_| more);
        block = &rest[end.map_or(0, |at| at + 1)..];
    }
    let (first, rest) = block.split_first()?;
    match first {
        0x88..=0x8e => Some([200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)]),
        // The name is `:status` by any of its seven indices; the value is spelled out.
        0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e => {
            let (length, value) = rest.split_first()?;
            let value = value.get(..usize::from(length & 0x7f))?;
            if length & 0x80 == 0 {
                std::str::from_utf8(value).ok()?.parse().ok()
            } else {
                huffman_number(value)
            }
        }
        _ => None,
    }
}

// Three digits in Huffman's code (RFC 7541 appendix B): 0, 1 and 2 have five bits, 3 to 9 have six, 011001 and on.
fn huffman_number(bytes: &[u8]) -> Option<u16> {
    let mut word = [0; 4];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let mut bits = u32::from_be_bytes(word);
    let mut number = 0;
    for _ in 0..3 {
        let (digit, length) = match (bits >> 27, bits >> 26) {
            (short @ 0..=2, _) => (short, 5),
            (_, long @ 0b01_1001..=0b01_1111) => (long - 0b01_1001 + 3, 6),
            _ => return None,
        };
        number = number * 10 + digit as u16;
        bits <<= length;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_the_rfc_and_others() {
        // RFC 7541 appendices C.5.1, C.6.1 and C.6.2; the rest by its tables.
        for (block, expected) in [
            (&b"\x88"[..], Some(200)),
            (b"\x20\x88", Some(200)),
            (b"\x3f\xe1\x1f\x88", Some(200)),
            (b"\x48\x03302\x58", Some(302)),
            (b"\x48\x82\x64\x02\x58", Some(302)),
            (b"\x48\x83\x64\x0e\xff\xc1", Some(307)),
            (b"\x08\x03501", Some(501)),
            (b"\x8d", Some(404)),
            (b"\x82", None),
            (b"\x48\x09200", None),
            (b"", None),
        ] {
            assert_eq!(status(block), expected, "{block:x?}");
        }
    }

    #[test]
    fn integers_of_the_rfc() {
        // RFC 7541 appendix C.1: 10 and 1337 in five bits.
        for (value, expected) in [(10, &[10_u8][..]), (31, &[31, 0]), (1337, &[31, 154, 10])] {
            let mut out = Vec::new();
            push_integer(0, 5, value, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_request_is_literals() {
        let block = connect_block(true, "a", "/", "websocket");
        let expected = b"\x02\x07CONNECT\0\x09:protocol\x09websocket\x87\x04\x01/\x01\x01a\0\x15sec-websocket-version\x0213\x0f\x2b\x07lhbench";
        assert_eq!(block, expected);
    }
}
