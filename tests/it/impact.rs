//! What an edit will do to live tunnels is said before, and is what comes of it: `check --against`, and the
//! line of the reload, against where the same clients are sent before and after.

use serde_json::json;

use crate::kit::{Over, Proxy, over_each};

use self::foretold::{
    CLIENTS, Client, FIRST, SECOND, STICKY, Said, Three, against, base, edit, open, places, sum,
    with,
};

mod foretold;

over_each!(
    on two threads:
    what_closes_is_said_by_route_and_backend,
    who_moves_with_the_backends_is_said_exactly,
    who_moves_with_the_routes_is_said_exactly,
    who_moves_with_the_sticky_key_is_said_as_far_as_it_is_known,
    who_moves_with_the_balance_is_said_as_far_as_it_is_known,
    routes_with_conditions_are_followed_as_far_as_they_are_known,
);

async fn what_closes_is_said_by_route_and_backend(over: Over) {
    for gone in [false, true] {
        let three = Three::start().await;
        let keep = |config: &str| with(config, STICKY, &format!("{STICKY}\non_removed = 'drain'"));
        let config = keep(&three.base());
        let proxy = Proxy::start(&config).await.over(over);
        let _tunnels = open(&proxy).await;
        let at = places(&proxy).await;
        let next = match gone {
            true => keep(&base(&[&three.a], &three.c)),
            false => keep(&three.state_of_b("draining")),
        };
        let said = edit(&proxy, &next, &at, &at).await;
        let mut expected = Said::new();
        for client in Client::all().filter(|client| at[client.0] == "b") {
            let route = if client.is_second() { "second" } else { "chat" };
            let of = expected.entry((route.to_owned(), "b".to_owned()));
            of.or_insert([0; 3])[0] += 1;
        }
        assert_eq!(said, expected, "nobody else has to move");
        assert_eq!(said.len(), 2, "both routes had tunnels there");
    }
}

async fn who_moves_with_the_backends_is_said_exactly(over: Over) {
    let three = Three::start().await;
    let config = three.base();
    let proxy = Proxy::start(&config).await.over(over);
    let _tunnels = open(&proxy).await;
    let at = places(&proxy).await;
    assert_eq!(against(&proxy, &config), Said::new());
    let (c, address) = three.c.entry();
    let moved_address = with(&config, three.b.address(), address);
    let heavier = with(&config, "{ name = \"b\",", "{ name = \"b\", weight = 5,");
    for next in [
        base(&[&three.a, &three.b, &three.c], &three.c),
        three.state_of_b("disabled"),
        heavier,
        // Kept where it is, but nobody comes back to it.
        base(&[&three.a], &three.c),
        moved_address,
    ] {
        let said = edit(&proxy, &next, &at, &at).await;
        let [closed, moving, may_move] = sum(&said);
        assert!(
            closed == 0 && moving > 0 && may_move == 0,
            "{said:?} of {next}"
        );
        proxy.reload(&config).await;
        assert_eq!(places(&proxy).await, at, "{c}");
    }
}

async fn who_moves_with_the_routes_is_said_exactly(over: Over) {
    let three = Three::start().await;
    let config = three.base();
    let proxy = Proxy::start(&config).await.over(over);
    let _tunnels = open(&proxy).await;
    let at = places(&proxy).await;
    let elsewhere = SECOND.replace("'app'", "'spare'");
    let seconds = CLIENTS.div_ceil(3) as u64;
    let firsts = CLIENTS as u64 - seconds;
    for (next, moving) in [
        (with(&config, SECOND, &elsewhere), seconds),
        // The first route takes what the second had, to the same place.
        (with(&config, SECOND, ""), 0),
        // Nobody takes what the first had.
        (with(&config, FIRST, ""), firsts),
        // Another name is none to a client.
        (with(&config, "name = 'chat'", "name = 'other'"), 0),
        // A new route takes some of them.
        (
            format!(
                "{config}{}",
                elsewhere
                    .replace("/second'", "/'")
                    .replace("'second'", "'x'")
            ),
            firsts,
        ),
        // Not for these clients.
        (
            format!(
                "{config}{}",
                elsewhere
                    .replace("path = '/second'", "host = 'x'")
                    .replace("'second'", "'x'")
            ),
            0,
        ),
    ] {
        let said = edit(&proxy, &next, &at, &at).await;
        assert_eq!(sum(&said), [0, moving, 0], "{said:?} of {next}");
        proxy.reload(&config).await;
    }
}

