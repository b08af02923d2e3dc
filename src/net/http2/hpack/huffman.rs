//! The Huffman code of header compression (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical, so the lengths are all that has to be written down.

use std::sync::LazyLock;

/// Bits of the code of each byte, and last of the end of string.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const SYMBOLS: usize = 257;
const END: u16 = 256;
const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// For each length the first code and where its symbols begin.
struct Code {
    first: [u32; LONGEST + 1],
    begin: [u16; LONGEST + 1],
    count: [u16; LONGEST + 1],
    /// By length, then by value.
    symbols: Vec<u16>,
}

static CODE: LazyLock<Code> = LazyLock::new(|| {
    let mut code = Code {
        first: [0; LONGEST + 1],
        begin: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        symbols: Vec::with_capacity(SYMBOLS),
    };
    let mut next = 0;
    for length in SHORTEST..=LONGEST {
        code.first[length] = next;
        code.begin[length] = code.symbols.len() as u16;
        let of_length = (0..=END).filter(|symbol| LENGTHS[*symbol as usize] as usize == length);
        code.symbols.extend(of_length);
        code.count[length] = code.symbols.len() as u16 - code.begin[length];
        next = (next + u32::from(code.count[length])) << 1;
    }
    code
});

/// The text; `None` if it is not of this code.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let code = &*CODE;
    // Five bits are the least for a byte.
    let mut text = Vec::with_capacity(bytes.len() * 8 / SHORTEST);
    let (mut value, mut length) = (0_u32, 0);
    for byte in bytes {
        for bit in (0..8).rev() {
            value = value << 1 | u32::from(byte >> bit & 1);
            length += 1;
            if length > LONGEST {
                return None;
            }
            let offset = value.wrapping_sub(code.first[length]);
            if value < code.first[length] || offset >= u32::from(code.count[length]) {
                continue;
            }
            let symbol = code.symbols[usize::from(code.begin[length]) + offset as usize];
            // The end of string must not be written (section 5.2).
            text.push(u8::try_from(symbol).ok()?);
            (value, length) = (0, 0);
        }
    }
    // What is left is the beginning of the end of string: ones, less than a byte.
    (length < 8 && value == (1 << length) - 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_rfc() {
        let examples: [(&[u8], &str); 5] = [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (
                &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f],
                "custom-key",
            ),
            (
                &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf],
                "custom-value",
            ),
            (&[0x64, 0x02], "302"),
        ];
        for (bytes, text) in examples {
            assert_eq!(decode(bytes).as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn padding_is_ones_and_shorter_than_a_byte() {
        // "a" is 00011.
        assert_eq!(decode(&[0b0001_1111]).as_deref(), Some(&b"a"[..]));
        assert_eq!(decode(&[0b0001_1000]), None);
        assert_eq!(decode(&[0b0001_1111, 0xff]), None);
        assert_eq!(decode(&[0xff; 4]), None);
        assert_eq!(decode(&[]).as_deref(), Some(&b""[..]));
    }
}
