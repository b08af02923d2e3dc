//! Every example of `config/examples` runs: it starts, its first route answers, and it
//! does what it is there to show ([`features`]).
//!
//! Addresses and files that only the example's reader has are replaced, nothing else.

mod backends;
mod features;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::kit::acme::Ca;
use crate::kit::{Authority, Echo, Proxy, Setup, TlsVersion, Wire, dial, handshake};

const PORT_0: &str = "127.0.0.1:0";

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let entries = fs::read_dir(folder).expect("config/examples");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut examples: Vec<PathBuf> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    examples.sort();
    assert!(examples.len() > 10, "{examples:?}");
    examples
}

struct World {
    setup: Setup,
    authority: Authority,
    backend: Echo,
    hosts: Cell<u8>,
    /// Where the reader's CA would be.
    ca: Ca,
}

impl World {
    /// Replaces what is the reader's, in every table below.
    fn adapt(&self, value: &mut Value, key: &str) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.adapt(item, key)),
            Value::Table(table) => {
                for (key, value) in table.iter_mut() {
                    self.adapt(value, key);
                }
                self.write_files(table);
                if key == "acme" {
                    let own = [("directory", self.ca.url()), ("ca", "acme.pem")];
                    let own = own.into_iter().chain([("storage", "storage")]);
                    table.extend(own.map(|(key, text)| (key.to_owned(), text.into())));
                    self.setup.write("acme.pem", self.ca.authority.pem());
                }
            }
            Value::String(text) => match key {
                "socket" => "admin.sock".clone_into(text),
                "file" => {
                    let target = self.another_address();
                    let listing = format!("[{{ \"targets\": [\"{target}\"] }}]");
                    self.setup.write(text, listing);
                }
                "address" if text.starts_with("unix:") && text.contains("public") => {
                    *text = format!("unix:{}", self.setup.path("front.sock").display());
                }
                "address" if text.starts_with("[::]:") => PORT_0.clone_into(text),
                // One of the proxies in front is this test.
                "trusted_proxies" | "from" if text == "192.0.2.7" => "127.0.0.1".clone_into(text),
                // Where there is no JWK set.
                "keys" if text.starts_with("https:") => {
                    *text = format!("http://{}/jwks.json", self.another_address());
                }
                "address" => *text = self.another_address(),
                // Where nobody listens.
                "endpoint" => "http://127.0.0.1:9/v1/traces".clone_into(text),
                // The echo backend expects no header.
                "proxy_protocol" => "off".clone_into(text),
                _ => {}
            },
            _ => {}
        }
    }

    /// The one backend has many: two of a pool may not have the same.
    fn another_address(&self) -> String {
        let host = self.hosts.get() + 1;
        self.hosts.set(host);
        self.backend
            .address()
            .replace("0.0.0.0", &format!("127.0.0.{host}"))
    }

    fn write_files(&self, table: &Table) {
        let text = |key: &str| table.get(key).and_then(Value::as_str);
        if let (Some(chain), Some(key)) = (text("chain"), text("key")) {
            let own = match chain.contains("chat") {
                true => "chat.example.com",
                false => "*.example.com",
            };
            let pair = self.authority.pair(&["localhost", own]);
            self.setup.write(chain, &pair.chain);
            self.setup.write(key, &pair.key);
        }
        if let Some(users) = text("users") {
            self.setup.write(users, features::USERS);
        }
        if let Some(keys) = text("keys").filter(|keys| !keys.contains("://")) {
            self.setup.write(keys, features::KEYS);
        }
        if let Some(ca) = text("ca") {
            self.setup.write(ca, self.authority.pem());
        }
    }

    fn read(&self, path: &Path) -> Table {
        let text = fs::read_to_string(path).expect("an example");
        let mut table = Value::Table(text.parse().expect("TOML"));
        self.adapt(&mut table, "");
        table.as_table().expect("what it was").clone()
    }
}

/// A request that the first route of the config takes.
fn request(route: &Table) -> String {
    let text = |key: &str, otherwise: &str| {
        let value = route.get(key).and_then(Value::as_str);
        value
            .unwrap_or(otherwise)
            .replace("*.", "any.")
            .replace('*', "x")
    };
    let (host, path) = (text("host", "localhost"), text("path", "/"));
    if let Some(Value::Array(offered)) = route.get("subprotocols") {
        let first = offered[0].as_str().expect("a subprotocol");
        return handshake(
            &path,
            &host,
            &format!("Sec-WebSocket-Protocol: {first}\r\n"),
        );
    }
    let mut lines = String::new();
    if let Some(Value::Table(headers)) = route.get("headers") {
        for (name, value) in headers {
            lines.push_str(&format!("{name}: {}\r\n", value.as_str().expect("a value")));
        }
    }
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")
}

