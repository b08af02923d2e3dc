//! `[listeners.*]`: where clients connect.

use std::net::SocketAddr;

use super::acme_names;
use super::auth::settable;
use super::diagnostic::{Diagnostic, Place};
use super::model::{
    CertificatePair, ClientCertificates, ListenAddress, Listener, ServedCertificate,
};
use super::named_files::NamedFiles;
use super::networks::{Networks, networks};
use super::proxy_protocol;
use super::rate::rate;
use super::route_limits::RateLimits;
use super::section::{Section, Value, Wrong, has_no_effect};
use super::value::{boolean, integer, mode, path, socket_path, text, wrong, wrong_near};

const ADDRESS: &str = "an address and port such as \"[::]:443\" or \"127.0.0.1:8080\", \
                       or \"unix:\" and a path";

impl Listener {
    /// Whether its clients speak TLS.
    pub fn is_tls(&self) -> bool {
        !self.certificates.is_empty() || self.acme_names.is_some()
    }
}

/// `None` if it has no usable address.
pub(super) fn listener(
    name: &str,
    section: Section<'_>,
    files: &mut NamedFiles,
) -> Option<(Listener, Place)> {
    let at = section.place_of("address");
    let address = section.required("address", address);
    let mode = section.optional("mode", mode);
    let proxy_protocol = proxy_protocol::of_listener(&section, address.as_ref());
    let (certificates, acme_names) = certificates(&section, files);
    let client_certificates = client_certificates(&section, files);
    let tls_1_3_only = section.or("tls_1_3_only", false, boolean);
    let redirect = section.or("redirect_to_https", false, boolean);
    let redirect_port = section.optional("redirect_port", integer(1, u16::MAX));
    let http2 = section.or("http2", true, boolean);
    let websocket_over_http2 = section.optional("websocket_over_http2", boolean);
    let networks = networks(&section);
    let rates = rates(&section);
    let plain = section.value("certificates").is_none();

    if redirect && !plain {
        exclude_each_other(&section);
    }
    let without = |key: &str, other: &str| {
        let title = &section.title;
        section.report(
            key,
            format!("`{key}` in {title} has no effect without {other}"),
        );
    };
    if !redirect && redirect_port.is_some() {
        without("redirect_port", "`redirect_to_https = true`");
    }
    if plain && client_certificates.is_some() {
        without("client_certificates", "`certificates`");
    }
    if plain && tls_1_3_only {
        without("tls_1_3_only", "`certificates`");
    }
    if !http2 && websocket_over_http2.is_some() {
        without("websocket_over_http2", "`http2 = true`");
    }
    if mode.is_some() && matches!(address, Some(ListenAddress::Tcp(_))) {
        without("mode", "a `unix:` address");
    }

    if proxy_protocol.is_none() && matches!(address, Some(ListenAddress::Unix { .. })) {
        needs_addresses(&section, &networks);
    }
    let written_at = section.written_at();
    section.finish();
    let address = match address? {
        ListenAddress::Unix { path, mode: usual } => ListenAddress::Unix {
            path,
            mode: mode.unwrap_or(usual),
        },
        tcp => tcp,
    };
    let listener = Listener {
        name: name.to_owned(),
        address,
        proxy_protocol,
        certificates,
        acme_names,
        client_certificates,
        tls_1_3_only,
        redirect_to_https: redirect.then(|| redirect_port.unwrap_or(443)),
        http2,
        websocket_over_http2: websocket_over_http2.unwrap_or(true),
        networks,
        rates,
        place: written_at,
    };
    Some((listener, at))
}

fn exclude_each_other(section: &Section<'_>) {
    section.report(
        "redirect_to_https",
        format!(
            "`redirect_to_https` and `certificates` in {} exclude each other: \
             the redirect is for a plain listener",
            section.title
        ),
    );
}

fn rates(section: &Section<'_>) -> RateLimits {
    RateLimits {
        all: section.optional("connection_rate", rate),
        per_client: section.optional("connection_rate_per_address", rate),
    }
}

/// Findings about what tells clients by their addresses: who comes by a file has
/// none.
fn needs_addresses(section: &Section<'_>, networks: &Networks) {
    has_no_effect(section, "allowed_networks", "an IP address");
    has_no_effect(section, "connection_rate_per_address", "an IP address");
    if !networks.denied.is_empty() {
        has_no_effect(section, "denied_networks", "an IP address");
    }
}

