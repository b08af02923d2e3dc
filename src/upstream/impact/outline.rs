//! What is to be known of a configuration to say where it sends clients: as
//! `/impact` is asked with it.
//!
//! Plain values. What they lead to is `plane`'s to say.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::config::{self, BackendState, Balance, Config, OnRemoved};
use crate::route::Criteria;

/// A configuration in outline.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outlines {
    pub routes: Vec<OutlinedRoute>,
    pub upstreams: BTreeMap<String, Outline>,
}

/// One route: what it asks of a request, and where it leads.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OutlinedRoute {
    pub name: String,
    pub host: String,
    pub path: String,
    pub methods: Vec<String>,
    /// `None` is any value.
    pub headers: Vec<(String, Option<String>)>,
    pub subprotocols: Vec<String>,
    pub upstream: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Outline {
    /// Whether keys choose the backend.
    pub hashes: bool,
    /// Where the key comes from, as the config writes it.
    pub sticky: Vec<String>,
    /// Whether the tunnels of a backend that is gone are closed.
    pub drains_removed: bool,
    /// Whether backends are found and not listed.
    pub discovers: bool,
    pub backends: Vec<OutlinedBackend>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OutlinedBackend {
    pub name: String,
    pub address: String,
    pub weight: u32,
    /// `active`, `draining` or `disabled`.
    pub state: String,
}

impl Outlines {
    pub fn of(config: &Config) -> Self {
        let upstream = |(name, it): (&String, &config::Upstream)| {
            (name.clone(), Outline::with(it, &it.backends))
        };
        Self {
            routes: config.routes.iter().map(OutlinedRoute::of).collect(),
            upstreams: config.upstreams.iter().map(upstream).collect(),
        }
    }

    /// What is no part of a configuration, in words.
    ///
    /// # Errors
    /// The first of it.
    pub fn check(&self) -> Result<(), String> {
        for route in &self.routes {
            route.criteria()?;
        }
        let backends = self.upstreams.values().flat_map(|it| &it.backends);
        let mut states = backends.map(|backend| &backend.state);
        match states.find(|word| BackendState::of_word(word).is_none()) {
            Some(word) => Err(format!(
                "`state` is {word:?}; expected \"active\", \"draining\" or \"disabled\""
            )),
            None => Ok(()),
        }
    }
}

impl OutlinedRoute {
    fn of(route: &config::Route) -> Self {
        let header = |(name, value): &(http::HeaderName, Option<http::HeaderValue>)| {
            let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
            (name.to_string(), value.as_ref().map(text))
        };
        Self {
            name: route.name.clone(),
            host: route.host.to_string(),
            path: route.path.to_string(),
            methods: route.methods.iter().map(Method::to_string).collect(),
            headers: route.headers.iter().map(header).collect(),
            subprotocols: route.subprotocols.clone(),
            upstream: route.upstream.clone(),
        }
    }

    /// # Errors
    /// What is no route, in words.
    pub(super) fn criteria(&self) -> Result<Criteria, String> {
        let wrong = |what: &str, text: &str| format!("route {:?}: {what} {text:?}", self.name);
        let host = self.host.parse().map_err(|_| wrong("host", &self.host))?;
        let path = self.path.parse().map_err(|_| wrong("path", &self.path))?;
        let method = |text: &String| text.parse().map_err(|_| wrong("method", text));
        let header = |(name, value): &(String, Option<String>)| {
            let value = value.as_ref().map(|value| value.parse()).transpose();
            match (name.parse(), value) {
                (Ok(name), Ok(value)) => Ok((name, value)),
                _ => Err(wrong("header", name)),
            }
        };
        Ok(Criteria {
            host,
            path,
            methods: self.methods.iter().map(method).collect::<Result<_, _>>()?,
            headers: self.headers.iter().map(header).collect::<Result<_, _>>()?,
            subprotocols: self.subprotocols.clone(),
        })
    }

    /// Whether it asks for what is not kept of a request.
    pub(super) fn is_conditional(&self) -> bool {
        !self.headers.is_empty() || !self.subprotocols.is_empty()
    }

    /// Whether both ask for the same of what is not kept of a request.
    pub(super) fn has_conditions_of(&self, other: &Self) -> bool {
        (&self.headers, &self.subprotocols) == (&other.headers, &other.subprotocols)
    }
}

impl Outline {
    pub(super) fn with(settings: &config::Upstream, backends: &[config::Backend]) -> Self {
        let backend = |one: &config::Backend| OutlinedBackend {
            name: one.name.clone(),
            address: one.address.to_string(),
            weight: one.weight,
            state: one.state.label().to_owned(),
        };
        Self {
            hashes: settings.balance == Balance::Hash,
            sticky: settings.sticky.iter().map(ToString::to_string).collect(),
            drains_removed: settings.on_removed == OnRemoved::Drain,
            discovers: settings.discovery.is_some(),
            backends: backends.iter().map(backend).collect(),
        }
    }

    pub(super) fn find(&self, name: &str, address: &str) -> Option<&OutlinedBackend> {
        let mut backends = self.backends.iter();
        backends.find(|it| it.name == name && it.address == address)
    }
}
