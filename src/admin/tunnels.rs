//! `/tunnels`: live tunnels listed, shown and closed.
//!
//! A page visits a bounded number of tunnels, so it may be short where few are
//! meant; `next` says whether more follow. A close without anything that says
//! which tunnels is refused, unless it says `all`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::desk::Desk;
use super::fields::{Fields, Wrong};
use crate::config::{BackendDrain, Drain, Ending, Pace, Rate, duration_of};
use crate::tunnel::{CloseOrder, Filter, Framing, Page, Registry, State, Tunnel};
use crate::ws::close::may_send;

/// Tunnels on one page, at most and where nothing is said.
const MOST: u64 = 10_000;
const USUAL: u64 = 100;
/// A close that lasts holds one of the few places of closes, and all of its tunnels.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Of a reason (RFC 6455 section 5.5: 125 with the code).
const MOST_REASON: usize = 123;

pub(super) fn list(desk: &Desk, mut fields: Fields) -> Result<Value, Wrong> {
    let filter = filter_with_search(&mut fields)?;
    let after = fields.number("after", u64::MAX)?.unwrap_or(0);
    let limit = fields.number("limit", MOST)?.unwrap_or(USUAL) as usize;
    fields.finish()?;
    let registry = &desk.state.registry;
    let accepts = |tunnel: &Tunnel| filter.accepts(tunnel);
    let page = match limit {
        0 => Page::default(),
        limit => registry.page(after, limit, &accepts),
    };
    let tunnels = page.tunnels.iter();
    Ok(json!({
        "tunnels": tunnels.map(|tunnel| tunnel_json(registry, tunnel)).collect::<Vec<_>>(),
        "matching": matching(registry, &filter, limit),
        "next": page.next,
    }))
}

/// How many there are in all, unless to know it would take much longer than a
/// page and nobody asks for that alone.
fn matching(registry: &Registry, filter: &Filter, limit: usize) -> Option<usize> {
    if filter.is_empty() {
        return Some(registry.len());
    }
    let known = limit == 0 || registry.fits_a_page();
    known.then(|| registry.count(&|tunnel| filter.accepts(tunnel)))
}

pub(super) fn show(desk: &Desk, id: &str) -> Result<Value, Wrong> {
    let registry = &desk.state.registry;
    let id: u64 = id
        .parse()
        .map_err(|_| Wrong::bad(format!("`{id}` is no id of a tunnel")))?;
    let tunnel = registry.find(id).ok_or_else(|| no_tunnel(id))?;
    Ok(tunnel_json(registry, &tunnel))
}

fn no_tunnel(id: u64) -> Wrong {
    Wrong::missing(format!("there is no tunnel {id}"))
}

pub(super) fn close(desk: &Desk, mut fields: Fields) -> Result<Value, Wrong> {
    let id = fields.number("id", u64::MAX)?;
    let filter = filter(&mut fields)?;
    let all = fields.flag("all")?;
    let drain = desk.state.snapshot().config.drain;
    let order = order(&mut fields, &drain)?;
    let pace = pace(&mut fields)?;
    let dry_run = fields.flag("dry_run")?;
    fields.finish()?;
    if id.is_none() && filter.is_empty() && !all {
        return Err(Wrong::bad(
            "which tunnels? give an id, something they have in common, or \"all\": true",
        ));
    }
    let registry = &desk.state.registry;
    let mut tunnels = registry.select(&|tunnel| {
        id.is_none_or(|id| tunnel.id() == id)
            && filter.accepts(tunnel)
            && matches!(tunnel.standing(), State::Open | State::HalfClosed)
    });
    if let Some(id) = id.filter(|_| tunnels.is_empty()) {
        return Err(no_tunnel(id));
    }
    let usual = match id {
        // One alone is nobody's stampede.
        Some(_) => Pace::new(None, Duration::ZERO),
        None => drain.pace_of(&BackendDrain::default()),
    };
    let span = pace.unwrap_or(usual).span(tunnels.len());
    tunnels.sort_by_key(|tunnel| tunnel.id());
    begun(desk, tunnels, order, span, dry_run)
}

/// Begins the close of these, unless it is to be seen only what it would be.
pub(super) fn begun(
    desk: &Desk,
    tunnels: Vec<Arc<Tunnel>>,
    order: CloseOrder,
    span: Duration,
    dry_run: bool,
) -> Result<Value, Wrong> {
    let (closing, seconds) = (tunnels.len(), span.as_secs_f64());
    check_span(closing, span)?;
    if dry_run || tunnels.is_empty() {
        return Ok(json!({ "closing": closing, "seconds": seconds, "dry_run": dry_run }));
    }
    let begun = desk
        .closings
        .begin(&desk.state.registry, tunnels, order, span)
        .map_err(|busy| Wrong {
            status: StatusCode::TOO_MANY_REQUESTS,
            message: busy.to_string(),
        })?;
    Ok(json!({ "closing": closing, "seconds": seconds, "dry_run": false, "id": begun["id"] }))
}

/// Whether a close of so many at their pace does not last too long.
fn check_span(tunnels: usize, span: Duration) -> Result<(), Wrong> {
    if span <= LONGEST {
        return Ok(());
    }
    let hours = LONGEST.as_secs() as usize / 3600;
    Err(Wrong::bad(format!(
        "at this pace {tunnels} tunnels are closed over {} s, and a close lasts {hours} hours at \
         most; expected a `rate` of at least \"{}/h\", or fewer tunnels",
        span.as_secs(),
        tunnels.div_ceil(hours)
    )))
}

