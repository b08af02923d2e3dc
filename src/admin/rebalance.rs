//! `/rebalance`: the excess of overfull backends, closed at a person's pace.

use serde_json::{Value, json};

use super::desk::Desk;
use super::fields::{Fields, Wrong};
use super::tunnels;
use crate::config::{Ending, Pace, Rebalance};
use crate::tunnel::CloseOrder;
use crate::upstream::{Plan, Share};

pub(super) fn rebalance(desk: &Desk, mut fields: Fields) -> Result<Value, Wrong> {
    let name = fields.text("upstream")?;
    let to = fields.read("to", "a number from 0.0 to 1.0", |value| {
        value.as_f64().filter(|to| (0.0..=1.0).contains(to))
    })?;
    let pace = tunnels::pace(&mut fields)?;
    let dry_run = fields.flag("dry_run")?;
    fields.finish()?;
    let name = name.ok_or_else(|| Wrong::bad("needed: upstream"))?;
    let snapshot = desk.state.snapshot();
    let upstream = snapshot
        .upstreams
        .get(&name)
        .ok_or_else(|| Wrong::missing(format!("there is no upstream `{name}`")))?;
    let policy = upstream.settings().rebalance;
    let to = to.unwrap_or_else(|| policy.map_or(Rebalance::TO, |it| it.to));
    let rate = policy.map_or(Rebalance::RATE, |it| it.rate);
    let pace = pace.unwrap_or_else(|| Pace::new(Some(rate), std::time::Duration::ZERO));
    let plan = Plan::new(upstream, &desk.state.registry, to);
    let span = pace.span(plan.tunnels.len());
    let drain = snapshot.config.drain.with(&upstream.settings().drain);
    let order = CloseOrder::new(Ending::Rebalance, &drain);
    let mut answer = tunnels::begun(desk, plan.tunnels, order, span, dry_run)?;
    answer["upstream"] = name.into();
    answer["to"] = to.into();
    answer["backends"] = plan.shares.iter().map(share).collect();
    Ok(answer)
}

fn share(share: &Share) -> Value {
    json!({
        "name": *share.backend,
        "tunnels": share.tunnels,
        "share": (share.share * 10.0).round() / 10.0,
        "closing": share.closing,
        "stays": share.stays,
    })
}
