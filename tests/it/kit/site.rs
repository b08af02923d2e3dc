//! The config most tests start from: one plain listener, one route, one upstream.

use std::fmt::{self, Display};

/// Each field is TOML text that goes into its table, after the defaults.
#[derive(Clone, Debug, Default)]
pub struct Site {
    top: String,
    listener: String,
    route: String,
    upstream: String,
    backends: Vec<String>,
    more: String,
}

impl Site {
    /// One route for everything to these backends: pairs of name and address.
    pub fn of(backends: &[(&str, &str)]) -> Self {
        let entry = |(name, address): &(&str, &str)| {
            format!("{{ name = \"{name}\", address = \"{address}\" }}")
        };
        Self {
            backends: backends.iter().map(entry).collect(),
            ..Self::default()
        }
    }

    pub fn one(address: &str) -> Self {
        Self::of(&[("a", address)])
    }

    /// Keys of the file's top.
    pub fn top(mut self, line: &str) -> Self {
        push(&mut self.top, line);
        self
    }

    /// Keys of `[listeners.main]`.
    pub fn listener(mut self, line: &str) -> Self {
        push(&mut self.listener, line);
        self
    }

    /// Its clients speak TLS, by [`Setup::with_pair`](super::Setup::with_pair).
    pub fn tls(self) -> Self {
        self.listener("certificates = [{ chain = 'site.pem', key = 'site.key' }]")
    }

    /// Keys of the route.
    pub fn route(mut self, line: &str) -> Self {
        push(&mut self.route, line);
        self
    }

    /// Keys of `[upstreams.app]`.
    pub fn upstream(mut self, line: &str) -> Self {
        push(&mut self.upstream, line);
        self
    }

    /// Whole tables behind everything else.
    pub fn more(mut self, text: &str) -> Self {
        push(&mut self.more, text);
        self
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

impl Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = if self.listener.contains("address") {
            ""
        } else {
            "address = \"127.0.0.1:0\""
        };
        write!(
            f,
            "{}\n[listeners.main]\n{address}\n{}\n[[routes]]\nupstream = \"app\"\n{}\n\
             [upstreams.app]\nbackends = [{}]\n{}\n{}",
            self.top,
            self.listener,
            self.route,
            self.backends.join(", "),
            self.upstream,
            self.more,
        )
    }
}
