//! `ejection` of an upstream: which reports of its traffic count against a
//! backend, and how many of them eject it.
//!
//! The values beside their reader; what is done with them is `upstream`'s.

use std::time::Duration;

use super::section::Section;
use super::value::{POSITIVE, SECOND, duration, integer, one_of, share};

/// How a backend is ejected by what its clients meet there.
#[derive(Clone, Debug, PartialEq)]
pub struct Ejection {
    /// Which reports count.
    pub reports: Vec<Report>,
    /// So many within `window`, at least, eject.
    pub failures: u32,
    /// And they must be this share of all that was reported, 0.0–1.0.
    pub share: f64,
    pub window: Duration,
    /// A tunnel that its backend ends without a Close frame this soon is a
    /// failure.
    pub early_end: Duration,
    /// How long the first ejection lasts; each that follows lasts twice as long.
    pub time: Duration,
    pub max_time: Duration,
    /// Share of the backends, 0.0–1.0, that may be ejected at once.
    pub max_ejected: f64,
}

/// What speaks against a backend. Nothing that a client alone can bring about:
/// a status below 500, or a Close for what the client has sent, is an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// It could not be connected to, TLS included.
    Connect,
    /// It did not answer in time.
    Timeout,
    /// Its connection ended before an answer, or the answer is not HTTP.
    Protocol,
    /// A status from 500 on, but for 501 and 505, which are about the request.
    Status,
    /// It ended a tunnel within `early_end` without a Close frame, behind frames
    /// that can be read.
    EarlyEnd,
    /// It closed a tunnel with 1011, "internal error" (RFC 6455 section 7.4.1).
    Close1011,
}

const REPORTS: &[(&str, Report)] = &[
    ("connect", Report::Connect),
    ("timeout", Report::Timeout),
    ("protocol", Report::Protocol),
    ("status", Report::Status),
    ("early_end", Report::EarlyEnd),
    ("close_1011", Report::Close1011),
];

impl Report {
    /// The word of config, log and metrics.
    pub fn label(self) -> &'static str {
        let found = REPORTS.iter().find(|(_, report)| *report == self);
        found.map_or("", |(word, _)| word)
    }
}

/// `None` if there is no such table.
pub(super) fn ejection(section: &Section<'_>) -> Option<Ejection> {
    let allowed = "a table such as { failures = 5, window = \"30s\" }, or {} for all defaults";
    let table = section.subsection("ejection", allowed)?;
    let listed = table.list(
        "reports",
        "an array of \"connect\", \"timeout\", \"protocol\", \"status\", \"early_end\", \"close_1011\"",
        one_of(REPORTS),
    );
    let all = || REPORTS.iter().map(|(_, report)| *report).collect();
    let time = table.or("time", SECOND * 10, duration(POSITIVE));
    let ejection = Ejection {
        reports: if listed.is_empty() { all() } else { listed },
        failures: table.or("failures", 5, integer(1, 100_000)),
        share: table.or("share", 0.5, share),
        window: table.or("window", SECOND * 30, duration(POSITIVE)),
        early_end: table.or("early_end", SECOND * 2, duration(POSITIVE)),
        time,
        max_time: table.or("max_time", (SECOND * 300).max(time), duration(POSITIVE)),
        max_ejected: table.or("max_ejected", 0.5, share),
    };
    if ejection.max_time < time {
        let message = format!("`max_time` in {} is shorter than `time`", table.title);
        table.report("max_time", message);
    }
    table.finish();
    Some(ejection)
}
