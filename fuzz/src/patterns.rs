use http::{HeaderMap, Method};
use longhaul::config::pattern::{HostPattern, PathPattern};
use longhaul::route::{Criteria, Request, Table, has_dot_segments, normalise_host};

/// Hosts and paths: the lines are the pattern of a host, that of a path, a host
/// and a path. Patterns print as what reads as them, a normalised host stays one,
/// the table finds what the explanation says, and percent-encoding hides nothing.
pub fn patterns(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lines: Vec<&str> = text.splitn(4, '\n').collect();
    let [host_pattern, path_pattern, host, path] = lines[..] else {
        return;
    };
    let host_pattern = host_pattern.parse::<HostPattern>();
    if let Ok(pattern) = &host_pattern {
        assert_eq!(pattern.to_string().parse().as_ref(), Ok(pattern));
    }
    let path_pattern = path_pattern.parse::<PathPattern>();
    if let Ok(pattern) = &path_pattern {
        assert_eq!(pattern.to_string().parse().as_ref(), Ok(pattern));
    }
    let Some(host) = normalise_host(host) else {
        return;
    };
    stays_normal(&host);
    dots(path);
    if let (Ok(host_pattern), Ok(path_pattern)) = (host_pattern, path_pattern) {
        lookups(host_pattern, path_pattern, &host, path);
    }
}

fn stays_normal(host: &str) {
    assert!(!host.is_empty() && !host.bytes().any(|byte| byte.is_ascii_uppercase()));
    let written = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    assert_eq!(normalise_host(&written).as_deref(), Some(host));
    let with_port = format!("{written}:443");
    assert_eq!(normalise_host(&with_port).as_deref(), Some(host));
}

fn dots(path: &str) {
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        assert!(has_dot_segments(path), "{path:?}");
    }
    if !path.contains('%') {
        let encoded = path.replace('.', "%2e");
        assert_eq!(has_dot_segments(path), has_dot_segments(&encoded));
    }
}

fn lookups(host_pattern: HostPattern, path_pattern: PathPattern, host: &str, path: &str) {
    let criteria = Criteria {
        host: host_pattern,
        path: path_pattern,
        methods: Vec::new(),
        headers: Vec::new(),
        subprotocols: Vec::new(),
    };
    let table = Table::new([(criteria.clone(), ())]);
    let headers = HeaderMap::new();
    let finds = |path: &str| {
        let request = Request {
            host,
            path,
            method: &Method::GET,
            headers: &headers,
        };
        let found = table.lookup(&request).is_some();
        let explained = table.explain(&request).iter().any(|one| one.matches());
        assert_eq!(found, explained, "{criteria:?} and {host:?} {path:?}");
        found
    };
    // A code stands for its letter; a slash's stands for no slash.
    if path.contains('%') {
        finds(path);
    } else {
        let encoded: String = path
            .bytes()
            .map(|byte| match byte {
                b'/' => "/".to_owned(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        assert_eq!(finds(path), finds(&encoded), "{path:?} and {encoded:?}");
    }
}
