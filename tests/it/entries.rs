//! Entries of the registry, read over the admin API: what they say of a tunnel's bytes and times, that
//! a reload leaves them as they are, and closing by each thing that tunnels may have in common.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::kit::{Echo, Opcode, Over, Proxy, RawBackend, Site, Ws, masked, over_each, plain, soon};

over_each!(
    an_entry_says_when_it_was_opened_and_what_passed_each_way_and_when,
    a_reload_leaves_every_entry_as_it_is,
    tunnels_are_closed_by_route_by_backend_and_by_upstream,
);

async fn tunnels(proxy: &Proxy, filter: &str) -> Vec<Value> {
    let (code, page) = proxy.ask_admin(&format!("/tunnels?{filter}"), None).await;
    assert_eq!(code, 200, "{filter}: {page}");
    page["tunnels"].as_array().cloned().expect("tunnels")
}

fn number(entry: &Value, field: &str) -> f64 {
    let number = entry[field].as_f64();
    number.unwrap_or_else(|| panic!("no number {field}: {entry}"))
}

/// The entry of the only tunnel, once so many bytes have been counted.
async fn entry(proxy: &Proxy, bytes_in: usize, bytes_out: usize) -> Value {
    let counted = async {
        loop {
            let entry = tunnels(proxy, "").await.remove(0);
            if (&entry["bytes_in"], &entry["bytes_out"]) == (&json!(bytes_in), &json!(bytes_out)) {
                return entry;
            }
        }
    };
    soon(format!("{bytes_in} bytes in and {bytes_out} out"), counted).await
}

fn unix_time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock that is set").as_secs_f64()
}

async fn an_entry_says_when_it_was_opened_and_what_passed_each_way_and_when(over: Over) {
    let backend = RawBackend::start().await;
    let proxy = Proxy::start(Site::one(backend.address())).await.over(over);
    let before = unix_time();
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    proxy.log.wait("tunnel opened", &[]).await;
    let after = unix_time();
    let long = Duration::from_secs(1);
    server.silent_for(long).await;
    let opened = entry(&proxy, 0, 0).await;
    // In whole seconds.
    let at = number(&opened, "opened_at_unix");
    assert!(at > before - 1.0 && at <= after, "{before} {at} {after}");
    let age = number(&opened, "age_seconds");
    assert!(age >= 0.9 && age < unix_time() - before + 0.1, "{age}");

    let (asked, told) = (
        masked(Opcode::Text, true, b"from the client"),
        plain(Opcode::Binary, true, &[7; 300]),
    );
    client.send(&asked).await;
    server.take(asked.len()).await;
    server.silent_for(long).await;
    server.send(&told).await;
    client.take(told.len()).await;
    let both = entry(&proxy, asked.len(), told.len()).await;
    let idle = |entry: &Value| {
        let each = ["idle_in_seconds", "idle_out_seconds"];
        each.map(|field| number(entry, field))
    };
    // By a clock that a busy machine may set late.
    let [idle_in, idle_out] = idle(&both);
    assert!(idle_in - idle_out >= 0.5, "{both}");
    server.silent_for(long).await;
    client.send(&asked).await;
    server.take(asked.len()).await;
    let later = entry(&proxy, 2 * asked.len(), told.len()).await;
    let [idle_in, idle_out] = idle(&later);
    assert!(idle_out - idle_in >= 0.5, "{later}");
    let messages = (&later["messages_in"], &later["messages_out"]);
    assert_eq!(messages, (&json!(2), &json!(1)));
    assert!((number(&later, "opened_at_unix") - at).abs() <= 1.0);
}

/// What of an entry does not depend on when it is read.
fn lasting(mut entry: Value) -> Value {
    let fields = entry.as_object_mut().expect("an object");
    for field in ["age_seconds", "idle_in_seconds", "idle_out_seconds"] {
        fields.remove(field).expect(field);
    }
    // The same but for the second that it is rounded to.
    fields.remove("opened_at_unix").expect("when it was opened");
    entry
}