/// `code` and `reason`.
fn order(fields: &mut Fields, drain: &Drain) -> Result<CloseOrder, Wrong> {
    let allowed = "\"none\", or a close code that may be sent: 1000-1003, 1007-1014, 3000-4999";
    let code = fields.read("code", allowed, |value| match value {
        Value::String(word) if word == "none" => Some(None),
        value => {
            let code = u16::try_from(value.as_u64()?).ok()?;
            may_send(code).then_some(Some(code))
        }
    })?;
    let allowed = format!("a text of at most {MOST_REASON} bytes");
    let reason = fields.word("reason", &allowed, |text| {
        (text.len() <= MOST_REASON).then(|| text.to_owned())
    })?;
    let usual = CloseOrder::new(Ending::Operator, drain);
    Ok(CloseOrder {
        reason: reason.map_or(usual.reason, Into::into),
        code: code.unwrap_or(usual.code),
        ..usual
    })
}

/// `rate` and `window`; `None` if there is neither.
pub(super) fn pace(fields: &mut Fields) -> Result<Option<Pace>, Wrong> {
    let rate: Option<Rate> =
        fields.word("rate", "a rate such as \"50/s\"", |text| text.parse().ok())?;
    let within_a_day = |text: &str| duration_of(text).filter(|it| *it <= LONGEST);
    let window = fields.word(
        "window",
        "a duration of up to a day, such as \"30s\"",
        within_a_day,
    )?;
    let given = rate.is_some() || window.is_some();
    Ok(given.then(|| Pace::new(rate, window.unwrap_or_default())))
}

/// Which tunnels are meant, where nothing else can be said.
pub(super) fn searched(mut fields: Fields) -> Result<Filter, Wrong> {
    let filter = filter_with_search(&mut fields)?;
    fields.finish()?;
    Ok(filter)
}

fn filter_with_search(fields: &mut Fields) -> Result<Filter, Wrong> {
    let filter = filter(fields)?;
    let search = fields.text("search")?;
    Ok(Filter { search, ..filter })
}

/// Which tunnels are meant.
fn filter(fields: &mut Fields) -> Result<Filter, Wrong> {
    let net = |text: &str| -> Option<IpNet> {
        let address = text.parse().map(|address: std::net::IpAddr| address.into());
        text.parse().or(address).ok()
    };
    let states = "\"open\", \"half_closed\" or \"closing\"";
    Ok(Filter {
        client: fields.word("client", "an IP address or network", net)?,
        key: fields.word("key", "the hash of a sticky key, 16 hex digits", key_hash)?,
        listener: fields.text("listener")?,
        route: fields.text("route")?,
        upstream: fields.text("upstream")?,
        backend: fields.text("backend")?,
        state: fields.word("state", states, State::of_word)?,
        search: None,
    })
}

fn key_hash(text: &str) -> Option<u64> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hash = u64::from_str_radix(text, 16).ok()?;
    digits.then_some(hash)
}

fn tunnel_json(registry: &Registry, tunnel: &Tunnel) -> Value {
    let facts = tunnel.facts();
    let words = facts.opening.words();
    let (idle_in, idle_out) = registry.idle(tunnel);
    let protocol = match tunnel.framing() {
        Framing::WebSocket => "websocket",
        Framing::Opaque => "other",
    };
    json!({
        "id": facts.id,
        "state": tunnel.standing().label(),
        "listener": *facts.labels.listener,
        "client": tunnel.client(),
        "peer": facts.opening.client(),
        "http": facts.labels.http,
        "protocol": protocol,
        "tls": words.tls(),
        "sni": words.sni(),
        "host": words.host,
        "path": words.path,
        "route": *facts.labels.route,
        "upstream": *facts.labels.upstream,
        "backend": *facts.labels.backend,
        "sticky": words.sticky(),
        "key": (facts.key != 0).then(|| format!("{:016x}", facts.key)),
        "opened_at_unix": unix(SystemTime::now() - tunnel.age()),
        "age_seconds": seconds(tunnel.age()),
        "idle_in_seconds": seconds(idle_in),
        "idle_out_seconds": seconds(idle_out),
        "bytes_in": tunnel.bytes_in(),
        "bytes_out": tunnel.bytes_out(),
        "messages_in": tunnel.messages_in(),
        "messages_out": tunnel.messages_out(),
    })
}

/// To a tenth.
fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 10.0).round() / 10.0
}

fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_that_would_last_for_days_names_a_rate_that_does_not() {
        let span = |tunnels: usize, rate: &str| {
            let rate = Some(rate.parse().unwrap());
            Pace::new(rate, Duration::ZERO).span(tunnels)
        };
        for (tunnels, least) in [(25, "2/h"), (48, "2/h"), (1_000_000, "41667/h")] {
            let wrong = check_span(tunnels, span(tunnels, "1/h")).unwrap_err();
            assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
            assert!(wrong.message.contains(&format!("\"{least}\"")), "{wrong:?}");
            assert_eq!(check_span(tunnels, span(tunnels, least)), Ok(()));
        }
        assert_eq!(check_span(24, span(24, "1/h")), Ok(()));
        // As long as there is.
        assert!(check_span(usize::MAX, Duration::MAX).is_err());
    }
}
