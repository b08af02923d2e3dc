//! The names that are asked of an ACME CA: those that a listener says, or else
//! the hosts of the routes.
//!
//! Deliberately no wildcard: only the challenge dns-01 proves one (RFC 8555
//! section 7.1.3), which longhaul does not do.

use std::net::Ipv4Addr;

use super::acme::{Acme, Challenge};
use super::diagnostic::Diagnostic;
use super::draft::Draft;
use super::findings::Findings;
use super::model::Listener;
use super::pattern::HostPattern;
use super::routes::RouteDraft;
use super::section::{Section, Value, Wrong};
use super::value::{text, wrong};

/// `Some` if the listener's certificates come by ACME: for these names, or for
/// those of the routes if there are none.
pub(super) fn of_listener(section: &Section<'_>) -> Option<Vec<String>> {
    let value = section.value("certificates")?;
    if !matches!(text(&value, ""), Ok("acme")) {
        return None;
    }
    let allowed = "an array of host names such as \"chat.example.com\"";
    Some(distinct(section.list("acme_names", allowed, name)))
}

/// The hosts of the routes that a certificate can be for, in their order.
pub(super) fn of_routes(routes: &[RouteDraft]) -> Vec<String> {
    let hosts = routes.iter().filter_map(|draft| match &draft.route.host {
        HostPattern::Exact(host) => provable(host).then(|| host.clone()),
        HostPattern::Any | HostPattern::Wildcard(_) => None,
    });
    distinct(hosts.collect())
}

/// What needs the section, the listeners and the routes together.
pub(super) fn check(acme: Option<&Acme>, draft: &Draft, findings: &Findings) {
    let mut asking = draft
        .listeners
        .iter()
        .filter(|(it, _)| it.acme_names.is_some())
        .peekable();
    match (acme, asking.peek()) {
        (Some(acme), None) => findings.absent(Diagnostic::new(
            acme.place.0.clone(),
            "[acme] has no effect: no listener has `certificates = \"acme\"`",
        )),
        (Some(acme), Some(_)) => no_way_in(acme, draft, findings),
        (None, _) => {}
    }
    for (listener, at) in asking {
        if !draft.mentions_acme {
            let message = format!(
                "`certificates = \"acme\"` in listener `{}` needs a table [acme]",
                listener.name
            );
            findings.absent(Diagnostic::new(at.clone(), message));
        }
        if listener.acme_names.as_ref().is_some_and(Vec::is_empty) {
            names_of_routes(listener, draft, findings);
        }
    }
}

/// A finding if the only challenge is one that nobody would answer.
fn no_way_in(acme: &Acme, draft: &Draft, findings: &Findings) {
    let is_plain = |it: &Listener| !it.is_tls();
    let is_by_request = |it: &Challenge| *it == Challenge::Http01;
    if acme.challenges.iter().all(is_by_request)
        && !draft.listeners.iter().any(|(it, _)| is_plain(it))
    {
        let message = "the challenge http-01 is answered by plain listeners, and there is none";
        findings.absent(Diagnostic::new(acme.place.0.clone(), message));
    }
}

fn names_of_routes(listener: &Listener, draft: &Draft, findings: &Findings) {
    for this in &draft.routes {
        if let HostPattern::Wildcard(_) = this.route.host {
            let message = format!(
                "listener `{}` gets no certificate for `{}`: a wildcard needs the challenge \
                 dns-01, which longhaul does not do; say the names in its `acme_names`",
                listener.name, this.route.host
            );
            findings.push(Diagnostic::new(this.route.place.0.clone(), message));
        }
    }
    if of_routes(&draft.routes).is_empty() && draft.mentions_routes {
        let message = format!(
            "listener `{}` has no name to get a certificate for: no route has a host of its \
             own, and there is no `acme_names`",
            listener.name
        );
        findings.absent(Diagnostic::new(listener.place.0.clone(), message));
    }
}

fn name(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "a host name such as \"chat.example.com\"; a wildcard needs the challenge \
                   dns-01, which longhaul does not do";
    match text(value, allowed)?.parse() {
        Ok(HostPattern::Exact(host)) if provable(&host) => Ok(host),
        _ => wrong(value, allowed),
    }
}

/// Whether it is a name, of those that a CA signs: no address, no underscore.
fn provable(host: &str) -> bool {
    !host.starts_with('[') && !host.contains('_') && host.parse::<Ipv4Addr>().is_err()
}

/// Each once, where it stands first.
fn distinct(names: Vec<String>) -> Vec<String> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
