//! What an edit changed, in words for one log line.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::config::{Config, Route};

/// The differences between two configurations, such as
/// `route "chat" added; upstream "chat": backend "chat-3" added`.
pub fn changes(old: &Config, new: &Config) -> String {
    let mut words = Words::default();
    words.keyed("listener", &old.listeners, &new.listeners);
    let by_name = |routes: &[Route]| -> BTreeMap<String, Route> {
        routes
            .iter()
            .map(|route| (route.name.clone(), route.clone()))
            .collect()
    };
    words.keyed("route", &by_name(&old.routes), &by_name(&new.routes));
    words.keyed("upstream", &old.upstreams, &new.upstreams);
    for (name, upstream) in &new.upstreams {
        let Some(before) = old.upstreams.get(name).filter(|before| *before != upstream) else {
            continue;
        };
        let by_name = |backends: &[crate::config::Backend]| -> BTreeMap<String, _> {
            backends
                .iter()
                .map(|backend| (backend.name.clone(), backend.clone()))
                .collect()
        };
        let (before, after) = (by_name(&before.backends), by_name(&upstream.backends));
        words.keyed(&format!("upstream \"{name}\": backend"), &before, &after);
    }
    words.section(
        "trusted_proxies",
        old.trusted_proxies != new.trusted_proxies,
    );
    words.section(
        "forwarded_header",
        old.forwarded_header != new.forwarded_header,
    );
    words.section("limits", old.limits != new.limits);
    words.section("tcp", old.tcp != new.tcp);
    words.section("log", old.log != new.log);
    words.section("drain", old.drain != new.drain);
    words.section("acme", old.acme != new.acme);
    words.section("admin", old.admin != new.admin);
    words.section("workers (needs a restart)", old.workers != new.workers);
    words.0
}

#[derive(Default)]
struct Words(String);

impl Words {
    fn keyed<T: PartialEq>(
        &mut self,
        kind: &str,
        old: &BTreeMap<String, T>,
        new: &BTreeMap<String, T>,
    ) {
        for (name, value) in new {
            match old.get(name) {
                None => self.say(kind, name, "added"),
                Some(before) if before != value => self.say(kind, name, "changed"),
                Some(_) => {}
            }
        }
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            self.say(kind, name, "removed");
        }
    }

    fn section(&mut self, name: &str, changed: bool) {
        if changed {
            self.separate();
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{name} changed");
        }
    }

    fn say(&mut self, kind: &str, name: &str, what: &str) {
        self.separate();
        let _ = write!(self.0, "{kind} \"{name}\" {what}");
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push_str("; ");
        }
    }
}
