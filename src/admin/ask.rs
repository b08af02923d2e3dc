//! Asks a running longhaul at its admin socket; blocks.
//!
//! It knows HTTP and JSON, and of their content only who answers.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// Of a question about the process; others may have a million tunnels to look at.
const PATIENCE: Duration = Duration::from_secs(2);
const LONG_PATIENCE: Duration = Duration::from_secs(20);
/// Of an answer: more than ten thousand backends or tunnels say.
const MOST: u64 = 16 * 1024 * 1024;

/// What a running process says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub pid: u32,
    /// What its listeners are bound to, by name.
    pub listeners: BTreeMap<String, String>,
}

/// Why there is no answer, or another than was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What longhaul says is wrong with the question.
    #[error("{0}")]
    Refused(String),
}

/// # Errors
/// Nobody is there (`NotFound`, `ConnectionRefused`), or the answer is none.
pub fn ask(socket: &Path) -> io::Result<Running> {
    let (_, status) = exchange(socket, "GET /status", None, PATIENCE)?;
    running(&status).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The answer to a GET.
///
/// # Errors
/// Nobody is there, or it refuses.
pub fn get(socket: &Path, target: &str) -> Result<Value, AskError> {
    told(exchange(
        socket,
        &format!("GET {target}"),
        None,
        LONG_PATIENCE,
    )?)
}

/// The answer to a POST.
///
/// # Errors
/// As [`get`].
pub fn post(socket: &Path, target: &str, body: &Value) -> Result<Value, AskError> {
    let line = format!("POST {target}");
    told(exchange(socket, &line, Some(body), LONG_PATIENCE)?)
}

fn told((code, answer): (u16, Value)) -> Result<Value, AskError> {
    match code {
        200 => Ok(answer),
        code => Err(AskError::Refused(match answer["error"].as_str() {
            Some(error) => error.to_owned(),
            None => format!("the answer has status {code}"),
        })),
    }
}

fn exchange(
    socket: &Path,
    line: &str,
    body: Option<&Value>,
    patience: Duration,
) -> io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: longhaul\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    parsed(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parsed(answer: &[u8]) -> Option<(u16, Value)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, serde_json::from_str(body).ok()?))
}

fn running(status: &Value) -> Option<Running> {
    let listeners = status["listeners"].as_array()?;
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let listener = |value: &Value| Some((text(&value["name"])?, text(&value["address"])?));
    Some(Running {
        pid: status["pid"].as_u64()?.try_into().ok()?,
        listeners: listeners.iter().filter_map(listener).collect(),
    })
}
