//! Where one configuration sends a client.
//!
//! It goes by names, addresses, weights and states. Health and load have no part
//! in it: what is down or full now may not be when it matters.

use std::collections::HashMap;

use http::HeaderMap;

use super::outline::{Outline, OutlinedRoute, Outlines};
use super::visit::{Key, Visit};
use crate::balance::{Member, member_id, rendezvous};
use crate::config::BackendState;
use crate::route::{Miss, Request, Table};

/// A configuration that can be asked.
pub struct Plane<'a> {
    routes: Table<&'a OutlinedRoute>,
    is_conditional: bool,
    groups: HashMap<&'a str, Group<'a>>,
}

/// An upstream.
pub struct Group<'a> {
    name: &'a str,
    pub outline: &'a Outline,
    members: Vec<Member>,
}

/// Where clients with one request are sent.
#[derive(Clone, Copy)]
pub enum Home<'a> {
    /// To this address.
    At(&'a str),
    /// To any backend that is used.
    Anywhere(&'a Group<'a>),
    Nowhere,
    /// To one that cannot be known.
    Unknown,
}

impl<'a> Plane<'a> {
    /// Of outlines that have been checked.
    pub fn new(outlines: &'a Outlines) -> Self {
        let routes = outlines.routes.iter();
        let criteria = routes.filter_map(|route| Some((route.criteria().ok()?, route)));
        let groups = outlines.upstreams.iter();
        Self {
            routes: Table::new(criteria),
            is_conditional: outlines.routes.iter().any(OutlinedRoute::is_conditional),
            groups: groups
                .map(|(name, outline)| (&**name, Group::new(name, outline)))
                .collect(),
        }
    }

    /// The upstream of this name.
    pub fn upstream(&self, name: &str) -> Option<&Group<'a>> {
        self.groups.get(name)
    }

    /// The upstream of a route, if there is one.
    pub fn group(&self, route: Option<&OutlinedRoute>) -> Option<&Group<'a>> {
        self.upstream(&route?.upstream)
    }

    /// The routes that a request may have; the last is certain, and is none where
    /// none matches. `held` is the one that it had among those `before`.
    pub fn routes(
        &self,
        visit: &Visit<'_>,
        before: &Self,
        held: Option<&str>,
    ) -> Vec<Option<&'a OutlinedRoute>> {
        let nothing = HeaderMap::new();
        let request = Request {
            host: visit.host(),
            path: visit.path(),
            method: visit.method(),
            headers: &nothing,
        };
        if !self.is_conditional {
            return vec![self.routes.lookup(&request).copied()];
        }
        let (passed, held) = before.passed(&request, held);
        let mut found = Vec::new();
        for (route, fits) in self.fitting(&request) {
            let same = |other: &&OutlinedRoute| route.has_conditions_of(other);
            if fits || held.as_ref().is_some_and(same) {
                found.push(Some(route));
                return found;
            }
            if !passed.contains(&route) {
                found.push(Some(route));
            }
        }
        found.push(None);
        found
    }

    /// In order of precedence, those that the request may have by what was kept
    /// of it, and whether it has them without a condition.
    fn fitting(&self, request: &Request<'_>) -> impl Iterator<Item = (&'a OutlinedRoute, bool)> {
        let is_condition = |miss: &Miss| matches!(miss, Miss::Header(_) | Miss::Subprotocol);
        let considered = self.routes.explain(request).into_iter();
        considered
            .filter(move |one| one.misses.iter().all(is_condition))
            .map(|one| (*one.target, one.misses.is_empty()))
    }

    /// The routes that a request was held against in vain, and the one it had.
    fn passed(
        &self,
        request: &Request<'_>,
        held: Option<&str>,
    ) -> (Vec<&'a OutlinedRoute>, Option<&'a OutlinedRoute>) {
        let mut passed = Vec::new();
        for (route, _) in self.fitting(request) {
            if held == Some(&*route.name) {
                return (passed, Some(route));
            }
            passed.push(route);
        }
        // It is not one of these, so nothing is known by it.
        (Vec::new(), None)
    }
}

impl<'a> Group<'a> {
    fn new(name: &'a str, outline: &'a Outline) -> Self {
        let members = outline.backends.iter().map(|one| Member {
            id: member_id(&one.name),
            weight: one.weight,
            ramp: 100,
            load: 0,
        });
        Self {
            name,
            outline,
            members: members.collect(),
        }
    }

    /// Whether it sends every client where the other does.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.name, self.outline) == (other.name, other.outline)
    }

    /// Whether clients are sent to an address.
    pub fn uses(&self, address: &str) -> bool {
        let mut used = (0..self.members.len()).filter(|index| self.is_active(*index));
        used.any(|index| self.outline.backends[index].address == address)
    }

    /// Where a client is sent that has a tunnel at this backend.
    pub fn home(&'a self, visit: &Visit<'_>, backend: &str) -> Home<'a> {
        let skip = |index: usize| !self.is_active(index);
        if (0..self.members.len()).all(skip) {
            // Where they are discovered, there will be some.
            return match self.outline.discovers {
                true => Home::Unknown,
                false => Home::Nowhere,
            };
        }
        let address = |index: usize| Home::At(&self.outline.backends[index].address);
        match visit.key(self.name, self.outline) {
            Key::Bound => {
                let mut active = (0..self.members.len()).filter(|index| !skip(*index));
                let own = active.find(|index| self.outline.backends[*index].name == backend);
                own.map_or(Home::Anywhere(self), address)
            }
            Key::Known(key) if self.outline.hashes => {
                rendezvous(key, &self.members, &skip).map_or(Home::Nowhere, address)
            }
            Key::Unknown if self.outline.hashes => Home::Unknown,
            _ => Home::Anywhere(self),
        }
    }

    fn is_active(&self, index: usize) -> bool {
        self.outline.backends[index].state == BackendState::Active.label()
    }
}
