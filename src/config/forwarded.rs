//! `forwarded_header`: which header of trusted proxies is read.

/// The header in which proxies name clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// With the other `X-Forwarded-*`.
    XForwardedFor,
    /// Of RFC 7239.
    Forwarded,
}

impl ForwardedHeader {
    pub(super) const WORDS: &[(&str, Self)] = &[
        ("x-forwarded-for", Self::XForwardedFor),
        ("forwarded", Self::Forwarded),
    ];
}
