//! Certificates read and matched, and the TLS of listeners, upstreams and the admin
//! API made of them.
//!
//! Invariant: a bad file never replaces a good pair.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::{AdminTls, Warning, Work};
use crate::acme;
use crate::config::{self, CertificatePair, ClientCertificates, Place, ServedCertificate};
use crate::tls::{self, Certificates, Freshness, Pair, Served, ServerOptions, ServerTls};

/// Certificates closer to their end than this are warned about.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

impl Work<'_> {
    pub(super) fn listeners_tls(&mut self) -> BTreeMap<String, ServerTls> {
        let config = self.config;
        let mut made = BTreeMap::new();
        self.acme();
        for (name, listener) in &config.listeners {
            let served: Vec<_> = listener
                .certificates
                .iter()
                .filter_map(|certificate| self.served(certificate))
                .collect();
            if !listener.is_tls() || served.len() < listener.certificates.len() {
                continue;
            }
            let certificates = match &listener.acme_names {
                Some(names) => Certificates::Issued(&self.state.acme.issued, names),
                None => Certificates::Files(&served),
            };
            let options = ServerOptions {
                certificates,
                client_certificates: listener.client_certificates.as_ref(),
                tls_1_3_only: listener.tls_1_3_only,
                http2: listener.http2,
            };
            match tls::server_config(&options, &self.state.tickets) {
                Ok(config) => drop(made.insert(name.clone(), config)),
                Err(error) => {
                    let ca = listener
                        .client_certificates
                        .as_ref()
                        .map(|client| &*client.ca);
                    self.find(ca, &listener.place, error.to_string());
                }
            }
        }
        made
    }

    /// What is stored serves from the first connection on, and the rest is ordered,
    /// when this is in force: not before.
    fn acme(&mut self) {
        if let Some(settings) = &self.config.acme
            && let Err(error) = tls::client_config(settings.ca.as_deref(), None)
        {
            self.find(settings.ca.as_deref(), &settings.place, error.to_string());
        }
        self.stored = acme::stored(self.config, &self.state.acme, self.now);
    }

    /// Of the admin API, where it speaks TLS.
    pub(super) fn admin_tls(&mut self) -> Option<Arc<AdminTls>> {
        let settings = self.config.admin.as_ref()?;
        let all = settings.certificates.iter();
        let served: Vec<_> = all.filter_map(|one| self.served(one)).collect();
        if served.len() < settings.certificates.len() || served.is_empty() {
            return None;
        }
        let clients = settings.client_certificates.as_ref();
        let has_token = settings.token_file.is_some() || settings.read_token_file.is_some();
        let asked = clients.map(|clients| ClientCertificates {
            ca: clients.ca.clone(),
            // Who has none may have a token.
            required: !has_token,
            subject_header: None,
        });
        let options = ServerOptions {
            certificates: Certificates::Files(&served),
            client_certificates: asked.as_ref(),
            tls_1_3_only: false,
            http2: false,
        };
        let made = tls::server_config(&options, &self.state.tickets);
        let ca = clients.map(|clients| &*clients.ca);
        let made = made.map_err(|error| self.find(ca, &settings.place, error.to_string()));
        Some(Arc::new(AdminTls {
            tls: made.ok()?,
            operators: clients.map(|it| it.operators.clone()).unwrap_or_default(),
        }))
    }

    pub(super) fn upstream_tls(
        &mut self,
        settings: &config::Upstream,
    ) -> Option<Arc<ClientConfig>> {
        let own = match &settings.tls.client_certificate {
            Some(pair) => Some(self.pair(pair)?),
            None => None,
        };
        let ca = settings.tls.ca.as_deref();
        tls::client_config(ca, own.as_deref())
            .map_err(|error| self.find(ca, &settings.place, error.to_string()))
            .ok()
    }

    /// A certificate with what vouches for it.
    fn served(&mut self, certificate: &ServedCertificate) -> Option<Served> {
        let pair = self.pair(&certificate.pair)?;
        let staples = &self.state.staples;
        let (staple, wrong) = staples.load_or_keep(certificate, &pair, self.now);
        if let Some(error) = wrong {
            let chain = certificate.pair.chain.display();
            let what = match &staple {
                Some(_) => "keeps its earlier OCSP response",
                None => "is shown without an OCSP response",
            };
            self.warnings.push(Warning {
                message: format!("certificate {chain} {what}: {error}"),
                is_certificate_failure: true,
            });
        }
        Some(Served { pair, staple })
    }

    /// A certificate pair: the files', or the last good one with a warning.
    pub(super) fn pair(&mut self, pair: &CertificatePair) -> Option<Arc<Pair>> {
        match self.state.pairs.load_or_keep(pair, self.now) {
            Ok((loaded, freshness)) => {
                self.warn(pair, &loaded, &freshness);
                Some(loaded)
            }
            Err(error) => {
                self.find(Some(&pair.chain), &Place::default(), error.to_string());
                None
            }
        }
    }

    fn warn(&mut self, pair: &CertificatePair, loaded: &Pair, freshness: &Freshness) {
        let chain = pair.chain.display();
        if matches!(freshness, Freshness::New) {
            self.renewed.push(pair.chain.clone());
        }
        if let Freshness::KeptLastGood(error) = freshness {
            self.warnings.push(Warning {
                message: format!("certificate {chain} kept as it was: {error}"),
                is_certificate_failure: true,
            });
        }
        let left = loaded.remaining(self.now);
        if loaded.is_expired(self.now) {
            self.warnings.push(Warning {
                message: format!("certificate {chain} has expired"),
                is_certificate_failure: false,
            });
        } else if left < EXPIRES_SOON {
            let days = left.as_secs() / 86_400;
            self.warnings.push(Warning {
                message: format!("certificate {chain} expires in {days} days"),
                is_certificate_failure: false,
            });
        }
    }
}
