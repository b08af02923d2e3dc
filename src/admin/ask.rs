//! Asks a running longhaul about itself, at its admin socket; blocks.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(2);
/// Of an answer: more than ten thousand backends say.
const MOST: u64 = 16 * 1024 * 1024;

/// What a running process says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub pid: u32,
    /// What its listeners are bound to, by name.
    pub listeners: BTreeMap<String, String>,
}

/// # Errors
/// Nobody is there (`NotFound`, `ConnectionRefused`), or the answer is none.
pub fn ask(socket: &Path) -> io::Result<Running> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: longhaul\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    running(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn running(answer: &[u8]) -> Option<Running> {
    let text = std::str::from_utf8(answer).ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    let status: Value = serde_json::from_str(body).ok()?;
    let listeners = status["listeners"].as_array()?;
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let listener = |value: &Value| Some((text(&value["name"])?, text(&value["address"])?));
    Some(Running {
        pid: status["pid"].as_u64()?.try_into().ok()?,
        listeners: listeners.iter().filter_map(listener).collect(),
    })
}
