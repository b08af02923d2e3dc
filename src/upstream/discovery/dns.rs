//! Backends from DNS: addresses with a common port, or services with their own.
//!
//! A backend found by address is named by address and port; one found by SRV by
//! the name and port that the record says, so that it keeps its keys when its
//! address changes.
//!
//! Invariant: the names depend on the records alone, never on their order.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use hickory_resolver::{Resolver, TokioResolver};

use super::{FindError, Found};
use crate::config::{Backend, BackendAddress, BackendState, DnsQuery, DnsRecord};

/// A name that is not there now may be there soon, whatever its zone says.
const MOST_NEGATIVE: Duration = Duration::from_secs(30);

/// Asks for one name, again and again.
pub(super) struct Asker {
    resolver: TokioResolver,
    query: DnsQuery,
    /// Where each SRV target was last.
    known: BTreeMap<String, IpAddr>,
}

impl Asker {
    /// # Errors
    /// If the system's settings cannot be read.
    pub(super) fn new(query: &DnsQuery, max_ttl: Duration) -> Result<Self, FindError> {
        let mut builder = if query.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(said)?
        } else {
            let servers = query.servers.iter().map(|address| server(*address));
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        // A long answer does not fit into a datagram.
        options.try_tcp_on_error = true;
        // Its cache spares the targets of services that are still valid.
        options.positive_max_ttl = Some(max_ttl);
        options.negative_max_ttl = Some(max_ttl.min(MOST_NEGATIVE));
        Ok(Self {
            resolver: builder.build().map_err(said)?,
            query: query.clone(),
            known: BTreeMap::new(),
        })
    }

    /// # Errors
    /// If there is no answer, or none with a backend in it.
    pub(super) async fn ask(&mut self) -> Result<Found, FindError> {
        let (record, port) = match self.query.record {
            DnsRecord::A(port) => (RecordType::A, port),
            DnsRecord::Aaaa(port) => (RecordType::AAAA, port),
            DnsRecord::Srv => return self.ask_for_services().await,
        };
        let lookup = self.resolver.lookup(&*self.query.name, record);
        let lookup = lookup.await.map_err(said)?;
        let addresses = lookup.answers().iter().filter_map(address);
        let backends = addresses.map(|ip| {
            let address = SocketAddr::new(ip, port);
            backend(address.to_string(), address, 1)
        });
        Ok(Found {
            backends: backends.collect(),
            valid_until: Some(lookup.valid_until()),
        })
    }

    async fn ask_for_services(&mut self) -> Result<Found, FindError> {
        let lookup = self.resolver.lookup(&*self.query.name, RecordType::SRV);
        let lookup = lookup.await.map_err(said)?;
        let services: Vec<&SRV> = lookup.answers().iter().filter_map(service).collect();
        // The others are for when none of these can be reached, which is not
        // known here.
        let priority = services.iter().map(|service| service.priority).min();
        let first = services.iter().filter(|one| Some(one.priority) == priority);
        let (mut backends, mut valid_until) = (Vec::new(), lookup.valid_until());
        let mut known = BTreeMap::new();
        for service in first {
            let target = service.target.to_utf8().to_lowercase();
            let Some((ip, until)) = self.address_of(&target, &lookup).await else {
                continue;
            };
            valid_until = valid_until.min(until.unwrap_or(valid_until));
            known.insert(target.clone(), ip);
            let name = format!("{}:{}", target.trim_end_matches('.'), service.port);
            let address = SocketAddr::new(ip, service.port);
            backends.push(backend(name, address, u32::from(service.weight).max(1)));
        }
        self.known = known;
        Ok(Found {
            backends,
            valid_until: Some(valid_until),
        })
    }

    /// From the same answer, by asking, or as it was.
    async fn address_of(&self, target: &str, lookup: &Lookup) -> Option<(IpAddr, Option<Instant>)> {
        let glued = lookup.additionals().iter();
        let glued = glued.filter(|record| record.name.to_utf8().eq_ignore_ascii_case(target));
        // The lowest, so that everybody takes the same.
        if let Some(ip) = glued.filter_map(address).min() {
            return Some((ip, None));
        }
        match self.resolver.lookup_ip(target).await {
            Ok(found) => {
                let until = found.valid_until();
                Some((found.iter().min()?, Some(until)))
            }
            Err(error) => {
                tracing::warn!(target, %error, "the target of a service has no address");
                self.known.get(target).map(|ip| (*ip, None))
            }
        }
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    };
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(connection);
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn backend(name: String, address: SocketAddr, weight: u32) -> Backend {
    Backend {
        name,
        address: BackendAddress::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        },
        weight,
        state: BackendState::Active,
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

fn service(record: &Record) -> Option<&SRV> {
    match &record.data {
        RData::SRV(service) => Some(service),
        _ => None,
    }
}

fn said(error: NetError) -> FindError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            FindError::Said(format!("there is no such record ({})", none.response_code))
        }
        error => FindError::Said(error.to_string()),
    }
}
