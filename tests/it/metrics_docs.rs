//! The documents about the metrics are true: `docs/metrics.md`, the dashboard and
//! the alerts, compared with a real page.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::kit::{Authority, Echo, Proxy, Setup, Site, Wire, handshake, nobody, soon};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A metric's type and the names of its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
struct About {
    kind: String,
    labels: BTreeSet<String>,
}

/// What the tables of the document say.
fn documented() -> BTreeMap<String, About> {
    let code = |cell: &str| {
        let words = cell.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let mut metrics = BTreeMap::new();
    for row in read("docs/metrics.md").lines() {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        if !name.starts_with("longhaul_") && !name.starts_with("process_") {
            continue;
        }
        let [_, kind, labels, unit, meaning] = cells[..] else {
            panic!("not five cells: {row}");
        };
        assert!(!unit.is_empty() && meaning.ends_with('.'), "{row}");
        let about = About {
            kind: kind.to_owned(),
            labels: code(labels),
        };
        assert_eq!(metrics.insert(name.to_owned(), about), None, "{name} twice");
    }
    metrics
}

/// The types that a page tells.
fn kinds(page: &str) -> BTreeMap<String, String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let pair = |line: &str| {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        (name.to_owned(), kind.to_owned())
    };
    types.map(pair).collect()
}

/// The metric that a series belongs to.
fn metric_of<'a>(series: &'a str, kinds: &BTreeMap<String, String>) -> &'a str {
    let parts = ["_bucket", "_sum", "_count"].iter();
    let of_histogram = parts.filter_map(|part| series.strip_suffix(part));
    let mut histograms =
        of_histogram.filter(|name| kinds.get(*name).is_some_and(|k| k == "histogram"));
    histograms.next().unwrap_or(series)
}

/// The names of each metric's labels, as its samples have them.
fn labels(page: &str, kinds: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).expect("a name's end");
        let inside = line[end..]
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'));
        let pairs = inside.map_or("", |(inside, _)| inside);
        let names = pairs.split("\",").filter_map(|pair| pair.split_once('='));
        let names = names.map(|(name, _)| name.to_owned());
        let metric = metric_of(&line[..end], kinds).to_owned();
        found
            .entry(metric)
            .or_default()
            .extend(names.filter(|name| name != "le"));
    }
    found
}

