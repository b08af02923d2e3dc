//! Findings that need more than one section.
//!
//! Deliberately compares what was read, in any file, with each other only;
//! what a section says by itself was checked when it was read.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Diagnostic, Place};
use super::findings::Findings;
use super::model::{Admin, ListenAddress, Route};
use super::nearest::nearest;
use super::parse::Draft;
use super::routes::RouteDraft;

pub(super) fn check(admin: Option<&Admin>, draft: &Draft, findings: &Findings) {
    absences(draft, findings);
    addresses(admin, draft, findings);
    upstreams(draft, findings);
    routes(draft, findings);
}

fn absences(draft: &Draft, findings: &Findings) {
    let main = || Place::file(draft.main.clone());
    if draft.listeners_written == 0 {
        let message = "no listener: there must be at least one table [listeners.NAME]";
        findings.absent(Diagnostic::new(main(), message));
    }
    if draft.routes_written == 0 {
        let message = "no route: there must be at least one table [[routes]]";
        findings.absent(Diagnostic::new(main(), message));
    }
}

/// Two sockets cannot have one address; of port 0 the kernel gives each its own.
fn addresses(admin: Option<&Admin>, draft: &Draft, findings: &Findings) {
    for (index, (listener, at)) in draft.listeners.iter().enumerate() {
        let same = |other: &ListenAddress| match (&listener.address, other) {
            (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => a == b && a.port() != 0,
            (ListenAddress::Unix { path: a, .. }, ListenAddress::Unix { path: b, .. }) => a == b,
            _ => false,
        };
        let earlier = draft.listeners[..index].iter();
        for (other, other_at) in earlier.filter(|(other, _)| same(&other.address)) {
            let (name, other) = (&listener.name, &other.name);
            let message = format!("listener `{name}` has the address of listener `{other}`");
            // Listeners are read by name; the later place is the finding.
            let (first, second) = if at < other_at {
                (at, other_at)
            } else {
                (other_at, at)
            };
            findings
                .push(Diagnostic::new(second.clone(), message).see("the first is", first.clone()));
        }
        let is_admin = |admin: &&Admin| matches!(&listener.address, ListenAddress::Unix { path, .. } if *path == admin.socket);
        if admin.filter(is_admin).is_some() {
            let message = format!(
                "listener `{}` has the address of the admin socket",
                listener.name
            );
            findings.push(Diagnostic::new(at.clone(), message));
        }
    }
}

fn upstreams(draft: &Draft, findings: &Findings) {
    for RouteDraft {
        route, upstream_at, ..
    } in &draft.routes
    {
        let name = &route.upstream;
        if draft.upstreams_written.contains_key(name) {
            continue;
        }
        let names: Vec<&str> = draft.upstreams_written.keys().map(String::as_str).collect();
        let known = match names.len() {
            0 => "none: there is no [upstreams.NAME]".to_owned(),
            _ => names.join(", "),
        };
        findings.absent(
            Diagnostic::new(
                upstream_at.clone(),
                format!(
                    "route `{}` names an upstream `{name}` that is not there",
                    route.name
                ),
            )
            .allowed(known)
            .nearest(nearest(name, names)),
        );
    }
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
                    .see("the first is", first.route.place.0.clone()),
            );
            continue;
        }
        requests.insert(matched(&this.route), this);
        if let Some(first) = names.get(name) {
            let message = format!("two routes are named `{name}`: give one another `name`");
            findings.push(
                Diagnostic::new(this.name_at.clone(), message)
                    .see("the first is", first.name_at.clone()),
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