async fn a_reload_leaves_every_entry_as_it_is(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let site = |route: &str| {
        Site::of(&[a.entry(), b.entry()])
            .upstream("sticky = 'query:key'")
            .route(&format!("name = 'chat'\n{route}"))
    };
    let proxy = Proxy::start(site("")).await.over(over);
    let mut all = Vec::new();
    for key in 0..10 {
        let mut ws = proxy.ws(&format!("/?key={key}")).await;
        ws.greeting().await;
        // Each another number of bytes.
        ws.echo(&"x".repeat(10 * key)).await;
        all.push(ws);
    }
    // The greetings, the echoes and what they echo, each with its header.
    let (bytes_in, bytes_out) = (10.0 * 6.0 + 450.0, 10.0 * (14.0 + 2.0) + 450.0);
    let sum = |all: &[Value], field: &str| all.iter().map(|one| number(one, field)).sum::<f64>();
    let counted = async {
        loop {
            let all = tunnels(&proxy, "").await;
            if (sum(&all, "bytes_in"), sum(&all, "bytes_out")) == (bytes_in, bytes_out) {
                return all;
            }
        }
    };
    let before = soon("all bytes to be counted", counted).await;
    assert_eq!(before.len(), 10);
    for generation in 2..5 {
        proxy
            .reload(site(&format!("idle_timeout = '{generation}h'")))
            .await;
    }
    let after = tunnels(&proxy, "").await;
    for (before, after) in before.iter().zip(&after) {
        let opened = [before, after].map(|entry| number(entry, "opened_at_unix"));
        assert!((opened[0] - opened[1]).abs() <= 1.0, "{before} {after}");
        assert!(number(after, "age_seconds") >= number(before, "age_seconds"));
    }
    let [before, after] =
        [before, after].map(|list| list.into_iter().map(lasting).collect::<Vec<_>>());
    assert_eq!(before, after);
    // And they go on counting, each its own.
    for ws in &mut all {
        ws.echo("and on").await;
    }
    let went_on = async {
        let counted = |(before, after): (&Value, &Value)| {
            number(after, "bytes_in") == number(before, "bytes_in") + 12.0
        };
        while !before.iter().zip(&tunnels(&proxy, "").await).all(counted) {}
    };
    soon("six bytes more of each", went_on).await;
}

/// Two routes to `app`, with backends `a` and `b`, and one to `other`.
fn routes(a: &Echo, b: &Echo, c: &Echo) -> Site {
    Site::of(&[a.entry(), b.entry()])
        .upstream("sticky = 'query:key'")
        .route("name = 'one'\npath = '/one'")
        .more(&format!(
            "[[routes]]\nname = 'two'\npath = '/two'\nupstream = 'app'\n\
             [[routes]]\nname = 'three'\npath = '/three'\nupstream = 'other'\n\
             [upstreams.other]\nbackends = [{{ name = 'c', address = '{}' }}]",
            c.address()
        ))
}

/// Closes all that fit, and says how many those are.
async fn close(proxy: &Proxy, filter: Value) -> u64 {
    let mut body = filter;
    body["window"] = "0s".into();
    let (code, begun) = proxy.ask_admin("/tunnels/close", Some(body)).await;
    assert_eq!(code, 200, "{begun}");
    begun["closing"].as_u64().expect("a number")
}

/// Those that fit are closed and all others are not.
async fn closed(open: &mut Vec<(&str, String, Ws)>, fits: impl Fn(&str, &str) -> bool) -> u64 {
    let mut count = 0;
    for (route, backend, mut ws) in std::mem::take(open) {
        if fits(route, &backend) {
            assert_eq!(ws.closed().await, Some(1012), "{route} at {backend}");
            count += 1;
        } else {
            ws.echo("still here").await;
            open.push((route, backend, ws));
        }
    }
    count
}

async fn tunnels_are_closed_by_route_by_backend_and_by_upstream(over: Over) {
    let (a, b, c) = (
        Echo::start("a").await,
        Echo::start("b").await,
        Echo::start("c").await,
    );
    let proxy = Proxy::start(routes(&a, &b, &c)).await.over(over);
    let mut open = Vec::new();
    for route in ["one", "two", "three"] {
        for key in 0..10 {
            let mut ws = proxy.ws(&format!("/{route}?key={key}")).await;
            let backend = ws.greeting().await;
            open.push((route, backend, ws));
        }
    }
    for (filter, count) in [
        ("route=one", 10),
        ("route=three&upstream=app", 0),
        ("route=three&upstream=other&backend=c", 10),
        ("route=four", 0),
        ("route=on", 0),
        ("upstream=app", 20),
    ] {
        assert_eq!(tunnels(&proxy, filter).await.len(), count, "{filter}");
    }
    // Nothing is there that fits, and nothing is closed.
    assert_eq!(close(&proxy, json!({ "route": "four" })).await, 0);
    assert_eq!(
        close(&proxy, json!({ "route": "one", "backend": "c" })).await,
        0
    );
    let told = close(&proxy, json!({ "route": "one" })).await;
    assert_eq!(closed(&mut open, |route, _| route == "one").await, told);
    assert_eq!(told, 10);
    let told = close(&proxy, json!({ "backend": "b" })).await;
    let of_b = closed(&mut open, |_, backend| backend == "b").await;
    assert_eq!(of_b, told);
    assert!((1..10).contains(&of_b), "{of_b}");
    let told = close(&proxy, json!({ "upstream": "app" })).await;
    assert_eq!(closed(&mut open, |_, backend| backend == "a").await, told);
    assert_eq!(told, 10 - of_b);
    assert_eq!(open.len(), 10, "those of the other upstream");
}
