//! The account at the CA: made once, kept, and taken from then on.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};

use super::AcmeError;
use super::ca::{Ca, NotBefore};
use super::storage::Storage;
use crate::config::{self, Acme};
use crate::files;
use crate::tls;

/// Of the file of an external key, in bytes.
const MOST_KEY: u64 = 4096;

/// What is kept of it.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// What the CA was told last.
    contact: Vec<String>,
    credentials: AccountCredentials,
}

/// The account that is kept, or a new one; asks the CA for its directory in any
/// case.
pub(super) async fn account(
    acme: &Acme,
    storage: &Storage,
    not_before: &NotBefore,
) -> Result<Account, AcmeError> {
    let roots = tls::client_config(acme.ca.as_deref(), None);
    let roots = roots.map_err(|error| AcmeError::Trust(error.to_string()))?;
    let ca = Box::new(Ca::new(roots, &acme.directory, not_before.clone()));
    let builder = Account::builder_with_http(ca);
    let stored = storage
        .account()
        .map_err(AcmeError::storage(storage.dir()))?;
    let Some(stored) = stored else {
        let contact: Vec<&str> = acme.contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let external = acme.external_account.as_ref().map(external).transpose()?;
        let made = builder.create(&new, acme.directory.clone(), external.as_ref());
        let (account, credentials) = made.await.map_err(AcmeError::Ca)?;
        keep(acme, storage, credentials)?;
        tracing::info!(account = account.id(), "acme account made");
        return Ok(account);
    };
    let Stored {
        contact,
        credentials,
    } = serde_json::from_str(&stored).map_err(AcmeError::StoredAccount)?;
    let account = builder.from_credentials(credentials);
    let account = account.await.map_err(AcmeError::Ca)?;
    if contact != acme.contact {
        let now: Vec<&str> = acme.contact.iter().map(String::as_str).collect();
        let told = account.update_contacts(&now).await;
        told.map_err(AcmeError::Ca)?;
        // As it was, but for what has been told.
        let mut text: Stored = serde_json::from_str(&stored).map_err(AcmeError::StoredAccount)?;
        text.contact.clone_from(&acme.contact);
        keep(acme, storage, text.credentials)?;
    }
    Ok(account)
}

/// Whether the CA does not know the account that we have (any more).
pub(super) fn is_unknown(error: &AcmeError) -> bool {
    let (AcmeError::Ca(Error::Api(problem)) | AcmeError::Order(Error::Api(problem))) = error else {
        return false;
    };
    let kind = problem.r#type.as_deref();
    kind == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

fn keep(acme: &Acme, storage: &Storage, credentials: AccountCredentials) -> Result<(), AcmeError> {
    let stored = Stored {
        contact: acme.contact.clone(),
        credentials,
    };
    let text = serde_json::to_string(&stored).map_err(AcmeError::StoredAccount)?;
    let kept = storage.keep_account(&text);
    kept.map_err(AcmeError::storage(storage.dir()))
}

fn external(account: &config::ExternalAccount) -> Result<ExternalAccountKey, AcmeError> {
    let wrong = |reason: String| AcmeError::ExternalKey {
        path: account.key_file.clone(),
        reason,
    };
    let read = files::open(&account.key_file).and_then(|file| files::read(&file, MOST_KEY));
    let text = read.map_err(|error| wrong(error.to_string()))?;
    let text = text.trim_ascii();
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let key = BASE64_URL_SAFE_NO_PAD.decode(text);
    let key = key.map_err(|error| wrong(format!("no base64url: {error}")))?;
    Ok(ExternalAccountKey::new(account.key_id.clone(), &key))
}
