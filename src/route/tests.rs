//! Precedence by example, and lookups against a naive model.

use std::cell::Cell;
use std::cmp::Reverse;

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::config::pattern::{PathPattern, PathSegment};

fn host(text: &str) -> HostPattern {
    match text.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Wildcard(suffix.into()),
        None => HostPattern::Exact(text.into()),
    }
}

fn path(text: &str) -> PathPattern {
    let mut segments: Vec<&str> = text.split('/').skip(1).collect();
    let prefix = segments.last() == Some(&"*");
    if prefix || segments == [""] {
        segments.pop();
    }
    PathPattern {
        segments: segments
            .into_iter()
            .map(|segment| match segment {
                "*" => PathSegment::Any,
                text => PathSegment::Literal(text.into()),
            })
            .collect(),
        prefix,
    }
}

fn at(host_text: &str, path_text: &str) -> Criteria {
    Criteria {
        host: host(host_text),
        path: path(path_text),
        methods: vec![],
        headers: vec![],
        subprotocols: vec![],
    }
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let lines = lines.iter().map(|&(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    lines.collect()
}

/// Names the routes by host and path as written.
fn table(routes: &[(&'static str, &'static str)]) -> Table<String> {
    Table::new(
        routes
            .iter()
            .map(|(host, path)| (at(host, path), format!("{host}{path}"))),
    )
}

fn get<'a, T>(table: &'a Table<T>, host: &str, path: &str) -> Option<&'a T> {
    table.lookup(&Request {
        host,
        path,
        method: &Method::GET,
        headers: &HeaderMap::new(),
    })
}

#[test]
fn exact_hosts_come_before_longer_before_shorter_wildcards_before_any() {
    let table = table(&[
        ("*", "/*"),
        ("*.com", "/*"),
        ("*.example.com", "/*"),
        ("chat.example.com", "/*"),
    ]);
    for (host, expected) in [
        ("chat.example.com", "chat.example.com/*"),
        ("api.example.com", "*.example.com/*"),
        ("x.chat.example.com", "*.example.com/*"),
        ("example.com", "*.com/*"),
        ("com", "*/*"),
        ("badexample.com", "*.com/*"),
        ("::1", "*/*"),
    ] {
        let found = get(&table, host, "/").map(String::as_str);
        assert_eq!(found, Some(expected), "{host}");
    }
}

#[test]
fn literals_come_before_stars_before_prefixes() {
    let table = table(&[
        ("*", "/*"),
        ("*", "/a/*"),
        ("*", "/a"),
        ("*", "/a/b/*"),
        ("*", "/a/*/c"),
        ("*", "/a/*/*"),
        ("*", "/a/b/d"),
        ("*", "/"),
        ("*", "/t/"),
    ]);
    for (path, expected) in [
        ("/", "*/"),
        ("", "*/"),
        ("/x", "*/*"),
        ("/a", "*/a"),
        ("/a/", "*/a/*"),
        ("/a/x", "*/a/*/*"),
        ("/a/x/y/z", "*/a/*/*"),
        ("/a/x/c", "*/a/*/c"),
        ("/a/x/c/d", "*/a/*/*"),
        // The literal `b` is first, although `/a/*/c` would end here.
        ("/a/b/c", "*/a/b/*"),
        ("/a/b/d", "*/a/b/d"),
        ("/a/b", "*/a/b/*"),
        ("/a//c", "*/a/*"),
        ("/a//", "*/a/*"),
        ("/A", "*/*"),
        ("//a", "*/*"),
        ("/t/", "*/t/"),
        ("/t", "*/*"),
        ("/ab", "*/*"),
        ("/%61/%62/d", "*/a/b/d"),
        ("/a%2Fb/d", "*/*"),
        ("*", "*/*"),
    ] {
        let found = get(&table, "h", path).map(String::as_str);
        assert_eq!(found, Some(expected), "{path}");
    }
}

