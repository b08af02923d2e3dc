//! What may be asked of the admin API: the one table of its paths. The server, the
//! commands, the log and what is said of a path that is none read it.
//!
//! What comes of a request others decide, and `access` who may ask.

use http::{Method, StatusCode};

use super::fields::Wrong;

macro_rules! endpoints {
    ($($(#[$about:meta])* $name:ident $method:ident $path:literal $(does $action:literal)?;)+) => {
        /// One thing that may be asked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Endpoint {
            $($(#[$about])* $name,)+
        }

        impl Endpoint {
            const ALL: &[Self] = &[$(Self::$name,)+];

            fn method(self) -> Method {
                match self {
                    $(Self::$name => Method::$method,)+
                }
            }

            pub fn path(self) -> &'static str {
                match self {
                    $(Self::$name => $path,)+
                }
            }

            /// The word for what it changes; `None` if it only reads.
            pub(super) fn action(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => <[&str]>::first(&[$($action)?]).copied(),)+
                }
            }
        }
    };
}

endpoints! {
    Dashboard    GET  "/";
    Status       GET  "/status";
    Live         GET  "/live";
    Watch        GET  "/watch";
    Metrics      GET  "/metrics";
    Tunnels      GET  "/tunnels";
    /// With an id in the place of `ID`.
    Tunnel       GET  "/tunnels/ID";
    EndedTunnels GET  "/tunnels/ended";
    CloseTunnels POST "/tunnels/close" does "close";
    Backends     GET  "/backends";
    SetBackend   POST "/backends" does "backend state";
    Rebalance    POST "/rebalance" does "rebalance";
    Reloads      GET  "/reloads";
    Impact       POST "/impact";
    Closings     GET  "/closings";
}

impl Endpoint {
    /// What is meant by a request.
    ///
    /// # Errors
    /// There is no such path (404), or it is asked for by another method (405).
    pub(super) fn find(method: &Method, path: &str) -> Result<Self, Wrong> {
        let mut at = Self::ALL.iter().copied().filter(|it| it.path() == path);
        match at.clone().find(|it| it.method() == *method) {
            Some(endpoint) => Ok(endpoint),
            None if at.next().is_some() => Err(not_allowed()),
            None => match *method {
                Method::GET if tunnel_id(path).is_some() => Ok(Self::Tunnel),
                Method::GET | Method::POST => Err(nothing()),
                _ => Err(not_allowed()),
            },
        }
    }

    /// The word for what requests at this path would change, whatever their method.
    pub(super) fn action_at(path: &str) -> Option<&'static str> {
        let mut at = Self::ALL.iter().filter(|it| it.path() == path);
        at.find_map(|it| it.action())
    }

    /// Where one tunnel is asked for.
    pub fn of_tunnel(id: u64) -> String {
        Self::Tunnel.path().replace("ID", &id.to_string())
    }
}

/// Whether a request means to change something. What nothing is known of may.
pub(super) fn changes(method: &Method, path: &str) -> bool {
    match Endpoint::find(method, path) {
        Ok(endpoint) => endpoint.action().is_some(),
        Err(_) => ![Method::GET, Method::HEAD].contains(method),
    }
}

/// What stands where [`Endpoint::Tunnel`] has an id; whether it is one is not said.
pub(super) fn tunnel_id(path: &str) -> Option<&str> {
    path.strip_prefix("/tunnels/")
}

/// All of them, in words.
fn paths() -> String {
    let mut paths: Vec<&str> = Endpoint::ALL.iter().map(|it| it.path()).collect();
    // One path may be read and written.
    paths.dedup();
    format!("there are {}", paths.join(", "))
}

fn nothing() -> Wrong {
    Wrong::missing(format!("there is no such path; {}", paths()))
}

pub(super) fn not_allowed() -> Wrong {
    Wrong {
        status: StatusCode::METHOD_NOT_ALLOWED,
        message: format!("another method is meant; {}", paths()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> Result<Endpoint, u16> {
        Endpoint::find(&method, path).map_err(|wrong| wrong.status.as_u16())
    }

    #[test]
    fn each_is_found_by_its_method_and_path_and_by_no_other() {
        for endpoint in Endpoint::ALL {
            let found = found(endpoint.method(), endpoint.path());
            assert_eq!(found, Ok(*endpoint));
        }
        for (method, path, expected) in [
            (Method::GET, "/tunnels/7", Ok(Endpoint::Tunnel)),
            (Method::GET, "/tunnels/x/y", Ok(Endpoint::Tunnel)),
            (Method::GET, "/tunnels/close", Err(405)),
            (Method::GET, "/impact", Err(405)),
            (Method::POST, "/tunnels/7", Err(404)),
            (Method::POST, "/tunnels/ended", Err(405)),
            (Method::POST, "/", Err(405)),
            (Method::GET, "/nothing", Err(404)),
            (Method::POST, "/nothing", Err(404)),
            (Method::PUT, "/nothing", Err(405)),
            (Method::HEAD, "/status", Err(405)),
        ] {
            assert_eq!(found(method.clone(), path), expected, "{method} {path}");
        }
        assert_eq!(Endpoint::of_tunnel(7), "/tunnels/7");
    }

    #[test]
    fn what_is_not_known_to_read_only_changes_something() {
        for (method, path, expected) in [
            (Method::GET, "/backends", false),
            (Method::POST, "/backends", true),
            (Method::PUT, "/backends", true),
            (Method::POST, "/impact", false),
            (Method::POST, "/nothing", true),
            (Method::GET, "/nothing", false),
            (Method::HEAD, "/tunnels/close", false),
        ] {
            assert_eq!(changes(&method, path), expected, "{method} {path}");
        }
        assert_eq!(Endpoint::action_at("/backends"), Some("backend state"));
        assert_eq!(Endpoint::action_at("/impact"), None);
    }

    /// It is a list of its own: a script cannot read this one.
    #[test]
    fn the_dashboard_asks_for_what_there_is() {
        let script = include_str!("page/dashboard.js");
        let word = |c: char| !c.is_ascii_lowercase() && c != '/';
        let starts = ["\"/", "`/", "host}/"].iter();
        let asked: Vec<&str> = starts
            .flat_map(|start| script.match_indices(start))
            .map(|(at, start)| &script[at + start.len() - 1..])
            .map(|rest| rest.split(word).next().unwrap_or(rest))
            .collect();
        assert!(asked.len() > 4, "{asked:?}");
        for path in asked {
            let is_one = Endpoint::ALL.iter().any(|it| it.path() == path);
            assert!(is_one, "{path}");
        }
    }
}
