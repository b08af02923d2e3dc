//! HTTP/2 frames, byte for byte (RFC 9113 sections 4.1 and 6).

/// The types of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u8);

impl Kind {
    pub const DATA: Self = Self(0);
    pub const HEADERS: Self = Self(1);
    pub const PRIORITY: Self = Self(2);
    pub const RST_STREAM: Self = Self(3);
    pub const SETTINGS: Self = Self(4);
    pub const PUSH_PROMISE: Self = Self(5);
    pub const PING: Self = Self(6);
    pub const GOAWAY: Self = Self(7);
    pub const WINDOW_UPDATE: Self = Self(8);
    pub const CONTINUATION: Self = Self(9);
}

/// Flags of frames; some share a bit.
pub struct Flag;

impl Flag {
    pub const NONE: u8 = 0;
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Identifiers of settings (RFC 9113 section 6.5.2, RFC 8441 section 3).
pub struct Setting;

impl Setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Error codes (RFC 9113 section 7).
pub struct Code;

impl Code {
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub const HEADER: usize = 9;

    pub fn new(kind: Kind, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        Self::new(Kind::SETTINGS, Flag::NONE, 0, payload)
    }

    pub fn credit(stream: u32, bytes: u32) -> Self {
        Self::new(Kind::WINDOW_UPDATE, Flag::NONE, stream, bytes.to_be_bytes())
    }

    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(Kind::RST_STREAM, Flag::NONE, stream, code.to_be_bytes())
    }

    pub fn data(stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self::new(Kind::DATA, Flag::NONE, stream, payload)
    }

    pub fn ending(mut self) -> Self {
        self.flags |= Flag::END_STREAM;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a length");
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind.0, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// A frame's header: the frame without its payload, and the payload's length.
    pub fn parse_header(header: &[u8; Self::HEADER]) -> (Self, usize) {
        let [a, b, c, kind, flags, d, e, f, g] = *header;
        let stream = u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        (Self::new(Kind(kind), flags, stream, []), length)
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The settings of a SETTINGS frame.
    pub fn read_settings(&self) -> Vec<(u16, u32)> {
        assert_eq!(self.kind, Kind::SETTINGS);
        let pairs = self.payload.chunks(6).map(|pair| {
            let [a, b, c, d, e, f] = pair.try_into().expect("six bytes for each setting");
            (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))
        });
        pairs.collect()
    }

    /// The number at a place of the payload.
    pub fn number(&self, at: usize) -> u32 {
        let bytes = self.payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes)
    }
}