#[test]
fn a_better_host_without_the_path_leaves_it_to_the_next() {
    let table = table(&[("a.b", "/ws/*"), ("*.b", "/*"), ("*", "/api/*")]);
    assert_eq!(get(&table, "a.b", "/ws").unwrap(), "a.b/ws/*");
    assert_eq!(get(&table, "a.b", "/api").unwrap(), "*.b/*");
    assert_eq!(get(&table, "c", "/api").unwrap(), "*/api/*");
    assert_eq!(get(&table, "c", "/ws"), None);
}

#[test]
fn patterns_and_hosts_are_compared_in_one_form() {
    let table = table(&[
        ("Chat.Example.com", "/%64oc/%2fx"),
        ("*.Example.org", "/*"),
        ("[::1]", "/é"),
    ]);
    assert!(get(&table, "chat.example.com", "/doc/%2Fx").is_some());
    assert!(get(&table, "a.example.org", "/").is_some());
    assert!(get(&table, "::1", "/%c3%A9").is_some());
    assert!(get(&table, "chat.example.com", "/doc//x").is_none());
}

#[test]
fn more_conditions_come_first() {
    let tenant = HeaderName::from_static("x-tenant");
    let debug = HeaderName::from_static("x-debug");
    let acme = Some(HeaderValue::from_static("acme"));
    let base = at("*", "/*");
    let routes = [
        ("plain", base.clone()),
        (
            "get or post",
            Criteria {
                methods: vec![Method::GET, Method::POST],
                ..base.clone()
            },
        ),
        (
            "get",
            Criteria {
                methods: vec![Method::GET],
                ..base.clone()
            },
        ),
        (
            "tenant",
            Criteria {
                headers: vec![(tenant.clone(), None)],
                ..base.clone()
            },
        ),
        (
            "acme",
            Criteria {
                headers: vec![(tenant.clone(), acme.clone())],
                ..base.clone()
            },
        ),
        (
            "acme and debug",
            Criteria {
                headers: vec![(tenant, acme), (debug, None)],
                ..base.clone()
            },
        ),
        (
            "mqtt",
            Criteria {
                subprotocols: vec!["mqtt".into()],
                ..base.clone()
            },
        ),
        (
            "mqtt or stomp",
            Criteria {
                subprotocols: vec!["mqtt".into(), "stomp".into()],
                ..base
            },
        ),
    ];
    let table = Table::new(routes.into_iter().rev().map(|(name, route)| (route, name)));
    let chosen = |method: Method, lines: &[(&'static str, &'static str)]| {
        let headers = headers(lines);
        let request = Request {
            host: "h",
            path: "/",
            method: &method,
            headers: &headers,
        };
        *table.lookup(&request).unwrap()
    };
    assert_eq!(chosen(Method::PUT, &[]), "plain");
    assert_eq!(chosen(Method::GET, &[]), "get");
    assert_eq!(chosen(Method::POST, &[]), "get or post");
    assert_eq!(chosen(Method::GET, &[("x-tenant", "x")]), "tenant");
    assert_eq!(chosen(Method::GET, &[("x-tenant", "Acme")]), "tenant");
    let acme = ("x-tenant", "acme");
    assert_eq!(chosen(Method::GET, &[acme]), "acme");
    assert_eq!(chosen(Method::GET, &[("x-tenant", "x"), acme]), "acme");
    assert_eq!(
        chosen(Method::GET, &[acme, ("x-debug", "")]),
        "acme and debug"
    );
    let offer = |value| ("sec-websocket-protocol", value);
    assert_eq!(
        chosen(Method::GET, &[acme, offer("a, stomp")]),
        "mqtt or stomp"
    );
    assert_eq!(chosen(Method::GET, &[offer("a,mqtt"), acme]), "mqtt");
    assert_eq!(chosen(Method::GET, &[offer("a"), offer("mqtt")]), "mqtt");
    assert_eq!(chosen(Method::GET, &[offer("MQTT")]), "get");
}

