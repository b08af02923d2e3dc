//! Whether a client has a certificate that its listener accepts, and whose it is,
//! for backends: `client_certificates`, and its `subject_header`.
//!
//! A connection outlives the configuration under which it began, and the
//! certificate that it began with. So each request is judged by the one in force.
//!
//! Every listener takes off the headers that any of them sets: a client must not
//! be able to come by another door and say itself what this one would have proved.
//!
//! Invariant: a backend sees such a header only if longhaul has verified the
//! certificate that it tells of, and would now.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use http::{HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};

use crate::config::{Config, Listener};
use crate::exchange::headers::withdraw;
use crate::exchange::{Body, CaDigest, Client, Exchange, Refusal, Reply, TlsFacts};

#[derive(Clone, Debug)]
pub struct SubjectLayer {
    /// Of the listener itself.
    own: Option<HeaderName>,
    /// Of all listeners.
    all: Arc<[HeaderName]>,
    /// `Some` if clients are asked for certificates.
    asks: Option<Asks>,
}

#[derive(Clone, Debug)]
struct Asks {
    /// Whose, sorted.
    cas: Arc<[CaDigest]>,
    required: bool,
}

impl SubjectLayer {
    /// For requests that come by `listener`, whose clients' certificates are from
    /// these CAs.
    pub fn by(
        config: &Config,
        listener: Option<&Listener>,
        client_cas: Option<&Arc<[CaDigest]>>,
    ) -> Self {
        let of = |listener: &Listener| {
            listener
                .client_certificates
                .as_ref()?
                .subject_header
                .clone()
        };
        let mut all: Vec<_> = config.listeners.values().filter_map(of).collect();
        all.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        all.dedup();
        let asked = listener.and_then(|listener| listener.client_certificates.as_ref());
        let asks = asked.zip(client_cas).map(|(asked, cas)| Asks {
            cas: Arc::clone(cas),
            required: asked.required,
        });
        Self {
            own: listener.and_then(of),
            all: all.into(),
            asks,
        }
    }

    /// Whether the client's certificate is accepted.
    ///
    /// # Errors
    /// It is not, or there is none, and one is required.
    fn judge(&self, client: &Client) -> Result<bool, Refusal> {
        let Some(asks) = &self.asks else {
            return Ok(false);
        };
        let (tls, now) = (client.tls.as_ref(), SystemTime::now());
        match tls.is_some_and(|tls| tls.is_certified(&asks.cas, now)) {
            false if asks.required => Err(Refusal::NoClientCertificate),
            certified => Ok(certified),
        }
    }

    fn write(&self, client: &Client, certified: bool, request: &mut Request<Body>) {
        for name in &*self.all {
            withdraw(request, name);
        }
        let tls = client.tls.as_ref().filter(|_| certified);
        let subject = tls.and_then(TlsFacts::client_subject);
        // A certificate without a subject names nobody.
        let subject = subject.filter(|subject| !subject.is_empty());
        let value = subject.and_then(|subject| HeaderValue::from_str(subject).ok());
        if let (Some(name), Some(value)) = (&self.own, value) {
            request.headers_mut().insert(name, value);
        }
    }
}

#[derive(Clone, Debug)]
pub struct SubjectService<S> {
    inner: S,
    layer: SubjectLayer,
}

impl<S> Layer<S> for SubjectLayer {
    type Service = SubjectService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SubjectService {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S> Service<Request<Body>> for SubjectService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Refusal, Future = Reply>,
{
    type Response = Response<Body>;
    type Error = Refusal;
    type Future = Reply;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(exchange) = request.extensions_mut().get_mut::<Exchange>() {
            let certified = match self.layer.judge(&exchange.client) {
                Ok(certified) => certified,
                Err(refusal) => return Box::pin(async { Err(refusal) }),
            };
            exchange.certified = certified;
            if !self.layer.all.is_empty() {
                let client = Arc::clone(&exchange.client);
                self.layer.write(&client, certified, &mut request);
            }
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exchange::{Certificate, Http, Place};
    use crate::net::{Limiter, Peer};

    const OLD: CaDigest = [1; 32];
    const NEW: CaDigest = [2; 32];

    /// A client whose certificate was from the old CA and ends in so many seconds.
    fn client(seconds: i64) -> Client {
        let left = Duration::from_secs(seconds.unsigned_abs());
        let now = SystemTime::now();
        let not_after = match seconds < 0 {
            true => now - left,
            false => now + left,
        };
        let certificate = Certificate {
            subject: "CN=ann".to_owned(),
            not_after: Some(not_after),
            cas: [OLD].into(),
        };
        Client {
            listener: "a".into(),
            peer: Peer::Tcp("192.0.2.1:1".parse().unwrap()),
            local: None,
            origin: None,
            tls: Some(TlsFacts {
                certificate: Some(Box::new(certificate)),
                ..TlsFacts::default()
            }),
            http: Http::Two,
            place: Arc::new(Place {
                _permit: Limiter::new(1, None).admit(None).unwrap(),
                watch: crate::drain::channel().1,
            }),
        }
    }

    fn layer(asks: Option<(&[CaDigest], bool)>) -> SubjectLayer {
        let name = HeaderName::from_static("x-subject");
        SubjectLayer {
            own: Some(name.clone()),
            all: [name].into(),
            asks: asks.map(|(cas, required)| Asks {
                cas: cas.into(),
                required,
            }),
        }
    }

    #[test]
    fn a_certificate_that_has_ended_or_lost_its_ca_is_none() {
        let judge = |seconds, asks: Option<(&[CaDigest], bool)>| {
            let verdict = layer(asks).judge(&client(seconds));
            verdict.map_err(|refusal| refusal.label())
        };
        let refused = Err("no_client_certificate");
        for (seconds, cas, optional, required) in [
            (60, &[OLD][..], Ok(true), Ok(true)),
            (60, &[OLD, NEW], Ok(true), Ok(true)),
            (60, &[NEW], Ok(false), refused),
            (-1, &[OLD], Ok(false), refused),
        ] {
            assert_eq!(judge(seconds, Some((cas, false))), optional);
            assert_eq!(judge(seconds, Some((cas, true))), required);
        }
        assert_eq!(judge(60, None), Ok(false));
    }

    #[test]
    fn only_the_subject_of_one_that_counts_is_written() {
        let layer = layer(Some((&[OLD], false)));
        for (certified, subject) in [(true, Some("CN=ann")), (false, None)] {
            let mut request = Request::new(Body::full(""));
            let forged = HeaderValue::from_static("CN=root");
            request.headers_mut().insert("x-subject", forged);
            layer.write(&client(60), certified, &mut request);
            let told = request.headers().get("x-subject");
            assert_eq!(told.and_then(|it| it.to_str().ok()), subject);
        }
    }
}
