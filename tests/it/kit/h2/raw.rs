//! A connection whose every frame the test decides.
//!
//! It answers nothing by itself.

use loona_hpack::{Decoder, Encoder};

use super::{Flag, Frame, Kind, PREFACE};
use crate::kit::message::Headers;
use crate::kit::{Proxy, Wire};

pub struct Raw {
    pub wire: Wire,
    encoder: Encoder<'static>,
    decoder: Decoder<'static>,
}

impl Raw {
    pub fn new(wire: Wire) -> Self {
        Self {
            wire,
            encoder: Encoder::new(),
            decoder: Decoder::new(),
        }
    }

    /// A plain connection on which preface and settings have been exchanged,
    /// and the server's settings.
    pub async fn open(proxy: &Proxy) -> (Self, Vec<(u16, u32)>) {
        Self::open_with(proxy, &[]).await
    }

    /// With settings of the client's own.
    pub async fn open_with(proxy: &Proxy, own: &[(u16, u32)]) -> (Self, Vec<(u16, u32)>) {
        let mut raw = Self::new(proxy.connect_plainly().await);
        raw.wire.send(PREFACE).await;
        raw.send(Frame::settings(own)).await;
        let first = raw.frame().await;
        let settings = first.read_settings();
        assert!(!first.has(Flag::ACK), "the server's preface is SETTINGS");
        raw.send(Frame::new(Kind::SETTINGS, Flag::ACK, 0, [])).await;
        raw.until(|frame| frame.kind == Kind::SETTINGS && frame.has(Flag::ACK))
            .await;
        (raw, settings)
    }

    pub async fn send(&mut self, frame: Frame) {
        self.wire.send(frame.bytes()).await;
    }

    /// Sends, though the other side may have gone.
    pub async fn try_send(&mut self, frame: Frame) -> std::io::Result<()> {
        self.wire.try_send(frame.bytes()).await
    }

    /// A header block.
    pub fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let headers = headers.iter();
        self.encoder
            .encode(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    }

    /// One HEADERS frame with these fields; `flags` beside END_HEADERS.
    pub fn headers(&mut self, stream: u32, flags: u8, headers: &[(&str, &str)]) -> Frame {
        let block = self.block(headers);
        Frame::new(Kind::HEADERS, Flag::END_HEADERS | flags, stream, block)
    }

    /// The next frame; the end of the connection fails.
    pub async fn frame(&mut self) -> Frame {
        let frame = self.next_frame().await;
        frame.expect("a frame, not the end of the connection")
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next_frame(&mut self) -> Option<Frame> {
        let header = self.wire.try_take(Frame::HEADER).await?;
        let header = header.try_into().expect("a header");
        let (mut frame, length) = Frame::parse_header(&header);
        frame.payload = self.wire.try_take(length).await?;
        Some(frame)
    }

    /// A frame that has arrived by now.
    pub async fn arrived(&mut self) -> Option<Frame> {
        match self.wire.has_arrived().await {
            true => self.next_frame().await,
            false => None,
        }
    }

    /// The next frame that is wanted; others before it are passed over.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.frame().await;
            if wanted(&frame) {
                return frame;
            }
            assert_ne!(frame.kind, Kind::GOAWAY, "{frame:?}");
        }
    }

    /// The next frame of this stream, credit left out.
    pub async fn of_stream(&mut self, stream: u32) -> Frame {
        self.until(|frame| frame.stream == stream && frame.kind != Kind::WINDOW_UPDATE)
            .await
    }

    /// The fields of a HEADERS frame. All must be decoded, in their order.
    pub fn decode(&mut self, frame: &Frame) -> Headers {
        assert_eq!(frame.kind, Kind::HEADERS, "{frame:?}");
        assert!(frame.has(Flag::END_HEADERS), "a block in one frame");
        let fields = self.decoder.decode(&frame.payload).expect("HPACK");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        fields
            .into_iter()
            .map(|(n, v)| (text(n), text(v)))
            .collect()
    }

    /// The status of the next response on this stream.
    pub async fn status(&mut self, stream: u32) -> u16 {
        let frame = self.of_stream(stream).await;
        let headers = self.decode(&frame);
        let (name, status) = &headers[0];
        assert_eq!(name, ":status");
        status.parse().expect("a status")
    }
}
