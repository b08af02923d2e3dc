//! Readers of single values: what each accepts, and how it says so.
//!
//! Deliberately knows no keys; the sections name those.
//!
//! Invariant: a reader's refusal always says what would have been allowed.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::nearest::nearest;
use super::section::{Value, Wrong, describe};
use crate::net::canonical_network;

pub(super) const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer ones are mistakes, and sums of them must not overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The kernel refuses longer paths of Unix sockets (unix(7): 108 with the NUL).
const UNIX_PATH_BYTES: usize = 107;

/// Something is wrong with a value; `allowed` says what is right.
pub(super) fn wrong<T>(value: &Value<'_>, allowed: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong {
        found: describe(value.node()),
        allowed: allowed.into(),
        nearest: None,
    })
}

/// Like [`wrong`], with a guess.
pub(super) fn wrong_near<T>(
    value: &Value<'_>,
    allowed: impl Into<String>,
    nearest: Option<String>,
) -> Result<T, Wrong> {
    wrong(value, allowed).map_err(|wrong| Wrong { nearest, ..wrong })
}

/// The text of a string.
pub(super) fn text<'a>(value: &Value<'a>, allowed: &str) -> Result<&'a str, Wrong> {
    match value.node() {
        DeValue::String(text) => Ok(text),
        _ => wrong(value, allowed),
    }
}

/// A string with something printable in it.
pub(super) fn label(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "a string of at least one character and no control characters";
    let label = text(value, allowed)?;
    if label.trim().is_empty() || label.chars().any(char::is_control) {
        return wrong(value, allowed);
    }
    Ok(label.to_owned())
}

pub(super) fn boolean(value: &Value<'_>) -> Result<bool, Wrong> {
    match value.node() {
        DeValue::Boolean(value) => Ok(*value),
        DeValue::String(text) if matches!(text.as_ref(), "true" | "false") => wrong_near(
            value,
            "true or false, without quotes",
            Some(text.to_string()),
        ),
        _ => wrong(value, "true or false"),
    }
}

/// A whole number between two bounds, both allowed.
pub(super) fn integer<T>(least: T, most: T) -> impl Fn(&Value<'_>) -> Result<T, Wrong>
where
    T: TryFrom<i128> + PartialOrd + std::fmt::Display + Copy,
{
    move |value| {
        let allowed = || format!("an integer from {least} to {most}");
        let number = match value.node() {
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
            DeValue::String(text) if text.parse::<i64>().is_ok() => {
                let near = Some(text.to_string());
                return wrong_near(value, format!("{}, without quotes", allowed()), near);
            }
            _ => None,
        };
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) if number >= least && number <= most => Ok(number),
            _ => wrong(value, allowed()),
        }
    }
}

/// A number from 0 to 1.
pub(super) fn share(value: &Value<'_>) -> Result<f64, Wrong> {
    let number: Option<f64> = match value.node() {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) => number.as_str().parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => wrong(value, "a number from 0.0 to 1.0"),
    }
}

/// How many times its share a backend may have, or `"off"`.
pub(super) fn times_or_off(value: &Value<'_>) -> Result<Option<f64>, Wrong> {
    let allowed = "\"off\", or a number from 1.0 to 100.0";
    let number: Option<f64> = match value.node() {
        DeValue::String(text) if text == "off" => return Ok(None),
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) => number.as_str().parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if (1.0..=100.0).contains(&number) => Ok(Some(number)),
        _ => wrong(value, allowed),
    }
}

/// One of some words.
pub(super) fn one_of<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&Value<'_>) -> Result<T, Wrong> {
    move |value| {
        let allowed = || {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            words.join(", ")
        };
        let found = text(value, &allowed())?;
        match words.iter().find(|(word, _)| *word == found) {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let near = nearest(found, words.iter().map(|(word, _)| *word));
                wrong_near(value, allowed(), near)
            }
        }
    }
}

/// What a duration may be.
#[derive(Clone, Copy)]
pub(super) struct Range {
    least: Duration,
    most: Duration,
    /// The kernel or a protocol counts in this.
    step: Duration,
    said: &'static str,
}

/// Anything but nothing.
pub(super) const POSITIVE: Range = Range {
    least: Duration::from_millis(1),
    most: LONGEST,
    step: Duration::from_millis(1),
    said: "a duration from \"1ms\" to \"365d\": an integer and one of ms, s, m, h, d",
};

