//! `message_limits` of a route: how much its clients, or backends, may say.
//!
//! The values beside their reader; what comes of them is `tunnel`'s.

use toml::de::DeValue;

use super::rate::{Rate, rate};
use super::section::{Section, Value, Wrong};
use super::value::{one_of, size, text, wrong, wrong_near};

/// What each limited side of a tunnel may send; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// Bytes of a frame's payload, as it is on the wire.
    pub max_frame: Option<u64>,
    /// Bytes of the payload of all frames of a message.
    pub max_message: Option<u64>,
    /// Data messages.
    pub message_rate: Option<Rate>,
    /// Bytes of everything.
    pub byte_rate: Option<ByteRate>,
    pub side: LimitedSide,
}

/// Whose messages are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedSide {
    Client,
    Backend,
    Both,
}

/// So many bytes per time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRate {
    pub bytes: u64,
    /// Seconds.
    pub per: u64,
}

const SIDES: &[(&str, LimitedSide)] = &[
    ("client", LimitedSide::Client),
    ("backend", LimitedSide::Backend),
    ("both", LimitedSide::Both),
];

/// No control frame is longer (RFC 6455, 5.5), and those are never refused.
const SMALLEST: usize = 125;
const LARGEST: usize = 1 << 40;
const SIZE: &str = "from \"125B\" to \"1024GiB\"";
const BYTE_RATE: &str = "a size and /s, /m or /h, such as \"64KiB/s\" or \"10MiB/m\"";

/// `None` if there is no such table, or no limit in it.
pub(super) fn message_limits(section: &Section<'_>) -> Option<MessageLimits> {
    let allowed = "a table such as { max_message = \"1MiB\", message_rate = \"50/s\" }";
    let table = section.subsection("message_limits", allowed)?;
    let bytes = |key| {
        let read = table.optional(key, size(SMALLEST, LARGEST, SIZE));
        read.map(|bytes| bytes as u64)
    };
    let limits = MessageLimits {
        max_frame: bytes("max_frame"),
        max_message: bytes("max_message"),
        message_rate: table.optional("message_rate", rate),
        byte_rate: table.optional("byte_rate", byte_rate),
        side: table.or("side", LimitedSide::Client, one_of(SIDES)),
    };
    if let (Some(frame), Some(message)) = (limits.max_frame, limits.max_message)
        && frame > message
    {
        let message = format!(
            "`max_frame` in {} has no effect: a frame is part of a message, and `max_message` \
             is less",
            table.title
        );
        table.report("max_frame", message);
    }
    let keys = ["max_frame", "max_message", "message_rate", "byte_rate"];
    let is_any = keys.iter().any(|key| table.mentions(key));
    if !is_any {
        let message = format!("{} has no limit: {}", table.title, keys.join(", "));
        section.report("message_limits", message);
    }
    table.finish();
    is_any.then_some(limits)
}

fn byte_rate(value: &Value<'_>) -> Result<ByteRate, Wrong> {
    if let DeValue::Integer(number) = value.node() {
        return wrong_near(value, BYTE_RATE, Some(format!("\"{number}B/s\"")));
    }
    let written = text(value, BYTE_RATE)?;
    match parse(written) {
        Some(rate) => Ok(rate),
        None => wrong(value, BYTE_RATE),
    }
}

fn parse(written: &str) -> Option<ByteRate> {
    let (size, unit) = written.split_once('/')?;
    let per = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let digits = size.find(|c: char| !c.is_ascii_digit())?;
    let shift = match &size[digits..] {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    let bytes: u64 = size[..digits].parse().ok()?;
    let bytes = bytes.checked_mul(1 << shift)?;
    (1..=LARGEST as u64)
        .contains(&bytes)
        .then_some(ByteRate { bytes, per })
}
