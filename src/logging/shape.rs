//! What one event becomes: a line of the log, or an access line for a place of
//! its own.
//!
//! It writes to no place itself.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::template::{Template, write_escaped};
use super::{ACCESS, AccessFormat, Destination, Settings};

/// The shape of every event.
pub(super) struct Shape {
    log: LogShape,
    /// Of access lines that have a place of their own.
    access: Option<Access>,
}

enum LogShape {
    Text(Format<Full>),
    Json(Format<Json>),
}

struct Access {
    line: Line,
    /// Whether each line is an entry of journald's.
    journal: bool,
}

enum Line {
    Json(Format<Json>),
    Template(Template),
}

impl Shape {
    pub(super) fn new(settings: &Settings) -> Self {
        let access = match settings.destination() {
            Destination::Log => None,
            to => Some(Access {
                line: match &settings.access_format {
                    AccessFormat::Json => Line::Json(json()),
                    AccessFormat::Template(template) => Line::Template(template.clone()),
                },
                journal: matches!(to, Destination::Journald(_)),
            }),
        };
        Self {
            log: match settings.json {
                true => LogShape::Json(json()),
                false => LogShape::Text(Format::default()),
            },
            access,
        }
    }
}

fn json() -> Format<Json> {
    Format::default()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
}

impl<S, N> FormatEvent<S, N> for Shape
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match (&self.access, &self.log) {
            (Some(access), _) if event.metadata().target() == ACCESS => {
                let mut line = String::new();
                match &access.line {
                    Line::Json(json) => {
                        json.format_event(context, Writer::new(&mut line), event)?;
                    }
                    Line::Template(template) => {
                        let values = Values::of(event);
                        template.write(&mut line, |name| values.get(name))?;
                    }
                }
                let line = line.trim_end_matches('\n');
                match access.journal {
                    true => journal_entry(&mut to, line, &Values::of(event)),
                    false => writeln!(to, "{line}"),
                }
            }
            (_, LogShape::Text(text)) => text.format_event(context, to, event),
            (_, LogShape::Json(json)) => json.format_event(context, to, event),
        }
    }
}

/// One entry in journald's own protocol: a field on each line. Neither the line
/// nor a value has a line break in it, so the form for binary values is not
/// needed.
fn journal_entry(to: &mut dyn Write, line: &str, values: &Values) -> fmt::Result {
    writeln!(to, "MESSAGE={line}\nPRIORITY=6\nSYSLOG_IDENTIFIER=longhaul")?;
    for (name, value) in &values.0 {
        if *name == "time" {
            continue;
        }
        write!(to, "LONGHAUL_{}=", name.to_ascii_uppercase())?;
        write_escaped(to, value)?;
        to.write_char('\n')?;
    }
    Ok(())
}

/// The fields of an event as text.
struct Values(Vec<(&'static str, String)>);

impl Values {
    fn of(event: &Event<'_>) -> Self {
        let mut time = String::new();
        // Writing to a String cannot fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let mut values = Self(vec![("time", time)]);
        event.record(&mut values);
        values
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }

    /// Numbers and what is displayed come here too.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}