/// Nothing too: at once.
pub(super) const MAYBE_ZERO: Range = Range {
    least: Duration::ZERO,
    said: "a duration from \"0s\" to \"365d\": an integer and one of ms, s, m, h, d",
    ..POSITIVE
};

/// `Max-Age` of a cookie counts in seconds, and 0 deletes it (RFC 6265, 5.2.2).
pub(super) const COOKIE_AGE: Range = Range {
    least: SECOND,
    step: SECOND,
    said: "a duration of whole seconds from \"1s\" to \"365d\"",
    ..POSITIVE
};

/// `Retry-After` counts in seconds (RFC 9110, 10.2.3).
pub(super) const RETRY_AFTER: Range = Range {
    least: SECOND,
    most: DAY,
    step: SECOND,
    said: "a duration of whole seconds from \"1s\" to \"1d\"",
};

/// Of the `exp` of tokens, which counts in seconds.
pub(super) const LEEWAY: Range = Range {
    least: Duration::ZERO,
    most: Duration::from_secs(600),
    step: SECOND,
    said: "a duration of whole seconds from \"0s\" to \"10m\"",
};

/// Of what is fetched again: neither a flood nor never.
pub(super) const REFRESH: Range = Range {
    least: SECOND,
    most: DAY,
    step: SECOND,
    said: "a duration of whole seconds from \"1s\" to \"1d\"",
};

/// `TCP_KEEPIDLE` and `TCP_KEEPINTVL` count in seconds up to 32767 (tcp(7)).
pub(super) const KEEPALIVE: Range = Range {
    least: SECOND,
    most: Duration::from_secs(32767),
    step: SECOND,
    said: "a duration of whole seconds from \"1s\" to \"32767s\"",
};

/// `TCP_USER_TIMEOUT` is a C int of milliseconds.
pub(super) const USER_TIMEOUT: Range = Range {
    most: Duration::from_secs(24 * 24 * 60 * 60),
    said: "a duration from \"1ms\" to \"24d\": an integer and one of ms, s, m, h, d",
    ..POSITIVE
};

const UNITS: [(&str, Duration); 5] = [
    ("ms", Duration::from_millis(1)),
    ("s", SECOND),
    ("m", Duration::from_secs(60)),
    ("h", Duration::from_secs(60 * 60)),
    ("d", DAY),
];

/// A duration as the config writes it, from 0 up.
pub fn duration_of(written: &str) -> Option<Duration> {
    let (number, unit) = quantity(written)?;
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
    unit.checked_mul(u32::try_from(number).ok()?)
}

/// Such as `"250ms"`, `"10s"`, `"5m"`, `"2h"`, `"1d"`.
pub(super) fn duration(range: Range) -> impl Fn(&Value<'_>) -> Result<Duration, Wrong> {
    move |value| {
        let allowed = range.said;
        if let DeValue::Integer(number) = value.node() {
            return wrong_near(value, allowed, Some(format!("\"{number}s\"")));
        }
        let written = text(value, allowed)?;
        let Some((number, unit)) = quantity(written) else {
            return wrong(value, allowed);
        };
        let Some((_, unit)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let near = match unit {
                "" => Some(format!("\"{number}s\"")),
                _ => nearest_unit(unit).map(|unit| format!("\"{number}{unit}\"")),
            };
            return wrong_near(value, allowed, near);
        };
        let duration = u32::try_from(number)
            .ok()
            .and_then(|number| unit.checked_mul(number))
            .filter(|d| *d >= range.least && *d <= range.most)
            .filter(|d| d.as_millis().is_multiple_of(range.step.as_millis()));
        duration.map_or_else(|| wrong(value, allowed), Ok)
    }
}

/// A duration, or `"off"` for none.
pub(super) fn duration_or_off(
    range: Range,
) -> impl Fn(&Value<'_>) -> Result<Option<Duration>, Wrong> {
    move |value| match value.node() {
        DeValue::String(text) if text == "off" => Ok(None),
        _ => duration(range)(value).map(Some).map_err(|wrong| Wrong {
            allowed: format!("\"off\", or {}", wrong.allowed),
            ..wrong
        }),
    }
}