async fn who_moves_with_the_sticky_key_is_said_as_far_as_it_is_known(over: Over) {
    let three = Three::start().await;
    let config = three.base();
    let proxy = Proxy::start(&config).await.over(over);
    let _tunnels = open(&proxy).await;
    let at = places(&proxy).await;
    let all = CLIENTS as u64;
    for (sticky, expected) in [
        // Who had the first source has it still.
        (
            "sticky = ['query:key', 'header:x-user', 'client_ip']",
            Some([0, 0, 0]),
        ),
        // An address is kept: exactly those move whose addresses belong elsewhere.
        ("sticky = ['client_ip']", None),
        ("sticky = ['path:2', 'client_ip']", None),
        // What else a client has nobody knows.
        ("sticky = ['header:x-user', 'query:key']", Some([0, 0, all])),
        ("sticky = ['header:x-user']", Some([0, 0, all])),
    ] {
        let next = with(&config, STICKY, sticky);
        let said = edit(&proxy, &next, &at, &at).await;
        let [closed, moving, may_move] = sum(&said);
        match expected {
            Some(expected) => assert_eq!([closed, moving, may_move], expected, "{sticky}"),
            None => assert!(
                closed == 0 && moving > 0 && may_move == 0,
                "{sticky}: {said:?}"
            ),
        }
        proxy.reload(&config).await;
    }
}

async fn who_moves_with_the_balance_is_said_as_far_as_it_is_known(over: Over) {
    let three = Three::start().await;
    let hash = three.base();
    let least = with(
        &hash,
        STICKY,
        &format!("{STICKY}\nbalance = 'least_connections'"),
    );
    let proxy = Proxy::start(&least).await.over(over);
    let mut at = Vec::new();
    let mut tunnels = Vec::new();
    for client in Client::all() {
        let mut ws = proxy.ws_with(&client.target(), &client.headers()).await;
        at.push(ws.greeting().await);
        tunnels.push(ws);
    }
    // Keys send them from where they are by chance.
    let said = edit(&proxy, &hash, &at, &at).await;
    let [closed, moving, may_move] = sum(&said);
    assert!(closed == 0 && moving > 0 && may_move == 0, "{said:?}");
    // From there chance takes them anywhere.
    let said = edit(&proxy, &least, &at, &places(&proxy).await).await;
    assert_eq!(sum(&said), [0, 0, CLIENTS as u64]);
    // By chance still, but for those whose backend is used no longer.
    let disabled = with(
        &least,
        "{ name = \"b\",",
        "{ name = \"b\", state = 'disabled',",
    );
    let said = edit(&proxy, &disabled, &at, &at).await;
    let of_b = at.iter().filter(|name| *name == "b").count() as u64;
    assert_eq!(sum(&said), [0, of_b, 0]);
}

async fn routes_with_conditions_are_followed_as_far_as_they_are_known(over: Over) {
    let three = Three::start().await;
    let config = three.base();
    let proxy = Proxy::start(&config).await.over(over);
    let _tunnels = open(&proxy).await;
    let at = places(&proxy).await;
    let tenant = "[[routes]]\nname = 'tenant'\nheaders = { x-tenant = 'a' }\nupstream = 'spare'\n";
    let with_tenant = format!("{config}{tenant}");
    // Whether clients of the first route have this header nobody knows.
    let firsts = (CLIENTS - CLIENTS.div_ceil(3)) as u64;
    let said = edit(&proxy, &with_tenant, &at, &at).await;
    assert_eq!(sum(&said), [0, 0, firsts], "{said:?}");
    assert_eq!(places(&proxy).await, at);
    // Now it is known that they have not, or they would be there.
    let app = with(
        &with_tenant,
        "x-tenant = 'a' }\nupstream = 'spare'",
        "x-tenant = 'a' }\nupstream = 'app'",
    );
    assert_eq!(sum(&against(&proxy, &app)), [0, 0, 0]);
    let methods = tenant.replace("headers = { x-tenant = 'a' }", "methods = ['POST']");
    let post = format!("{config}{methods}");
    let said = edit(&proxy, &post, &at, &at).await;
    assert_eq!(sum(&said), [0, 0, 0], "{said:?}");
}

#[tokio::test]
async fn an_outline_that_is_wrong_is_refused() {
    let three = Three::start().await;
    let proxy = Proxy::start(three.base()).await;
    let route = |key: &str, value: serde_json::Value| {
        let mut route = json!({
            "name": "r", "host": "*", "path": "/*", "methods": [], "headers": [],
            "subprotocols": [], "upstream": "app",
        });
        route[key] = value;
        json!({ "routes": [route] })
    };
    let state = json!({
        "hashes": true, "sticky": [], "drains_removed": false, "discovers": false,
        "backends": [{ "name": "a", "address": "a:1", "weight": 1, "state": "off" }],
    });
    for (body, expected) in [
        (
            json!({ "upstreams": { "app": { "hashes": true } } }),
            "missing field",
        ),
        (json!({ "app": {} }), "unknown field `app`"),
        (
            json!({ "upstreams": { "app": state } }),
            "expected \"active\"",
        ),
        (
            route("path", json!("no-slash")),
            "route \"r\": path \"no-slash\"",
        ),
        (route("host", json!("a/b")), "host \"a/b\""),
        (route("methods", json!(["G T"])), "method \"G T\""),
        (route("headers", json!([["x y", null]])), "header \"x y\""),
        (route("backend", json!("a")), "unknown field `backend`"),
    ] {
        let (code, answer) = proxy.ask_admin("/impact", Some(body)).await;
        let error = answer["error"].as_str().expect("an error");
        assert!(code == 400 && error.contains(expected), "{code}: {error}");
    }
}
