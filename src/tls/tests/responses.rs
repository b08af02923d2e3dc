//! OCSP responses for this room's tests, in the form of RFC 6960 and signed by
//! nobody: longhaul judges what they say and leaves the signature to clients.
//!
//! Not part of the product.

use std::time::SystemTime;

use der::asn1::{BitString, GeneralizedTime, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use sha1::{Digest, Sha1};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspResponse, ResponseData,
    SingleResponse, Version,
};

use crate::tls::pair::{Pair, parse};

pub(in crate::tls) fn time(at: SystemTime) -> OcspGeneralizedTime {
    GeneralizedTime::from_system_time(at).unwrap().into()
}

pub(in crate::tls) struct Response {
    pub(in crate::tls) status: CertStatus,
    pub(in crate::tls) from: SystemTime,
    pub(in crate::tls) until: Option<SystemTime>,
}

impl Response {
    /// DER, about the leaf of this pair.
    pub(in crate::tls) fn about(&self, pair: &Pair) -> Vec<u8> {
        let leaf = parse(&pair.certified_key.cert[0]).unwrap();
        let algorithm = |oid| {
            let oid = ObjectIdentifier::new(oid).unwrap().to_der().unwrap();
            let sequence = [&[0x30, u8::try_from(oid.len()).unwrap()], &*oid].concat();
            Decode::from_der(&sequence).unwrap()
        };
        let octets = |bytes: &[u8]| OctetString::new(bytes).unwrap();
        let serial = [
            &[2, u8::try_from(leaf.raw_serial().len()).unwrap()],
            leaf.raw_serial(),
        ];
        let single = SingleResponse {
            cert_id: CertId {
                hash_algorithm: algorithm("1.3.14.3.2.26"),
                issuer_name_hash: octets(&Sha1::digest(leaf.issuer().as_raw())),
                issuer_key_hash: octets(&[0; 20]),
                serial_number: Decode::from_der(&serial.concat()).unwrap(),
            },
            cert_status: self.status,
            this_update: time(self.from),
            next_update: self.until.map(time),
            single_extensions: None,
        };
        let basic = BasicOcspResponse {
            tbs_response_data: ResponseData {
                version: Version::V1,
                responder_id: octets(&[0; 20]).into(),
                produced_at: time(self.from),
                responses: vec![single],
                response_extensions: None,
            },
            signature_algorithm: algorithm("1.2.840.10045.4.3.2"),
            signature: BitString::from_bytes(&[0]).unwrap(),
            certs: None,
        };
        let response = OcspResponse::successful(basic).unwrap();
        response.to_der().unwrap()
    }
}
