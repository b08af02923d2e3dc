//! WebSocket frames, byte for byte (RFC 6455 section 5.2).

use super::wire::Wire;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub last: bool,
    pub opcode: Opcode,
    pub masked: bool,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The status code of a Close frame; `None` if it has none.
    pub fn close_code(&self) -> Option<u16> {
        assert_eq!(self.opcode, Opcode::Close);
        self.payload
            .first_chunk()
            .map(|code| u16::from_be_bytes(*code))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("UTF-8")
    }
}

impl Wire {
    /// The next frame, unmasked if it was masked.
    pub async fn frame(&mut self) -> Frame {
        let [first, second] = self.array().await;
        assert_eq!(first & 0x70, 0, "reserved bits");
        let length = match second & 0x7f {
            126 => u16::from_be_bytes(self.array().await).into(),
            127 => u64::from_be_bytes(self.array().await),
            short => u64::from(short),
        };
        let masked = second & 0x80 != 0;
        let mask: [u8; 4] = if masked { self.array().await } else { [0; 4] };
        let mut payload = self.take(usize::try_from(length).expect("a length")).await;
        apply(mask, &mut payload);
        Frame {
            last: first & 0x80 != 0,
            opcode: opcode(first & 0x0f),
            masked,
            payload,
        }
    }

    async fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).await.try_into().expect("N bytes")
    }
}

/// A frame as a client sends it.
pub fn masked(opcode: Opcode, last: bool, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = header(opcode, last, payload.len(), 0x80);
    bytes.extend(MASK);
    let start = bytes.len();
    bytes.extend(payload);
    apply(MASK, &mut bytes[start..]);
    bytes
}

/// A frame as a server sends it.
pub fn plain(opcode: Opcode, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(opcode, last, payload.len(), 0);
    bytes.extend(payload);
    bytes
}

/// What a Close frame carries.
pub fn close_payload(code: u16) -> [u8; 2] {
    code.to_be_bytes()
}

fn header(opcode: Opcode, last: bool, length: usize, mask_bit: u8) -> Vec<u8> {
    let code = match opcode {
        Opcode::Continuation => 0,
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
    };
    let mut bytes = vec![if last { 0x80 | code } else { code }];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..126), _) => bytes.push(mask_bit | short),
        (_, Ok(medium)) => {
            bytes.push(mask_bit | 126);
            bytes.extend(medium.to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes
}

fn apply(mask: [u8; 4], payload: &mut [u8]) {
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

fn opcode(code: u8) -> Opcode {
    match code {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        other => panic!("reserved opcode {other}"),
    }
}
