//! What is known of a client after its handshake, for logs and headers.
//!
//! Plain values without a tie to the connection. It does not decide anything.
//!
//! Invariant: the subject is visible ASCII and spaces, and unambiguous
//! (RFC 4514): no certificate can break a log line or a header, or make an
//! attribute of its value look like another attribute.

use std::fmt::Write;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::pair::{parse, system_time};

/// The facts of a finished handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The IANA name of the cipher suite.
    pub cipher: &'static str,
    /// The IANA name of the key exchange group; `None` if a TLS 1.2 session
    /// was resumed, which exchanges none.
    pub key_exchange: Option<String>,
    pub alpn: Option<String>,
    /// The host name that the client asked for, in lower case.
    pub sni: Option<String>,
    /// Subject of the client's verified certificate (RFC 4514), `None` if it
    /// presented none. Empty if the certificate has no subject.
    pub client_subject: Option<String>,
    /// When that certificate ends; `None` also if only the verifier can read it.
    pub client_not_after: Option<SystemTime>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl Facts {
    /// Of a connection whose handshake has finished.
    pub fn of(connection: &ServerConnection) -> Self {
        let cipher = connection
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str());
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            cipher: cipher.unwrap_or("unknown"),
            key_exchange: connection
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name())),
            alpn: connection
                .alpn_protocol()
                .map(|alpn| String::from_utf8_lossy(alpn).into_owned()),
            sni: connection.server_name().map(str::to_ascii_lowercase),
            client_subject: leaf.map(subject),
            client_not_after: leaf.and_then(not_after),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// Whose a client's certificate is, for whoever decides by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// As in [`Facts`].
    pub subject: String,
    // Alternative names (RFC 5280 section 4.2.1.6).
    pub dns: Vec<String>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
    pub not_after: SystemTime,
}

impl ClientCertificate {
    /// The verified one of a connection whose handshake has finished; `None` if
    /// it presented none, or one that only the verifier can read.
    pub fn of(connection: &ServerConnection) -> Option<Self> {
        Self::read(connection.peer_certificates()?.first()?)
    }

    fn read(leaf: &CertificateDer<'_>) -> Option<Self> {
        let certificate = parse(leaf).ok()?;
        let mut found = Self {
            subject: distinguished_name(certificate.subject()),
            dns: Vec::new(),
            emails: Vec::new(),
            uris: Vec::new(),
            not_after: system_time(certificate.validity().not_after),
        };
        // Where it is there twice, no name of it says anything.
        let names = certificate.subject_alternative_name().ok().flatten();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => found.dns.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => found.emails.push((*name).to_owned()),
                GeneralName::URI(name) => found.uris.push((*name).to_owned()),
                _ => {}
            }
        }
        Some(found)
    }
}

fn subject(leaf: &CertificateDer<'_>) -> String {
    match parse(leaf) {
        Ok(certificate) => distinguished_name(certificate.subject()),
        // The verifier has parsed it too, so this is for what only it can read.
        Err(_) => String::new(),
    }
}

fn not_after(leaf: &CertificateDer<'_>) -> Option<SystemTime> {
    let certificate = parse(leaf).ok()?;
    Some(system_time(certificate.validity().not_after))
}

/// RFC 4514 section 2: the last relative name first.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut relative: Vec<String> = name
        .iter_rdn()
        .map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    relative.reverse();
    relative.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    let kind = match oid2abbrev(oid, oid_registry()) {
        Ok(short) => short.to_owned(),
        Err(_) => oid.to_id_string(),
    };
    match attribute.as_str() {
        Ok(value) => format!("{kind}={}", escape(value)),
        // Section 2.4: a value that is no string, in hexadecimal.
        Err(_) => attribute
            .as_slice()
            .iter()
            .fold(format!("{kind}=#"), |mut text, byte| {
                push_hex(&mut text, *byte);
                text
            }),
    }
}

/// RFC 4514 section 2.4. Everything beyond visible ASCII becomes pairs of
/// hexadecimal digits, which the section allows.
fn escape(value: &str) -> String {
    let last = value.len().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            b'#' if at == 0 => text.push_str("\\#"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                text.push('\\');
                push_hex(&mut text, byte);
            }
        }
    }
    text
}

fn push_hex(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(text, "{byte:02X}");
}

#[cfg(test)]
mod tests {
    use rcgen::{DistinguishedName, DnType, KeyPair, SanType};

    use super::*;
    use crate::tls::tests::certificates::Ca;

    #[test]
    fn a_subject_cannot_pose_as_another() {
        for (value, expected) in [
            ("alice", "alice"),
            ("alice,CN=admin", "alice\\,CN=admin"),
            ("a+b;c<d>e\"f\\g=h", "a\\+b\\;c\\<d\\>e\\\"f\\\\g=h"),
            (" # ", "\\ #\\ "),
            ("#1", "\\#1"),
            (" ", "\\ "),
            ("a\r\nX-User: b\0", "a\\0D\\0AX-User: b\\00"),
            ("Zoë", "Zo\\C3\\AB"),
            ("", ""),
        ] {
            assert_eq!(escape(value), expected, "{value:?}");
        }
    }

    #[test]
    fn the_names_of_a_certificate_are_told_apart() {
        let issued = Ca::new("ca").issue_with(&["a.test"], KeyPair::generate().unwrap(), |it| {
            it.distinguished_name = DistinguishedName::new();
            it.distinguished_name.push(DnType::CommonName, "alice");
            it.subject_alt_names.extend([
                SanType::Rfc822Name("alice@a.test".try_into().unwrap()),
                SanType::URI("spiffe://a.test/ops".try_into().unwrap()),
                SanType::IpAddress([127, 0, 0, 1].into()),
            ]);
        });
        let read = ClientCertificate::read(&issued.leaf()).unwrap();
        let one = |text: &str| vec![text.to_owned()];
        assert_eq!(read.subject, "CN=alice");
        assert_eq!(read.dns, one("a.test"));
        assert_eq!(read.emails, one("alice@a.test"));
        assert_eq!(read.uris, one("spiffe://a.test/ops"));
        assert!(read.not_after > SystemTime::now());
        assert_eq!(ClientCertificate::read(&vec![0; 9].into()), None);
    }

    #[test]
    fn subjects_read_from_the_leaf_to_the_country() {
        let issued = Ca::new("ca").issue_with(&[], KeyPair::generate().unwrap(), |params| {
            params.distinguished_name = DistinguishedName::new();
            for (kind, value) in [
                (DnType::CountryName, "DE"),
                (DnType::OrganizationName, "Example, Inc."),
                (DnType::CommonName, "device-7"),
            ] {
                params.distinguished_name.push(kind, value);
            }
        });
        assert_eq!(
            subject(&issued.leaf()),
            "CN=device-7,O=Example\\, Inc.,C=DE"
        );
    }
}
