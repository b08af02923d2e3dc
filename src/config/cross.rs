//! Findings that need more than one section.
//!
//! Deliberately compares what was read, in any file, with each other only;
//! what a section says by itself was checked when it was read.

use std::collections::{BTreeMap, BTreeSet};

use super::acme_names;
use super::diagnostic::{Diagnostic, Place};
use super::draft::Draft;
use super::findings::Findings;
use super::key_source::{KeySource, KeysUrl};
use super::model::{Admin, Config, ListenAddress, Listener, Route, StickySource};
use super::nearest::nearest;
use super::routes::RouteDraft;

const FIRST: &str = "the first is";

pub(super) fn check(config: &Config, draft: &Draft, findings: &Findings) {
    absences(draft, findings);
    addresses(config.admin.as_ref(), draft, findings);
    acme_names::check(config.acme.as_ref(), draft, findings);
    upstreams(draft, findings);
    routes(draft, findings);
    urls_of_keys(draft, findings);
}

/// The keys of one URL are fetched once for all routes.
fn urls_of_keys(draft: &Draft, findings: &Findings) {
    let mut seen: BTreeMap<&str, &KeysUrl> = BTreeMap::new();
    for jwt in draft.routes.iter().filter_map(|it| it.route.jwt.as_ref()) {
        let KeySource::Url(this) = &jwt.keys else {
            continue;
        };
        let first = *seen.entry(&this.url.text).or_insert(this);
        if first != this {
            let message = format!(
                "the keys of {} are fetched in two ways: `refresh`, `timeout` and `ca` must be \
                 the same wherever it is named",
                this.url.text
            );
            let finding = Diagnostic::new(this.place.0.clone(), message);
            findings.push(finding.see(FIRST, first.place.0.clone()));
        }
    }
}

fn absences(draft: &Draft, findings: &Findings) {
    let main = || Place::file(draft.main.clone());
    if !draft.mentions_listeners {
        let message = "no listener: there must be at least one table [listeners.NAME]";
        findings.absent(Diagnostic::new(main(), message));
    }
    if !draft.mentions_routes {
        let message = "no route: there must be at least one table [[routes]]";
        findings.absent(Diagnostic::new(main(), message));
    }
}

/// Two sockets cannot have one address; of port 0 the kernel gives each its own.
fn addresses(admin: Option<&Admin>, draft: &Draft, findings: &Findings) {
    let mut listeners: Vec<_> = draft.listeners.iter().collect();
    listeners.sort_by_key(|(_, at)| at);
    for (index, (listener, at)) in listeners.iter().enumerate() {
        let name = &listener.name;
        let same = |(other, _): &&&(Listener, Place)| match (&listener.address, &other.address) {
            (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => a == b && a.port() != 0,
            (ListenAddress::Unix { path: a, .. }, ListenAddress::Unix { path: b, .. }) => a == b,
            _ => false,
        };
        if let Some((other, other_at)) = listeners[..index].iter().find(same) {
            let other = &other.name;
            let message = format!("listener `{name}` has the address of listener `{other}`");
            findings.push(Diagnostic::new(at.clone(), message).see(FIRST, other_at.clone()));
        }
        let is_admins = |admin: &Admin| match &listener.address {
            ListenAddress::Unix { path, .. } => admin.socket.as_ref() == Some(path),
            ListenAddress::Tcp(address) => admin.listen == Some(*address) && address.port() != 0,
        };
        if admin.is_some_and(is_admins) {
            let message = format!("listener `{name}` has the address of the admin socket");
            findings.push(Diagnostic::new(at.clone(), message));
        }
    }
}

fn upstreams(draft: &Draft, findings: &Findings) {
    if draft.misspells_upstreams {
        return;
    }
    for draft_route in &draft.routes {
        let route = &draft_route.route;
        unknown(
            draft,
            findings,
            &route.upstream,
            &draft_route.upstream_at,
            &route.name,
        );
        sticky_keys(draft, findings, draft_route);
        if let Some(auth) = &route.auth {
            unknown(draft, findings, &auth.upstream, &auth.place.0, &route.name);
        }
    }
}

/// A cookie of longhaul's own is no key.
fn sticky_keys(draft: &Draft, findings: &Findings, draft_route: &RouteDraft) {
    let route = &draft_route.route;
    if route.limits.tunnels.per_sticky_key.is_none() {
        return;
    }
    let Some(upstream) = draft.upstreams.get(&route.upstream) else {
        return;
    };
    let is_key = |source: &StickySource| *source != StickySource::OwnCookie;
    if !upstream.sticky.iter().any(is_key) {
        let message = format!(
            "`max_tunnels_per_sticky_key` in route `{}` has no effect: upstream `{}` has no \
             sticky key",
            route.name, route.upstream
        );
        findings.push(Diagnostic::new(draft_route.upstream_at.clone(), message));
    }
}

/// A finding if there is no upstream of this name.
fn unknown(draft: &Draft, findings: &Findings, name: &str, at: &Place, route: &str) {
    if draft.upstreams_written.contains_key(name) {
        return;
    }
    let names: Vec<&str> = draft.upstreams_written.keys().map(String::as_str).collect();
    let known = match names.len() {
        0 => "none: there is no [upstreams.NAME]".to_owned(),
        _ => names.join(", "),
    };
    findings.absent(
        Diagnostic::new(
            at.clone(),
            format!("unknown upstream `{name}` in route `{route}`"),
        )
        .allowed(known)
        .nearest(nearest(name, names)),
    );
}

fn routes(draft: &Draft, findings: &Findings) {
    let mut names: BTreeMap<&str, &RouteDraft> = BTreeMap::new();
    let mut requests: BTreeMap<_, &RouteDraft> = BTreeMap::new();
    for this in &draft.routes {
        let name = this.route.name.as_str();
        if let Some(first) = requests.get(&matched(&this.route)) {
            let other = &first.route.name;
            let message = format!("route `{name}` matches the same requests as route `{other}`");
            findings.push(
                Diagnostic::new(this.route.place.0.clone(), message)
                    .see(FIRST, first.route.place.0.clone()),
            );
            continue;
        }
        requests.insert(matched(&this.route), this);
        if let Some(first) = names.get(name) {
            let message =
                format!("two routes are named `{name}`: give one of them a `name` of its own");
            findings.push(
                Diagnostic::new(this.name_at.clone(), message).see(FIRST, first.name_at.clone()),
            );
            continue;
        }
        names.insert(name, this);
    }
}

/// Which requests a route matches, whatever the order of its lists.
fn matched(route: &Route) -> impl Ord + use<> {
    let texts = |list: Vec<String>| list.into_iter().collect::<BTreeSet<_>>();
    let header = |(name, value): &(http::HeaderName, Option<http::HeaderValue>)| {
        let value = value.as_ref().map(|value| value.as_bytes().to_vec());
        (name.as_str().to_owned(), value)
    };
    (
        route.host.to_string(),
        route.path.to_string(),
        texts(route.methods.iter().map(ToString::to_string).collect()),
        route.headers.iter().map(header).collect::<BTreeSet<_>>(),
        texts(route.subprotocols.clone()),
    )
}
