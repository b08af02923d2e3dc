//! One order: prove a name to the CA and take the certificate (RFC 8555
//! section 7.4).

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};

use super::AcmeError;
use super::desk::{Desk, Shown};
use crate::config::Challenge;

/// How often the CA is asked whether it is done; the caller has the deadline.
const POLLS: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(100))
    .timeout(Duration::from_secs(24 * 60 * 60));

/// What a certificate is asked for with: the name, a request with its key (DER
/// of PKCS#10), and how the name is proven.
pub(super) struct Ask<'a> {
    pub(super) name: &'a str,
    pub(super) request: &'a [u8],
    pub(super) challenge: Challenge,
}

/// The chain, as PEM.
pub(super) async fn order(
    account: &Account,
    desk: &Desk,
    ask: Ask<'_>,
) -> Result<String, AcmeError> {
    let identifiers = [Identifier::Dns(ask.name.to_owned())];
    let order = account.new_order(&NewOrder::new(&identifiers)).await;
    let mut order = order.map_err(AcmeError::Order)?;
    // Withdrawn whatever becomes of it.
    let _shown = prove(&mut order, desk, &ask).await?;
    let ready = match order.poll_ready(&POLLS).await {
        Ok(OrderStatus::Ready) => Ok(()),
        Ok(_) => Err(None),
        Err(error) => Err(Some(error)),
    };
    if let Err(error) = ready {
        return Err(why(&mut order, &ask, error).await);
    }
    let finalized = order.finalize_csr(ask.request).await;
    finalized.map_err(AcmeError::Order)?;
    let chain = order.poll_certificate(&POLLS).await;
    chain.map_err(AcmeError::Order)
}

/// Shows the proof of each authorization that wants one, and says so.
async fn prove<'a>(
    order: &mut Order,
    desk: &'a Desk,
    ask: &Ask<'_>,
) -> Result<Vec<Shown<'a>>, AcmeError> {
    let kind = match ask.challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(AcmeError::Order)?;
        // One that is valid from before wants no proof.
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            return Err(AcmeError::NoChallenge(ask.challenge.label()));
        };
        let key = challenge.key_authorization();
        let digest = key.digest();
        let digest = digest.as_ref().try_into();
        let digest: &[u8; 32] = digest.map_err(|_| AcmeError::Order(Error::Crypto))?;
        let token = challenge.token.clone();
        let proof = (key.as_str(), digest);
        shown.push(desk.show(ask.challenge, ask.name, &token, proof)?);
        challenge.set_ready().await.map_err(AcmeError::Order)?;
    }
    Ok(shown)
}

/// What the CA found wrong, which stands in the challenge rather than in the
/// order.
async fn why(order: &mut Order, ask: &Ask<'_>, error: Option<Error>) -> AcmeError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            break;
        };
        if let Some(problem) = state.challenges.iter().find_map(|it| it.error.as_ref()) {
            return AcmeError::Refused {
                challenge: ask.challenge.label(),
                reason: problem.to_string(),
            };
        }
    }
    AcmeError::Order(error.unwrap_or(Error::Str("the order became invalid")))
}