/// A number of bytes, such as `"512B"`, `"32KiB"`, `"1MiB"`.
///
/// `said` is how the bounds are written.
pub(super) fn size(
    least: usize,
    most: usize,
    said: &'static str,
) -> impl Fn(&Value<'_>) -> Result<usize, Wrong> {
    move |value| {
        let allowed = format!("a size {said}: an integer and one of B, KiB, MiB, GiB");
        if let DeValue::Integer(number) = value.node() {
            return wrong_near(value, allowed, Some(format!("\"{number}B\"")));
        }
        let written = text(value, &allowed)?;
        let Some((number, unit)) = quantity(written) else {
            return wrong(value, allowed);
        };
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => {
                let near = match unit.to_ascii_lowercase().as_str() {
                    "" | "b" => Some("B"),
                    "k" | "kb" | "kib" => Some("KiB"),
                    "m" | "mb" | "mib" => Some("MiB"),
                    "g" | "gb" | "gib" => Some("GiB"),
                    _ => None,
                };
                let near = near.map(|unit| format!("\"{number}{unit}\""));
                return wrong_near(value, allowed, near);
            }
        };
        let bytes = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_mul(1 << shift))
            .filter(|bytes| *bytes >= least && *bytes <= most);
        bytes.map_or_else(|| wrong(value, allowed), Ok)
    }
}

/// Permission bits of a file, such as `"0660"`.
pub(super) fn mode(value: &Value<'_>) -> Result<u32, Wrong> {
    let allowed = "an octal mode in quotes, from \"0000\" to \"0777\"";
    if let DeValue::Integer(number) = value.node() {
        let near = match number.radix() {
            8 => format!("\"0{}\"", number.as_str()),
            _ => format!("\"{:0>4}\"", number.as_str()),
        };
        return wrong_near(value, allowed, Some(near));
    }
    let written = text(value, allowed)?;
    let octal = matches!(written.len(), 3 | 4) && written.bytes().all(|b| b.is_ascii_digit());
    match u32::from_str_radix(written, 8) {
        Ok(mode) if octal && mode <= 0o777 => Ok(mode),
        _ => wrong(value, allowed),
    }
}

/// The path of a file, made absolute by the directory of the config file.
pub(super) fn path(value: &Value<'_>) -> Result<PathBuf, Wrong> {
    let allowed = "the path of a file";
    let written = text(value, allowed)?;
    if written.is_empty() || written.contains('\0') || written.ends_with('/') {
        return wrong(value, allowed);
    }
    Ok(value.source.resolve(written))
}

/// The path of a Unix socket, of which `written` is the text.
pub(super) fn socket_path(value: &Value<'_>, written: &str) -> Result<PathBuf, Wrong> {
    let allowed = "the path of a socket";
    if written.is_empty() || written.contains('\0') || written.ends_with('/') {
        return wrong(value, allowed);
    }
    let path = value.source.resolve(written);
    if path.as_os_str().len() > UNIX_PATH_BYTES {
        let found = format!("{}, {} bytes", path.display(), path.as_os_str().len());
        let allowed = format!("a path of at most {UNIX_PATH_BYTES} bytes, its directory included");
        return wrong(value, allowed).map_err(|wrong| Wrong { found, ..wrong });
    }
    Ok(path)
}

/// A network, such as `10.0.0.0/8`, or one address; what is IPv4 in the writing of
/// IPv6 as IPv4, which is how clients are compared.
pub(super) fn network(value: &Value<'_>) -> Result<IpNet, Wrong> {
    let allowed = "a network such as \"10.0.0.0/8\" or \"fd00::/8\", or one address";
    let written = text(value, allowed)?;
    if let Ok(address) = written.parse::<std::net::IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let Ok(network) = written.parse::<IpNet>() else {
        return wrong(value, allowed);
    };
    let Some(network) = canonical_network(network) else {
        let allowed = "a network of IPv4 as such, or mapped with a prefix of 96 bits or more";
        return wrong(value, allowed);
    };
    if network.trunc() != network {
        // Half of those who write this mean the network, half one address.
        let allowed = "a network whose bits behind the prefix are zero, or one address";
        return wrong_near(value, allowed, Some(network.trunc().to_string()));
    }
    Ok(network)
}

/// Digits, and what follows them.
fn quantity(written: &str) -> Option<(u64, &str)> {
    let end = written.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = written.split_at(end.unwrap_or(written.len()));
    Some((number.parse().ok()?, unit))
}

fn nearest_unit(unit: &str) -> Option<&'static str> {
    match unit.trim().to_lowercase().as_str() {
        "ms" | "msec" | "millis" | "milliseconds" => Some("ms"),
        "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "d" | "day" | "days" => Some("d"),
        _ => None,
    }
}
