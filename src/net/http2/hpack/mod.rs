//! Header compression, the receiving side (RFC 7541), sans-I/O.
//!
//! It says what a block's fields are and judges none of them.

mod huffman;
mod table;

use std::borrow::Cow;

use table::Table;

/// The state that a connection's blocks share.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    table: Table,
}

/// A block that is not of this compression: the connection cannot go on
/// (RFC 9113 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotHpack;

type Text<'a> = Cow<'a, [u8]>;

impl Decoder {
    /// Calls `each` for every field of a whole block, in their order.
    pub(super) fn decode(
        &mut self,
        mut block: &[u8],
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), NotHpack> {
        let mut begun = false;
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                // A new size of the table comes before every field (section 4.2).
                let size = integer(&mut block, 5).filter(|_| !begun);
                size.and_then(|size| self.table.resize(size))
                    .ok_or(NotHpack)?;
                continue;
            }
            begun = true;
            self.field(first, &mut block, &mut each).ok_or(NotHpack)?;
        }
        Ok(())
    }

    fn field(
        &mut self,
        first: u8,
        block: &mut &[u8],
        each: &mut impl FnMut(&[u8], &[u8]),
    ) -> Option<()> {
        if first & 0x80 != 0 {
            let (name, value) = self.table.get(integer(block, 7)?)?;
            each(name, value);
            return Some(());
        }
        let kept = first & 0x40 != 0;
        let name = match integer(block, if kept { 6 } else { 4 })? {
            0 => text(block)?.into_owned(),
            index => self.table.get(index)?.0.to_vec(),
        };
        let value = text(block)?;
        each(&name, &value);
        if kept {
            self.table.add(&name, &value);
        }
        Some(())
    }
}

/// An integer whose first bits are the last `bits` of the next byte (section 5.1).
fn integer(block: &mut &[u8], bits: u8) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let most = (1_usize << bits) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        // Four bytes more are enough for everything that can be meant.
        for shift in [0, 7, 14, 21] {
            let (next, after) = rest.split_first()?;
            rest = after;
            value += usize::from(next & 0x7f) << shift;
            if next & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

/// A string (section 5.2).
fn text<'a>(block: &mut &'a [u8]) -> Option<Text<'a>> {
    let huffman = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length)?;
    *block = rest;
    match huffman {
        true => huffman::decode(bytes).map(Cow::Owned),
        false => Some(Cow::Borrowed(bytes)),
    }
}

/// Adds a field to a block, as it is and without the table.
pub(super) fn encode(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        put_length(block, text.len());
        block.extend_from_slice(text);
    }
}

fn put_length(block: &mut Vec<u8>, length: usize) {
    const MOST: usize = 0x7f;
    if length < MOST {
        block.push(length as u8);
        return;
    }
    block.push(MOST as u8);
    let mut rest = length - MOST;
    while rest >= 0x80 {
        block.push(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

#[cfg(test)]
mod tests;
