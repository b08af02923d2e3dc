//! Whom the requests of routes are from: users and keys, in files and from URLs.
//!
//! It fetches nothing: what a URL has had so far is carried over.

use std::sync::Arc;

use super::Work;
use crate::config::{BasicAuth, Jwt, KeySource, KeysUrl};
use crate::fetch::KeyFetch;
use crate::identity::{IdentityError, KeySet, Keys, Tokens, Users};
use crate::proxy::Identity;
use crate::tls;

impl Work<'_> {
    /// Of each route, in their order.
    pub(super) fn identities(&mut self) -> Vec<Option<Identity>> {
        let config = self.config;
        let each = config.routes.iter().map(|route| {
            let made = match (&route.basic_auth, &route.jwt) {
                (Some(settings), _) => self.password(settings).map(Some),
                (None, Some(settings)) => self.token(settings),
                (None, None) => Ok(None),
            };
            made.unwrap_or_else(|error| {
                let file = route.basic_auth.as_ref().map(|it| &*it.users);
                let file = file.or_else(|| match &route.jwt.as_ref()?.keys {
                    KeySource::File(path) => Some(path),
                    KeySource::Url(_) => None,
                });
                self.find(file, &route.place.0, error.to_string());
                None
            })
        });
        each.collect()
    }

    fn password(&mut self, settings: &BasicAuth) -> Result<Identity, IdentityError> {
        let (file, current) = (&settings.users, self.state.snapshot());
        let before = self.users.get(file).or_else(|| current.users.get(file));
        let users = Users::load(file, &self.state.turns, before)?;
        self.users.insert(file.clone(), Arc::clone(&users));
        Ok(Identity::Password(settings.clone(), users))
    }

    /// `None`, with a finding, if a URL's CA is of no use.
    fn token(&mut self, settings: &Jwt) -> Result<Option<Identity>, IdentityError> {
        let keys = match &settings.keys {
            KeySource::File(path) => KeySet::Fixed(Keys::load(path, &settings.algorithms)?),
            KeySource::Url(url) => match self.key_fetch(url) {
                Some(fetch) => KeySet::Fetched(Arc::clone(&fetch.keyring), url.timeout),
                None => return Ok(None),
            },
        };
        let tokens = Box::new(Tokens::new(settings, keys));
        Ok(Some(Identity::Token(Box::new(settings.clone()), tokens)))
    }

    /// One for each URL, with the keys that were fetched before.
    fn key_fetch(&mut self, settings: &KeysUrl) -> Option<Arc<KeyFetch>> {
        let url = &settings.url.text;
        if let Some(made) = self.key_fetches.get(url) {
            return Some(Arc::clone(made));
        }
        let ca = settings.ca.as_deref();
        let tls = match settings.url.is_https {
            true => {
                let made = tls::client_config(ca, None);
                let place = &settings.place.0;
                let found = made.map_err(|error| self.find(ca, place, error.to_string()));
                Some(found.ok()?)
            }
            false => None,
        };
        let current = self.state.snapshot();
        let before = current.key_fetches.get(url);
        let fetch = Arc::new(KeyFetch {
            settings: settings.clone(),
            tls,
            keyring: before.map_or_else(Arc::default, |it| Arc::clone(&it.keyring)),
        });
        self.key_fetches.insert(url.clone(), Arc::clone(&fetch));
        Some(fetch)
    }
}
