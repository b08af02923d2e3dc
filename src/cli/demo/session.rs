//! One page's WebSocket at one demo backend, from hello to Close.
//!
//! It answers heartbeats at once, passes on what the room says and what
//! longhaul's status says, and tells the room what the page says. It keeps no
//! state of its own that would outlive the socket.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::files::Edit;
use super::hub::{Hub, Line, Person, Seat, now};
use super::watch::Status;

/// Bytes of one message from a page.
const MESSAGE_LIMIT: usize = 16 * 1024;

/// What a backend gives each of its sessions.
#[derive(Debug)]
pub struct Place {
    pub backend: &'static str,
    pub hub: Arc<Hub>,
    pub status: watch::Receiver<Status>,
    /// The file that the edits change.
    pub file: String,
    pub edits: Vec<Edit>,
}

/// What the backend saw of the handshake, to show that the proxy kept it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Handshake {
    pub host: String,
    pub forwarded_for: String,
    pub forwarded_proto: String,
}

#[derive(Debug, Serialize)]
#[serde(tag = "t", rename_all = "snake_case")]
enum ToPage<'a> {
    Hello {
        me: &'a Person,
        since: u64,
        handshake: &'a Handshake,
        people: &'a [Person],
        lines: &'a [Line],
        file: &'a str,
        edits: &'a [Edit],
    },
    Pong {
        n: u64,
    },
    Status(&'a Status),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
enum FromPage {
    Ping { n: u64 },
    Say { text: String },
    Rename { name: String },
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type SocketResult<T> = Result<T, Box<tokio_tungstenite::tungstenite::Error>>;

/// Serves one upgraded connection to its end.
pub async fn run(upgraded: Upgraded, handshake: Handshake, place: Arc<Place>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    // An end is an end: the proxy's log says how the tunnel went.
    let _ = converse(&mut socket, &handshake, &place).await;
}

async fn converse(
    socket: &mut Socket,
    handshake: &Handshake,
    place: &Arc<Place>,
) -> SocketResult<()> {
    let mut entry = place.hub.enter(place.backend);
    let mut status = place.status.clone();
    let hello = ToPage::Hello {
        me: &entry.person,
        since: now(),
        handshake,
        people: &entry.people,
        lines: &entry.lines,
        file: &place.file,
        edits: &place.edits,
    };
    send(socket, &hello).await?;
    status.mark_changed();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(message) => hear(socket, &entry.seat, message.map_err(Box::new)?).await?,
                None => return Ok(()),
            },
            event = entry.events.recv() => match event {
                Ok(event) => send(socket, &event).await?,
                // Too slow for this page: what it missed is gone.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
            changed = status.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let status = status.borrow_and_update().clone();
                send(socket, &ToPage::Status(&status)).await?;
            }
        }
    }
}

async fn hear(socket: &mut Socket, seat: &Seat, message: Message) -> SocketResult<()> {
    let Message::Text(text) = message else {
        // tungstenite answers Ping and Close by itself.
        return Ok(());
    };
    match serde_json::from_str(&text) {
        Ok(FromPage::Ping { n }) => send(socket, &ToPage::Pong { n }).await?,
        Ok(FromPage::Say { text }) => seat.say(&text),
        Ok(FromPage::Rename { name }) => seat.rename(&name),
        // A page of another version, or somebody trying things out.
        Err(_) => {}
    }
    Ok(())
}

async fn send<T: Serialize>(socket: &mut Socket, message: &T) -> SocketResult<()> {
    // These types have string keys and no fallible serialisers.
    let text = serde_json::to_string(message).unwrap_or_default();
    socket.send(Message::text(text)).await.map_err(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::hub::Event;

    #[test]
    fn the_page_gets_flat_messages_with_their_type() {
        let pong = serde_json::to_value(ToPage::Pong { n: 3 }).unwrap();
        assert_eq!(pong, serde_json::json!({"t": "pong", "n": 3}));
        let status = Status::default();
        let status = serde_json::to_value(ToPage::Status(&status)).unwrap();
        assert_eq!(
            (&status["t"], &status["generation"]),
            (&"status".into(), &0.into())
        );
        let people = serde_json::to_value(Event::People { people: vec![] }).unwrap();
        assert_eq!(people["t"], "people");
    }

    #[test]
    fn what_pages_say_is_read_and_the_rest_refused() {
        let read = |text| serde_json::from_str::<FromPage>(text);
        assert!(matches!(
            read(r#"{"t":"ping","n":1}"#),
            Ok(FromPage::Ping { n: 1 })
        ));
        assert!(matches!(
            read(r#"{"t":"say","text":"x"}"#),
            Ok(FromPage::Say { .. })
        ));
        assert!(read(r#"{"t":"ping"}"#).is_err());
        assert!(read("garbage").is_err());
    }
}