/// The routes in files that the example includes, which come with it.
fn included_route(world: &World, folder: &Path) -> Option<Table> {
    let mut first = None;
    for entry in fs::read_dir(folder.join("routes.d")).expect("routes.d") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let table = world.read(&path);
        let text = toml::to_string(&table).expect("TOML");
        world.setup.write(&format!("routes.d/{name}"), text);
        first = first.or_else(|| table.get("routes").and_then(first_of));
    }
    first
}

fn first_of(routes: &Value) -> Option<Table> {
    routes.get(0).and_then(Value::as_table).cloned()
}

/// What the first route must answer on this listener.
fn expected(config: &Table, route: &Table, listener: &Table) -> u16 {
    let upstream = route["upstream"].as_str().expect("an upstream");
    let upstream = config
        .get("upstreams")
        .and_then(|upstreams| upstreams.get(upstream));
    let scheme = upstream.and_then(|upstream| upstream.get("scheme")?.as_str());
    let dns = upstream.and_then(|upstream| upstream.get("discovery")?.get("dns"));
    match scheme {
        // Nobody knows the reader's names here.
        _ if dns.is_some() => 503,
        _ if listener.contains_key("redirect_to_https") => 308,
        // The echo backend speaks no TLS, and longhaul must insist on it.
        Some("https") => 502,
        // Neither a password nor a token is shown.
        _ if route.contains_key("basic_auth") || route.contains_key("jwt") => 401,
        _ if route.contains_key("subprotocols") => 101,
        _ => 200,
    }
}

/// A connection to the listener whose certificates come by themselves.
async fn automatic(proxy: &Proxy, ca: &Ca, route: &Table) -> Wire {
    ca.looks_at_http(&proxy.address("plain").await);
    let host = route["host"].as_str().expect("a host");
    let first = [("name", host)];
    proxy.log.wait("certificate issued", &first).await;
    let client = ca.authority.client();
    let address = proxy.address("public").await;
    client.connect(&address, host).await.expect("a handshake")
}

/// Over HTTP/1.1 alone: it is about the examples.
#[tokio::test]
async fn every_example_starts_and_its_first_route_answers() {
    for example in examples() {
        let what = example
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let world = World {
            setup: Setup::new(),
            authority: Authority::new(),
            backend: Echo::start_on("a", "0.0.0.0:0").await,
            hosts: Cell::new(0),
            ca: Ca::start().await,
        };
        let config = world.read(&example);
        let folder = example.parent().expect("a folder");
        let included = config
            .contains_key("include")
            .then(|| included_route(&world, folder));
        let route = config
            .get("routes")
            .and_then(first_of)
            .or_else(|| included.flatten());
        let route = route.unwrap_or_else(|| panic!("{what} has no route"));
        let World {
            setup,
            authority,
            backend,
            ca,
            ..
        } = world;
        let text = toml::to_string(&config).expect("TOML");
        let proxy = setup.start(text).await;
        let own = authority.client_pair("device");
        let client = authority.client_with(TlsVersion::Any, Some(&own));
        for (name, listener) in config["listeners"].as_table().expect("listeners") {
            let listener = listener.as_table().expect("a listener");
            let address = proxy.address(name).await;
            let mut wire = match listener.get("certificates") {
                Some(Value::String(_)) => automatic(&proxy, &ca, &route).await,
                Some(_) => client
                    .connect(&address, "localhost")
                    .await
                    .expect("a TLS handshake"),
                None => dial(&address).await,
            };
            if listener.contains_key("proxy_protocol") {
                wire.send(features::HEADER).await;
            }
            wire.send(request(&route)).await;
            let head = wire.response_head().await;
            let expected = expected(&config, &route, listener);
            assert_eq!(head.status, expected, "{what}, listener {name}: {head:?}");
        }
        let example = features::Example {
            proxy,
            authority,
            backend,
        };
        example.does_what_it_shows(&what).await;
    }
}
