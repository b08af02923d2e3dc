//! A WebSocket client that does its own handshake and leaves the frames to tungstenite.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::message::{Head, Request};
use super::soon;
use super::wire::{Transport, Wire};

/// The key of RFC 6455 section 1.3, and the answer to it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A handshake request; `extra` are whole header lines, each with CRLF.
pub fn handshake(target: &str, host: &str, extra: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    )
}

/// The right answer to [`handshake`]; `extra` as there.
pub fn switching(extra: &str) -> String {
    switching_for(KEY, extra)
}

/// The right answer to a handshake with this key.
pub fn switching_for(key: &str, extra: &str) -> String {
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{extra}\r\n"
    )
}

impl Request {
    /// The right answer to this handshake, whose key may be longhaul's own.
    pub fn switching(&self, extra: &str) -> String {
        switching_for(self.header("sec-websocket-key").expect("a key"), extra)
    }

    /// An answer to [`handshake`], made to fit this handshake's key.
    pub fn fitting(&self, answer: &str) -> String {
        let key = self.header("sec-websocket-key").expect("a key");
        answer.replace(ACCEPT, &derive_accept_key(key.as_bytes()))
    }
}

pub struct Ws {
    /// The head of the 101.
    pub head: Head,
    stream: WebSocketStream<Transport>,
}

impl Ws {
    /// Upgrades; any other answer than 101 fails.
    pub async fn open(mut wire: Wire, target: &str, host: &str, extra: &str) -> Self {
        wire.send(handshake(target, host, extra)).await;
        let head = wire.response_head().await;
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT));
        let (transport, ahead) = wire.into_parts();
        let stream =
            WebSocketStream::from_partially_read(transport, ahead, Role::Client, None).await;
        Self { head, stream }
    }

    /// Which backend this is, by its first message.
    pub async fn greeting(&mut self) -> String {
        let text = self.text().await;
        let name = text.strip_prefix("hello from ");
        name.unwrap_or_else(|| panic!("not a greeting: {text:?}"))
            .to_owned()
    }

    pub async fn say(&mut self, text: &str) {
        soon("to send a message", self.stream.send(Message::text(text)))
            .await
            .expect("to send a message");
    }

    /// The next message, which must be a text.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// The same behind any number of pings, which the library answers: how many.
    pub async fn text_after_pings(&mut self) -> (String, usize) {
        let mut pings = 0;
        loop {
            match self.next().await {
                Some(Ok(Message::Ping(_))) => pings += 1,
                Some(Ok(Message::Text(text))) => return (text.as_str().to_owned(), pings),
                other => panic!("not a text: {other:?}"),
            }
        }
    }

    /// Sends a text and gets it back.
    pub async fn echo(&mut self, text: &str) {
        self.say(text).await;
        assert_eq!(self.text().await, text);
    }

    /// Sends a Close frame and waits for the end.
    pub async fn close(mut self, code: u16) {
        use tokio_tungstenite::tungstenite::protocol::CloseFrame;
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        soon("to close", self.stream.close(Some(frame)))
            .await
            .expect("to close");
        while let Some(Ok(_)) = self.next().await {}
    }

    /// Waits for the other side's end and says which code came with it, if a Close frame did.
    pub async fn closed(mut self) -> Option<u16> {
        let mut code = None;
        while let Some(Ok(message)) = self.next().await {
            if let Message::Close(frame) = message {
                code = frame.map(|frame| frame.code.into());
            }
        }
        code
    }

    async fn next(&mut self) -> Option<Result<Message, Error>> {
        soon("a message", self.stream.next()).await
    }
}