#[test]
fn explain_says_what_does_not_fit() {
    let mut strict = at("chat.example.com", "/ws/*");
    strict.methods = vec![Method::GET];
    strict.headers = vec![(HeaderName::from_static("x-tenant"), None)];
    strict.subprotocols = vec!["mqtt".into()];
    let table = Table::new([
        (at("*", "/*"), "rest"),
        (at("chat.example.com", "/api"), "api"),
        (strict, "strict"),
    ]);
    let explained = table.explain(&Request {
        host: "chat.example.com",
        path: "/ws/1",
        method: &Method::POST,
        headers: &HeaderMap::new(),
    });
    let found: Vec<_> = explained
        .iter()
        .map(|route| (*route.target, route.misses.as_slice()))
        .collect();
    let tenant = Miss::Header(HeaderName::from_static("x-tenant"));
    assert_eq!(
        found,
        [
            ("api", &[Miss::Path][..]),
            ("strict", &[Miss::Method, Miss::Subprotocol, tenant]),
            ("rest", &[]),
        ]
    );
    assert!(explained[2].matches());
}

#[test]
fn routes_elsewhere_are_not_tried() {
    let mut tree = Tree::default();
    for id in 0..10_000 {
        tree.insert(&path(&format!("/doc/{id}/*/live")), id);
    }
    tree.insert(&path("/doc/*"), 10_000);
    let tried = Cell::new(0);
    let found = tree.find("/doc/4711/x/dead", |_| {
        tried.set(tried.get() + 1);
        true
    });
    assert_eq!((found, tried.get()), (Some(10_000), 1));
}

#[test]
fn an_empty_table_matches_nothing() {
    assert_eq!(get(&Table::<()>::new([]), "a.b", "/"), None);
}

/// The order of the room's documentation, between routes that match the same
/// request; written down a second time, without trees and ranks.
fn naive_order(route: &Criteria) -> impl Ord {
    let host = match &route.host {
        HostPattern::Exact(_) => usize::MAX,
        HostPattern::Wildcard(suffix) => suffix.len(),
        HostPattern::Any => 0,
    };
    let mut path: String = route
        .path
        .segments
        .iter()
        .map(|segment| match segment {
            PathSegment::Literal(_) => '1',
            PathSegment::Any => '2',
        })
        .collect();
    path.push(if route.path.prefix { '4' } else { '3' });
    let exact = route.headers.iter().filter(|(_, value)| value.is_some());
    (
        Reverse(host),
        path,
        route.subprotocols.is_empty(),
        Reverse((route.headers.len(), exact.count())),
        route.methods.is_empty(),
        (route.subprotocols.len(), route.methods.len()),
    )
}