/// The page of a proxy to which everything has happened that is counted.
async fn eventful() -> (Proxy, Vec<Wire>) {
    let (authority, echo) = (Authority::new(), Echo::start("a").await);
    let dead = nobody().await;
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    setup.write(
        "found.json",
        format!(r#"[{{"targets": ["{}"]}}]"#, echo.address()),
    );
    let more = format!(
        "[listeners.tls]\naddress = '127.0.0.1:0'\n\
         certificates = [{{ chain = 'site.pem', key = 'site.key' }}]\n\
         [listeners.automatic]\naddress = '127.0.0.1:0'\n\
         certificates = 'acme'\nacme_names = ['a.test']\n\
         [acme]\ndirectory = 'https://{dead}/'\nca = 'site.pem'\n\
         agree_to_terms = true\nstorage = 'storage'\n\
         [[routes]]\npath = '/dead'\nupstream = 'dead'\n\
         [[routes]]\npath = '/full'\nupstream = 'full'\nmax_tunnels_per_client = 9\n\
         [[routes]]\npath = '/found'\nupstream = 'found'\n\
         [[routes]]\npath = '/keys'\nupstream = 'dead'\njwt = {{ keys = 'http://{dead}/' }}\n\
         [upstreams.dead]\nbackends = [{{ name = 'd', address = '{dead}' }}]\n\
         ejection = {{ failures = 1, max_ejected = 1.0 }}\n\
         [upstreams.full]\nbackends = [{{ name = 'f', address = '{}' }}]\n\
         admission = {{ max_tunnels = 1 }}\n\
         [upstreams.found]\ndiscovery = {{ file = 'found.json' }}\n\
         [limits]\nmax_connections_per_address = 8\n",
        echo.address(),
    );
    let site = Site::one(echo.address()).upstream("health = { type = 'tcp', interval = '100ms' }");
    let proxy = setup.start(site.more(&more)).await;
    let mut wires = Vec::new();
    for (target, status) in [("/full", 101), ("/full", 503), ("/dead", 502), ("/", 101)] {
        let mut wire = proxy.connect().await;
        // What looks like a proxy and was not named as one.
        let told = "X-Forwarded-For: 192.0.2.1\r\n";
        wire.send(handshake(target, "h", told)).await;
        assert_eq!(wire.response_head().await.status, status, "{target}");
        wires.push(wire);
    }
    // The last tunnel and the refused ones.
    wires.truncate(1);
    proxy.log.wait("tunnel closed", &[]).await;
    proxy.log.wait("certificate not issued", &[]).await;
    let address = proxy.address("tls").await;
    let client = authority.client();
    assert!(client.connect(&address, "other").await.is_err());
    client
        .connect(&address, "localhost")
        .await
        .expect("a handshake");
    while proxy.metric("longhaul_connections_refused_total").await < 1.0 {
        wires.push(proxy.connect().await);
        assert!(wires.len() < 50, "the limit of connections");
    }
    for name in [
        "probes_total",
        "discoveries_total",
        "jwt_key_fetches_total",
        "worker_lag_seconds_count",
    ] {
        let counted = async { while proxy.metric(&format!("longhaul_{name}")).await < 1.0 {} };
        soon(name, counted).await;
    }
    (proxy, wires)
}

/// Over HTTP/1.1 alone: whatever clients speak, the names and labels are the same.
#[tokio::test]
async fn the_document_has_every_metric_with_its_type_and_labels() {
    let (proxy, _open) = eventful().await;
    let page = proxy.admin("/metrics").await.text().to_owned();
    let kinds = kinds(&page);
    let labels = labels(&page, &kinds);
    let silent: Vec<_> = kinds
        .keys()
        .filter(|name| !labels.contains_key(*name))
        .collect();
    assert!(silent.is_empty(), "without a sample: {silent:?}");
    let real = kinds.into_iter().map(|(name, kind)| {
        let labels = labels[&name].clone();
        (name, About { kind, labels })
    });
    let real: BTreeMap<String, About> = real.collect();
    let documented = documented();
    for (name, about) in &real {
        assert_eq!(documented.get(name), Some(about), "{name}");
    }
    assert_eq!(documented.len(), real.len(), "and no other");
}

/// What an expression names that begins like a metric of ours.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let words = expression.split(word);
    let ours = words.filter(|word| word.starts_with("longhaul_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

/// Every string under these keys, however deep.
fn strings_of(value: &Value, keys: &[&str], found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => found.push(text.clone()),
                    _ => strings_of(value, keys, found),
                }
            }
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| strings_of(value, keys, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_that_there_are() {
    let documented = documented();
    let kinds: BTreeMap<String, String> = documented
        .iter()
        .map(|(name, about)| (name.clone(), about.kind.clone()))
        .collect();
    let mut expressions = Vec::new();
    let dashboard: Value = serde_json::from_str(&read("docs/grafana.json")).expect("JSON");
    strings_of(&dashboard, &["expr", "definition"], &mut expressions);
    assert!(expressions.len() > 30, "{}", expressions.len());
    let on_dashboard: BTreeSet<String> =
        expressions.iter().flat_map(|one| metrics_of(one)).collect();
    let in_alerts = metrics_of(&read("docs/alerts.yml"));
    assert!(in_alerts.len() > 10, "{in_alerts:?}");
    for series in on_dashboard.iter().chain(&in_alerts) {
        let metric = metric_of(series, &kinds);
        assert!(documented.contains_key(metric), "{series} is no metric");
        let whole = kinds[metric] == "histogram" && metric == series;
        assert!(
            !whole,
            "{series} is a histogram and has no series of its own"
        );
    }
    // What nobody would look at need not be counted.
    let shown: BTreeSet<&str> = on_dashboard
        .iter()
        .map(|series| metric_of(series, &kinds))
        .collect();
    let unseen = [
        "process_virtual_memory_bytes",
        "process_virtual_memory_max_bytes",
        "process_threads",
    ];
    let missing: Vec<&String> = documented
        .keys()
        .filter(|name| !shown.contains(name.as_str()) && !unseen.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "not on the dashboard: {missing:?}");
}

#[test]
fn the_document_has_every_alert_and_each_is_tested() {
    let names = |text: &str, mark: &str| -> BTreeSet<String> {
        let rest = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix(mark));
        rest.map(|name| name.split('`').next().unwrap_or(name).to_owned())
            .collect()
    };
    let rules = names(&read("docs/alerts.yml"), "- alert: ");
    assert!(rules.len() > 10, "{rules:?}");
    let short: BTreeSet<String> = rules
        .iter()
        .map(|name| name["Longhaul".len()..].to_owned())
        .collect();
    assert_eq!(names(&read("docs/metrics.md"), "| `Longhaul"), short);
    assert_eq!(names(&read("docs/alerts.test.yml"), "alertname: "), rules);
}
