//! One attempt to get a certificate: its key, the account, the order, the file.

use std::sync::Arc;
use std::time::SystemTime;

use instant_acme::Account;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::AcmeError;
use super::account::{account, is_unknown};
use super::ca::NotBefore;
use super::desk::Desk;
use super::order::{Ask, order};
use super::storage::Storage;
use super::wanted::Wanted;
use crate::config::Challenge;
use crate::tls::Pair;

/// What all attempts under one configuration share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) wanted: Arc<Wanted>,
    pub(super) storage: Storage,
    pub(super) desk: Arc<Desk>,
    /// Once it has been asked for; by one at a time.
    pub(super) account: Arc<Mutex<Option<Account>>>,
    /// Of all.
    pub(super) not_before: NotBefore,
}

/// What came of one.
pub(super) struct Attempted {
    pub(super) name: String,
    pub(super) made: Result<Arc<Pair>, AcmeError>,
    /// When the CA wants to be asked for this name again, if it has said so.
    pub(super) not_before: Option<Instant>,
}

impl Common {
    /// Within `order_timeout`.
    pub(super) async fn attempt(self, name: String, challenge: Challenge) -> Attempted {
        let limit = self.wanted.acme.order_timeout;
        let own = NotBefore::default();
        let made = timeout(limit, self.make(&name, challenge, &own)).await;
        Attempted {
            name,
            made: made.unwrap_or(Err(AcmeError::Timeout)),
            not_before: own.get(),
        }
    }

    async fn make(
        &self,
        name: &str,
        challenge: Challenge,
        own: &NotBefore,
    ) -> Result<Arc<Pair>, AcmeError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        let reserved = self.storage.reserve(name, &key.serialize_pem());
        let reserved = reserved.map_err(AcmeError::storage(self.storage.dir()))?;
        let account = self.account().await?;
        let ask = Ask {
            name,
            request: request.der(),
            challenge,
        };
        let ordered = own.of_order(order(&account, &self.desk, ask)).await;
        if ordered.as_ref().is_err_and(is_unknown) {
            self.forget_account().await?;
        }
        reserved.fill(name, &ordered?, SystemTime::now())
    }

    async fn account(&self) -> Result<Account, AcmeError> {
        let mut held = self.account.lock().await;
        if let Some(account) = &*held {
            return Ok(account.clone());
        }
        let made = account(&self.wanted.acme, &self.storage, &self.not_before).await;
        if made.as_ref().is_err_and(is_unknown) {
            self.set_aside()?;
        }
        let made = made?;
        *held = Some(made.clone());
        Ok(made)
    }

    /// The next attempt makes another.
    async fn forget_account(&self) -> Result<(), AcmeError> {
        // Several orders may meet this at once; the first has done it.
        match self.account.lock().await.take() {
            Some(_) => self.set_aside(),
            None => Ok(()),
        }
    }

    fn set_aside(&self) -> Result<(), AcmeError> {
        tracing::warn!("the CA does not know the acme account; another will be made");
        let aside = self.storage.set_account_aside();
        aside.map_err(AcmeError::storage(self.storage.dir()))
    }
}