fn naive_match(route: &Criteria, request: &Request<'_>) -> bool {
    let host = match &route.host {
        HostPattern::Any => true,
        HostPattern::Exact(host) => request.host == host,
        HostPattern::Wildcard(suffix) => request.host.strip_suffix(suffix.as_str()).is_some(),
    };
    let path = request.path.replace("%61", "a");
    let given: Vec<&str> = match &path[1..] {
        "" => vec![],
        path => path.split('/').collect(),
    };
    let wanted = &route.path.segments;
    let length = match route.path.prefix {
        true => given.len() >= wanted.len(),
        false => given.len() == wanted.len(),
    };
    let segments = wanted
        .iter()
        .zip(given)
        .all(|(wanted, given)| match wanted {
            PathSegment::Any => !given.is_empty(),
            PathSegment::Literal(text) => text == given,
        });
    let offered = request.headers.get(SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.and_then(|line| line.to_str().ok()).unwrap_or("");
    host && length
        && segments
        && (route.methods.is_empty() || route.methods.contains(request.method))
        && route.headers.iter().all(|(name, wanted)| {
            let found = request.headers.get(name);
            found.is_some_and(|found| wanted.as_ref().is_none_or(|wanted| wanted == found))
        })
        && (route.subprotocols.is_empty()
            || offered
                .split(", ")
                .any(|offered| route.subprotocols.iter().any(|wanted| wanted == offered)))
}

fn any_headers() -> impl Strategy<Value = Vec<(HeaderName, HeaderValue)>> {
    let value = || select(vec!["1", "2"]).prop_map(HeaderValue::from_static);
    let names = ["x-a", "x-b"].map(HeaderName::from_static).to_vec();
    (subsequence(names, 0..=2), value(), value())
        .prop_map(|(names, a, b)| names.into_iter().zip([a, b]).collect())
}

prop_compose! {
    fn any_criteria()(
        host_text in select(vec!["*", "*.z", "*.y.z", "x.y.z", "y.z", "w.x.y.z"]),
        segments in proptest::collection::vec(select(vec!["a", "b", "*", ""]), 0..4),
        prefix: bool,
        methods in subsequence(vec![Method::GET, Method::POST], 0..=2),
        headers in any_headers(),
        any_value: bool,
        subprotocols in subsequence(vec!["p".to_owned(), "q".to_owned()], 0..=2),
        kind in 0..4,
    ) -> Criteria {
        let mut criteria = Criteria {
            host: host(host_text),
            path: path(&format!("/{}", segments.join("/"))),
            methods,
            headers: headers
                .into_iter()
                .map(|(name, value)| (name, (!any_value).then_some(value)))
                .collect(),
            subprotocols,
        };
        criteria.path.prefix |= prefix;
        // Some share one place and are told apart by conditions, most have none.
        match kind {
            0 => (criteria.host, criteria.path) = (HostPattern::Any, path("/*")),
            1 => {}
            _ => {
                criteria.methods.clear();
                criteria.headers.clear();
                criteria.subprotocols.clear();
            }
        }
        criteria
    }
}

proptest! {
    #[test]
    fn lookups_agree_with_a_naive_model(
        routes in proptest::collection::vec(any_criteria(), 0..40),
        host in select(vec!["x.y.z", "y.z", "z", "w.x.y.z", "v.w.x.y.z", "other"]),
        segments in proptest::collection::vec(select(vec!["a", "b", "c", "", "%61"]), 0..5),
        method in select(vec![Method::GET, Method::POST, Method::PUT]),
        lines in any_headers(),
        offered in select(vec![None, Some("p"), Some("o, q"), Some("P")]),
    ) {
        let path = format!("/{}", segments.join("/"));
        let mut headers: HeaderMap = lines.into_iter().collect();
        if let Some(offered) = offered {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offered));
        }
        let request = Request { host, path: &path, method: &method, headers: &headers };
        let table = Table::new(routes.iter().cloned().zip(0..));
        let found = table.lookup(&request).map(|&i: &usize| &routes[i]);

        let expected = routes
            .iter()
            .filter(|route| naive_match(route, &request))
            .min_by(|a, b| naive_order(a).cmp(&naive_order(b)));
        prop_assert_eq!(found.is_some(), expected.is_some());
        if let (Some(found), Some(expected)) = (found, expected) {
            prop_assert!(naive_match(found, &request));
            prop_assert!(naive_order(found) == naive_order(expected), "{found:?} {expected:?}");
        }

        let explained = table.explain(&request);
        for route in &explained {
            prop_assert_eq!(route.matches(), naive_match(&routes[*route.target], &request));
        }
        let first = explained.iter().find(|route| route.matches());
        prop_assert_eq!(first.map(|route| &routes[*route.target]), found);

        let reversed = Table::new(routes.iter().cloned().enumerate().rev().map(|(i, c)| (c, i)));
        prop_assert_eq!(reversed.lookup(&request).map(|&i| &routes[i]), found);
    }
}
