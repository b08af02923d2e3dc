//! The screen as it is drawn, in the terminal's own colours.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use serde_json::Value;

use super::super::table::word;
use super::screen::{Screen, Tab};
use super::sums::name_of;

/// Columns of a trend; in a narrow terminal names come first.
const TREND: usize = 12;
const LEAST_TREND: usize = 4;
/// Of a line of the backends: health and three numbers, and what is between all.
const OF_BACKENDS: usize = 9 + 3 * 7 + 7;

pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(self::head(screen), head);
    frame.render_widget(self::tabs(screen), tabs);
    table(frame, screen, body);
    frame.render_widget(self::foot(screen), foot);
}

fn head(screen: &Screen) -> Line<'static> {
    let live = &screen.live;
    let mut parts = vec![
        "longhaul ".bold(),
        format!(
            "{}  pid {}  generation {}   ",
            word(&live["version"]),
            word(&live["pid"]),
            word(&live["generation"])
        )
        .into(),
    ];
    for (name, label) in [("tunnels", "tunnels"), ("rate", "messages/s")] {
        parts.push(format!("{label} {} ", amount(screen.sums.last(name))).bold());
        parts.push(screen.sums.line(name, TREND).cyan());
        parts.push("  ".into());
    }
    Line::from(parts)
}

fn tabs(screen: &Screen) -> Line<'static> {
    let mut parts = Vec::new();
    for (at, tab) in Tab::ALL.into_iter().enumerate() {
        let title = format!(" {} {} ", at + 1, tab.title());
        parts.push(match tab == screen.tab {
            true => title.reversed(),
            false => title.into(),
        });
    }
    if screen.tab == Tab::Tunnels {
        let shown = screen.tunnels.list.len();
        let of = match screen.tunnels.matching {
            Some(all) => format!(" of {all}"),
            None if screen.tunnels.more => " and more".to_owned(),
            None => String::new(),
        };
        parts.push(format!("  {shown}{of}").dim());
        if !screen.search.is_empty() {
            parts.push(format!(", with \"{}\"", screen.search).dim());
        }
        parts.push(format!(", by {}", screen.sort.label()).dim());
    }
    Line::from(parts)
}

/// A question, what is typed, or what there is to say; else the keys.
fn foot(screen: &Screen) -> Paragraph<'static> {
    let warning = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);
    if let Some(question) = &screen.question {
        let text = format!("{} y: yes, any other key: no", question.text);
        return Paragraph::new(text).style(warning.reversed());
    }
    if let Some(typed) = &screen.typed {
        return Paragraph::new(format!("search: {typed}_   Enter: find, Esc: all"));
    }
    if let Some(lost) = &screen.lost {
        return Paragraph::new(format!("longhaul does not answer: {lost}")).style(warning);
    }
    if !screen.message.is_empty() {
        return Paragraph::new(screen.message.clone()).style(warning);
    }
    let acts = match (screen.is_operator, screen.tab) {
        (true, Tab::Backends) => "  d drain, or take back  x close its tunnels",
        (true, Tab::Tunnels) => "  x close",
        _ => "",
    };
    let text = format!("q leave  Tab next  j/k move  / search  s sort{acts}");
    Paragraph::new(text).style(Style::new().dim())
}

fn table(frame: &mut Frame<'_>, screen: &mut Screen, area: Rect) {
    let (head, widths, rows) = match screen.tab {
        Tab::Backends => backends(screen, area.width.into()),
        Tab::Tunnels => tunnels(screen),
        Tab::Ended => ended(screen),
        Tab::Reloads => reloads(screen),
    };
    let chosen = screen.at().min(rows.len().saturating_sub(1));
    screen.state().select(Some(chosen));
    let table = Table::new(rows, widths)
        .header(Row::new(head).style(Style::new().bold().underlined()))
        .row_highlight_style(Style::new().reversed());
    frame.render_stateful_widget(table, area, screen.state());
}

type Parts = (Vec<&'static str>, Vec<Constraint>, Vec<Row<'static>>);

/// Columns of an upstream's name, of a backend's, and of a trend, where there are
/// so many for two names and two trends, and the longest names are these.
fn shares(room: usize, longest: [usize; 2]) -> [usize; 3] {
    let [upstream, backend] = longest.map(|it| it.max(8));
    let trend = (room.saturating_sub(upstream + backend) / 2).clamp(LEAST_TREND, TREND);
    let names = room.saturating_sub(2 * trend);
    // Backends of one upstream are told apart by their own names.
    let upstream = upstream.min(names.saturating_sub(backend).max(names / 3));
    [upstream, names.saturating_sub(upstream), trend]
}

/// A text, or its end where names differ.
fn end_of(text: &str, width: usize) -> String {
    let length = text.chars().count();
    match length <= width {
        true => text.to_owned(),
        false => {
            let end = text.chars().skip(length - width.saturating_sub(1));
            std::iter::once('…').chain(end).collect()
        }
    }
}

