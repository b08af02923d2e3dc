//! The label sets.
//!
//! Invariant: every value is a word from a table in the source, or a name from
//! the configuration and what it discovers; never anything that a client sent.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;

/// Label sets of what a configuration can name and take away again.
pub trait Named {
    fn is_of(&self, names: &dyn Names) -> bool;
}

/// The names that are to be kept.
pub trait Names {
    fn has_upstream(&self, upstream: &str) -> bool;
    fn has_backend(&self, upstream: &str, backend: &str) -> bool;
    fn has_route(&self, route: &str) -> bool;
}

macro_rules! labels {
    ($($(#[$about:meta])* $name:ident { $($(#[$meant:meta])* $field:ident: $kind:ty,)+ })+) => {
        $($(#[$about])*
        #[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
        pub struct $name {
            $($(#[$meant])* pub $field: $kind,)+
        })+
    };
}

labels! {
    /// The word of the log's field of that name.
    Refused { refusal: &'static str, }

    /// Lines of the log, or of the place that access lines have, and what was wrong.
    LostFrom { log: &'static str, reason: &'static str, }

    /// How a reload went, `ok` or `rejected`, or an order: `ok` or `failed`.
    OfResult { result: &'static str, }

    /// The class of a response's status: `2xx`.
    Answer { status: &'static str, }

    /// A finished TLS handshake.
    TlsVersion { version: &'static str, resumed: bool, }

    /// A certificate by the path in the configuration, or `acme:` and its name.
    OfCertificate { chain: String, }

    /// How a handshake for a tunnel ended.
    Shaken { outcome: &'static str, }

    /// The same of one route; empty where none was found.
    ShakenOn { route: Arc<str>, outcome: &'static str, }

    /// A route by its name.
    OfRoute { route: Arc<str>, }

    /// How dialling went.
    Dialled { upstream: Arc<str>, result: &'static str, }

    /// A backend by its names in the configuration.
    OfBackend { upstream: Arc<str>, backend: Arc<str>, }

    /// A state that a backend may be in.
    InState { upstream: Arc<str>, backend: Arc<str>, state: &'static str, }

    /// How a probe of a backend went: `ok`, or why it failed.
    Probed { upstream: Arc<str>, backend: Arc<str>, result: &'static str, }

    /// What a client met that speaks against a backend.
    Reported { upstream: Arc<str>, backend: Arc<str>, report: &'static str, }

    /// How asking for an upstream's backends went: `ok` or `failed`.
    Discovered { upstream: Arc<str>, result: &'static str, }

    /// The tunnels of one route to one backend.
    OfTunnels { route: Arc<str>, upstream: Arc<str>, backend: Arc<str>, }

    /// What passes one way: `in` from the client, `out` to it.
    Passing {
        route: Arc<str>,
        upstream: Arc<str>,
        backend: Arc<str>,
        direction: &'static str,
    }

    /// How a tunnel ended.
    End {
        ended_by: &'static str,
        cause: &'static str,
        /// Of the Close frame that ended it; see [`close_code`].
        close_code: &'static str,
        route: Arc<str>,
        upstream: Arc<str>,
        backend: Arc<str>,
    }

    /// A thread, or the runtime that several have in common.
    OfWorker { worker: String, }

    /// Keys of tokens by the URL in the configuration.
    OfKeys { url: String, }

    /// The configuration in force.
    OfConfig { hash: String, }

    /// The program.
    OfBuild { version: &'static str, }
}

macro_rules! named {
    ($($kind:ident by $($field:ident)+;)+) => {
        $(impl Named for $kind {
            fn is_of(&self, names: &dyn Names) -> bool {
                named!(@ self names $($field)+)
            }
        })+
    };
    (@ $it:ident $names:ident upstream) => { $names.has_upstream(&$it.upstream) };
    (@ $it:ident $names:ident backend) => { $names.has_backend(&$it.upstream, &$it.backend) };
    (@ $it:ident $names:ident route) => { $names.has_route(&$it.route) };
    (@ $it:ident $names:ident route backend) => {
        $names.has_route(&$it.route) && $names.has_backend(&$it.upstream, &$it.backend)
    };
}

named! {
    ShakenOn by route;
    OfRoute by route;
    Dialled by upstream;
    OfBackend by backend;
    Probed by backend;
    Reported by backend;
    Discovered by upstream;
    OfTunnels by route backend;
    Passing by route backend;
    End by route backend;
}

/// One of few words for a close code, which a peer may choose as it likes: the
/// codes that RFC 6455 and its registry give a meaning, and classes for the rest.
pub fn close_code(code: Option<u16>) -> &'static str {
    let Some(code) = code else { return "none" };
    const REGISTERED: [&str; 15] = [
        "1000", "1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009", "1010",
        "1011", "1012", "1013", "1014",
    ];
    match code {
        1000..=1014 => REGISTERED[usize::from(code - 1000)],
        3000..=3999 => "3xxx",
        4000..=4999 => "4xxx",
        _ => "other",
    }
}

/// The label for a status.
pub fn status_class(status: http::StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn close_codes_have_few_words() {
        let words: BTreeSet<_> = (0..=u16::MAX).map(|code| close_code(Some(code))).collect();
        assert_eq!(words.len(), 18);
        assert_eq!(close_code(Some(1011)), "1011");
        assert_eq!(close_code(Some(4001)), "4xxx");
        assert_eq!(close_code(Some(999)), "other");
        assert_eq!(close_code(None), "none");
    }
}