/// `{ chain = .., key = .. }`, as listeners and upstreams have it.
pub(super) fn pair(section: &Section<'_>, files: &mut NamedFiles) -> Option<CertificatePair> {
    let mut file = |key| {
        let path = section.required(key, path)?;
        files.add(&path, section.value(key)?.place());
        Some(path)
    };
    let (chain, key) = (file("chain"), file("key"));
    Some(CertificatePair {
        chain: chain?,
        key: key?,
    })
}

/// The pairs, or the names to get certificates for.
fn certificates(
    section: &Section<'_>,
    files: &mut NamedFiles,
) -> (Vec<ServedCertificate>, Option<Vec<String>>) {
    match acme_names::of_listener(section) {
        Some(names) => (Vec::new(), Some(names)),
        None => {
            let pairs = pairs(section, files);
            has_no_effect(section, "acme_names", "`certificates = \"acme\"`");
            (pairs, None)
        }
    }
}

/// The same, and the response that vouches for it.
fn served(section: Section<'_>, files: &mut NamedFiles) -> Option<ServedCertificate> {
    let pair = pair(&section, files);
    let ocsp = section.optional("ocsp", path);
    if let (Some(ocsp), Some(value)) = (&ocsp, section.value("ocsp")) {
        files.add(ocsp, value.place());
    }
    section.finish();
    Some(ServedCertificate { pair: pair?, ocsp })
}

fn pairs(section: &Section<'_>, files: &mut NamedFiles) -> Vec<ServedCertificate> {
    let allowed = "\"acme\", or an array of { chain = \"FILE\", key = \"FILE\" }";
    let Some(value) = section.value("certificates") else {
        return Vec::new();
    };
    let elements = value.elements(allowed).unwrap_or_default();
    if elements.is_empty() && value.node().is_array() {
        value.wrong(Wrong {
            found: "an empty array".to_owned(),
            allowed: format!("{allowed}, or no `certificates` at all for a plain listener"),
            nearest: None,
        });
    }
    let mut all: Vec<ServedCertificate> = Vec::new();
    for element in elements {
        let title = format!("`certificates` of {}", section.title);
        let table = element.section(title, "{ chain = \"FILE\", key = \"FILE\" }");
        let Some(certificate) = table.and_then(|table| served(table, files)) else {
            continue;
        };
        if all.iter().any(|other| other.pair == certificate.pair) {
            let message = format!("the same certificate twice in {}", section.title);
            section
                .findings
                .push(Diagnostic::new(element.place(), message));
        }
        all.push(certificate);
    }
    all
}

fn client_certificates(
    section: &Section<'_>,
    files: &mut NamedFiles,
) -> Option<ClientCertificates> {
    let table = section.subsection("client_certificates", "{ ca = \"FILE\", required = true }")?;
    let ca = table.required("ca", path);
    if let (Some(ca), Some(value)) = (&ca, table.value("ca")) {
        files.add(ca, value.place());
    }
    let required = table.or("required", true, boolean);
    let subject_header = table.optional("subject_header", settable);
    table.finish();
    Some(ClientCertificates {
        ca: ca?,
        required,
        subject_header,
    })
}

fn address(value: &Value<'_>) -> Result<ListenAddress, Wrong> {
    let written = text(value, ADDRESS)?;
    if let Some(path) = written.strip_prefix("unix:") {
        return Ok(ListenAddress::Unix {
            path: socket_path(value, path)?,
            mode: 0o666,
        });
    }
    if let Ok(address) = written.parse::<SocketAddr>() {
        return Ok(ListenAddress::Tcp(address));
    }
    let near = match written.rsplit_once(':') {
        // ":80" and "*:80" are how other servers say "every address".
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => Some(format!("[::]:{port}")),
        Some((host, port)) if port.parse::<u16>().is_ok() => match host {
            "localhost" => Some(format!("127.0.0.1:{port}")),
            _ if host.parse::<std::net::Ipv6Addr>().is_ok() => Some(format!("[{host}]:{port}")),
            _ => None,
        },
        None if written.parse::<u16>().is_ok() => Some(format!("[::]:{written}")),
        _ if written.starts_with('/') => Some(format!("unix:{written}")),
        _ => None,
    };
    match near {
        Some(near) => wrong_near(value, ADDRESS, Some(near)),
        None => wrong(value, ADDRESS),
    }
}