fn backends(screen: &Screen, width: usize) -> Parts {
    let length = |value: &Value| word(&value["name"]).chars().count();
    let longest = screen
        .backends()
        .fold([0, 0], |[a, b], (upstream, backend)| {
            [a.max(length(upstream)), b.max(length(backend))]
        });
    let [of_upstream, of_backend, trend] = shares(width.saturating_sub(OF_BACKENDS), longest);
    let row = |(upstream, backend): (&Value, &Value)| {
        let name = name_of(upstream, backend);
        let line = |kind: &str| screen.sums.line(&format!("{name} {kind}"), trend).cyan();
        Row::new([
            Cell::from(end_of(&word(&upstream["name"]), of_upstream)),
            end_of(&word(&backend["name"]), of_backend).into(),
            standing(backend).into(),
            word(&backend["tunnels"]).into(),
            line("tunnels").into(),
            amount(screen.sums.last(&format!("{name} rate"))).into(),
            line("rate").into(),
            word(&backend["stalled"]).into(),
        ])
    };
    let rows = screen.backends().map(row).collect();
    let head = vec![
        "upstream", "backend", "health", "tunnels", "", "msgs/s", "", "stalled",
    ];
    let columns = |count: usize| Constraint::Length(u16::try_from(count).unwrap_or(u16::MAX));
    let (number, trend) = (columns(7), columns(trend));
    let widths = vec![
        columns(of_upstream),
        columns(of_backend),
        columns(9),
        number,
        trend,
        number,
        trend,
        number,
    ];
    (head, widths, rows)
}

fn standing(backend: &Value) -> Span<'static> {
    let (health, state) = (word(&backend["health"]), word(&backend["state"]));
    match (&*health, &*state) {
        ("up", "active") => "up".green(),
        ("up", _) => state.yellow(),
        _ => health.red(),
    }
}

fn tunnels(screen: &Screen) -> Parts {
    let row = |one: &Value| {
        let silent = ["idle_in_seconds", "idle_out_seconds"].map(|key| one[key].as_f64());
        let silent = silent.into_iter().flatten().fold(f64::INFINITY, f64::min);
        let count = |key: &str| amount(one[key].as_f64().unwrap_or(0.0));
        Row::new([
            word(&one["id"]),
            word(&one["client"]),
            word(&one["path"]),
            word(&one["backend"]),
            word(&one["state"]),
            span(one["age_seconds"].as_f64().unwrap_or(0.0)),
            span(if silent.is_finite() { silent } else { 0.0 }),
            format!("{}/{}", count("messages_in"), count("messages_out")),
        ])
    };
    let rows = screen.tunnels.list.iter().map(row).collect();
    let head = vec![
        "id",
        "client",
        "path",
        "backend",
        "state",
        "age",
        "silent",
        "msgs in/out",
    ];
    let (text, time) = (Constraint::Min(9), Constraint::Length(7));
    let widths = vec![
        time,
        text,
        text,
        text,
        Constraint::Length(11),
        time,
        time,
        Constraint::Length(12),
    ];
    (head, widths, rows)
}

fn ended(screen: &Screen) -> Parts {
    let row = |one: &Value| {
        Row::new([
            ago(screen, one),
            word(&one["cause"]),
            word(&one["ended_by"]),
            word(&one["client"]),
            word(&one["route"]),
            word(&one["backend"]),
            span(one["duration_seconds"].as_f64().unwrap_or(0.0)),
        ])
    };
    let list = screen.live["ended"].as_array().into_iter().flatten();
    let head = vec![
        "ago", "cause", "ended by", "client", "route", "backend", "lasted",
    ];
    let (text, time) = (Constraint::Fill(1), Constraint::Length(7));
    let widths = vec![time, text, Constraint::Length(9), text, text, text, time];
    (head, widths, list.map(row).collect())
}

fn reloads(screen: &Screen) -> Parts {
    let row = |one: &Value| {
        let result = match one["ok"].as_bool() {
            Some(true) => "in force".green(),
            _ => "rejected".red(),
        };
        // A message may have lines.
        let message = one["message"].as_str().unwrap_or_default();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let cells = [
            ago(screen, one).into(),
            result.into(),
            word(&one["generation"]).into(),
        ];
        Row::new(cells.into_iter().chain([Cell::from(word(&message.into()))]))
    };
    let list = screen.live["reloads"].as_array().into_iter().flatten();
    let head = vec!["ago", "", "generation", "what"];
    let widths = [7, 9, 10].map(Constraint::Length).into_iter();
    let widths = widths.chain([Constraint::Fill(1)]).collect();
    (head, widths, list.map(row).collect())
}

fn ago(screen: &Screen, one: &Value) -> String {
    let now = screen.live["at_unix_ms"].as_u64().unwrap_or(0) / 1000;
    let at = one["at_unix"].as_u64().unwrap_or(now);
    span(now.saturating_sub(at) as f64)
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

fn amount(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.1}G", v / 1e9),
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e4 => format!("{:.1}k", v / 1e3),
        v if v.fract() == 0.0 || v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trends_make_room_for_names_and_names_show_their_ends() {
        // 80 columns.
        assert_eq!(shares(43, [4, 6]), [8, 11, 12]);
        assert_eq!(shares(43, [4, 15]), [8, 15, 10]);
        assert_eq!(shares(43, [9, 21]), [9, 22, 6]);
        assert_eq!(shares(43, [20, 40]), [11, 24, 4]);
        assert_eq!(shares(100, [20, 40]), [20, 56, 12]);
        assert_eq!(shares(0, [20, 40]), [0, 0, 4]);
        assert_eq!(end_of("127.0.0.1:19001", 15), "127.0.0.1:19001");
        assert_eq!(end_of("127.0.0.1:19001", 9), "….1:19001");
        assert_eq!(end_of("abc", 0), "…abc".chars().take(1).collect::<String>());
    }
}
