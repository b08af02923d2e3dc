//! What an operator sees of live tunnels and backends, and does to them: the admin API, and the
//! commands that ask it.

use std::process::Output;

use serde_json::{Value, json};

use crate::kit::{Echo, Over, Proxy, Site, Ws, dial, longhaul, over_each};

over_each!(
    on two threads:
    a_state_that_is_set_holds_over_reloads_until_the_file_says_otherwise,
    tunnels_are_closed_by_what_they_have_in_common_and_no_others,
    live_tunnels_are_listed_page_by_page_and_by_what_they_have_in_common,
);

async fn get(proxy: &Proxy, path: &str) -> Value {
    let (code, answer) = proxy.ask_admin(path, None).await;
    assert_eq!(code, 200, "{path}: {answer}");
    answer
}

async fn post(proxy: &Proxy, path: &str, body: Value) -> Value {
    let (code, answer) = proxy.ask_admin(path, Some(body)).await;
    assert_eq!(code, 200, "{path}: {answer}");
    answer
}

/// What a request is refused with.
async fn refused(proxy: &Proxy, code: u16, path: &str, body: Option<Value>) -> String {
    let (found, answer) = proxy.ask_admin(path, body).await;
    assert_eq!(found, code, "{path}: {answer}");
    answer["error"].as_str().expect("an error").to_owned()
}

/// A command with the admin socket of this proxy, as its exit code and both outputs.
fn run(proxy: &Proxy, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = longhaul();
    command
        .args(words)
        .arg("--admin")
        .arg(proxy.path("admin.sock"));
    said(command.output().expect("to run longhaul"))
}

fn said(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn ids(answer: &Value) -> Vec<u64> {
    let tunnels = answer["tunnels"].as_array().expect("tunnels");
    let ids = tunnels.iter().map(|one| one["id"].as_u64());
    ids.map(|id| id.expect("an id")).collect()
}

fn site(backends: &[&Echo]) -> Site {
    let entries: Vec<_> = backends.iter().map(|one| one.entry()).collect();
    Site::of(&entries)
        .top("trusted_proxies = ['127.0.0.0/8']")
        .route("name = 'chat'")
        .upstream("sticky = ['query:key']")
}

/// Tunnels of ten clients, each with a key of its own.
async fn ten(proxy: &Proxy) -> Vec<Ws> {
    let mut all = Vec::new();
    for number in 0..10 {
        let headers = format!("X-Forwarded-For: 203.0.113.{number}\r\n");
        let mut ws = proxy.ws_with(&format!("/?key={number}"), &headers).await;
        ws.greeting().await;
        all.push(ws);
    }
    all
}

async fn live_tunnels_are_listed_page_by_page_and_by_what_they_have_in_common(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let proxy = Proxy::start(site(&[&a, &b])).await.over(over);
    let mut tunnels = ten(&proxy).await;
    tunnels[3].echo("four").await;
    let all = get(&proxy, "/tunnels").await;
    let sorted = ids(&all);
    assert_eq!((sorted.len(), &all["matching"]), (10, &json!(10)));
    assert!(sorted.is_sorted());
    assert_eq!(all["next"], Value::Null);

    let mut paged = Vec::new();
    let mut after = 0;
    loop {
        let page = get(&proxy, &format!("/tunnels?limit=4&after={after}")).await;
        paged.extend(ids(&page));
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(paged, sorted);

    let one = get(&proxy, "/tunnels?client=203.0.113.3").await["tunnels"][0].clone();
    assert_eq!(one["client"], "203.0.113.3");
    assert!(one["peer"].as_str().expect("a peer").starts_with("127."));
    assert_eq!(
        (&one["route"], &one["upstream"]),
        (&json!("chat"), &json!("app"))
    );
    assert_eq!(
        (&one["listener"], &one["state"]),
        (&json!("main"), &json!("open"))
    );
    assert_eq!(
        (&one["sticky"], &one["protocol"]),
        (&json!("query:key"), &json!("websocket"))
    );
    assert_eq!((&one["tls"], &one["sni"]), (&Value::Null, &Value::Null));
    // Six bytes of a header with its mask, and the text; the greeting went out before it.
    assert_eq!(
        (&one["bytes_in"], &one["messages_in"]),
        (&json!(10), &json!(1))
    );
    assert_eq!(one["messages_out"], 2);
    let id = one["id"].as_u64().expect("an id");
    assert_eq!(
        get(&proxy, &format!("/tunnels/{id}")).await["key"],
        one["key"]
    );

    let key = one["key"].as_str().expect("a hash");
    assert!(!one.to_string().contains("key=3"), "{one}");
    for (query, expected) in [
        (format!("key={key}"), 1),
        ("client=203.0.113.0/30".to_owned(), 4),
        ("client=198.51.100.0/24".to_owned(), 0),
        (
            "route=chat&upstream=app&listener=main&state=open".to_owned(),
            10,
        ),
        ("backend=c".to_owned(), 0),
        ("state=closing".to_owned(), 0),
    ] {
        let found = get(&proxy, &format!("/tunnels?{query}")).await;
        assert_eq!(ids(&found).len(), expected, "{query}");
    }
    let of_a = get(&proxy, "/tunnels?backend=a&limit=0").await["matching"].clone();
    assert_eq!(of_a.as_u64(), Some(proxy.tunnels_of("a").await));

    the_commands_say_the_same(&proxy, id, key);
}

fn the_commands_say_the_same(proxy: &Proxy, id: u64, key: &str) {
    let (code, text, _) = run(proxy, &["tunnels", "list", "--client", "203.0.113.3"]);
    assert_eq!(code, Some(0));
    assert!(text.contains(key) && text.contains("1 of 1"), "{text}");
    let (_, text, _) = run(proxy, &["tunnels", "show", &id.to_string(), "--json"]);
    let shown: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(shown["id"], id);
    let (_, text, _) = run(proxy, &["tunnels"]);
    assert!(text.contains("10 of 10"), "{text}");
    let (_, text, _) = run(proxy, &["status"]);
    assert!(text.contains("upstream app"), "{text}");
}

/// Over HTTP/1.1 alone: it is about what the command prints.
#[tokio::test]
async fn the_status_is_what_is_asked_for_as_json_and_in_words() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&[&backend])).await;
    let mut tunnel = proxy.ws("/").await;
    tunnel.greeting().await;
    tunnel.echo("one").await;
    let status = get(&proxy, "/status").await;
    let (code, text, errors) = run(&proxy, &["status", "--json"]);
    assert_eq!((code, &*errors), (Some(0), ""));
    let printed: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        printed, status,
        "the same process, and nothing has happened"
    );
    assert_eq!(
        (&printed["tunnels"], &printed["pid"]),
        (&json!(1), &json!(proxy.pid()))
    );

    let (code, text, _) = run(&proxy, &["status"]);
    assert_eq!(code, Some(0));
    let says = |text: &str, words: &[&str]| {
        let wanted = words.join(" ");
        let joined = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.lines().any(|it| joined(it).starts_with(&wanted)),
            "{wanted} in\n{text}"
        );
    };
    let word = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned)
    };
    for key in [
        "version",
        "pid",
        "generation",
        "config_hash",
        "tunnels",
        "connections",
    ] {
        says(&text, &[key, &word(&status[key])]);
    }
    let listener = &status["listeners"][0];
    says(&text, &["main", &word(&listener["address"])]);
    says(&text, &["stalled 0"]);
    says(&text, &["admin_listen -"]);
    says(&text, &["last_reload ok,"]);
    assert!(text.contains("upstream \"app\" added"), "{text}");
    says(&text, &["asked_by", &word(&status["asked_by"]["who"])]);
    says(&text, &["a", backend.address(), "1 active up 1 0 0 0 1"]);

    proxy.refuse("[nonsense").await;
    let (_, text, _) = run(&proxy, &["status"]);
    says(&text, &["last_reload failed,"]);
    assert!(text.contains("unclosed table"), "{text}");
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_with_what_is_allowed() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&[&backend])).await;
    for (path, body, expected) in [
        (
            "/tunnels?rote=chat",
            None,
            "unknown key `rote`; allowed: client, key",
        ),
        ("/tunnels?limit=10001", None, "an integer from 0 to 10000"),
        ("/tunnels?key=12", None, "16 hex digits"),
        ("/tunnels?state=ended", None, "half_closed"),
        ("/tunnels?client=nobody", None, "an IP address"),
        ("/tunnels/x", None, "no id"),
        ("/status?x=1", None, "unknown key `x`"),
        ("/tunnels/close", Some(json!({})), "which tunnels?"),
        (
            "/tunnels/close",
            Some(json!({ "all": true, "code": 1005 })),
            "1000-1003",
        ),
        (
            "/tunnels/close",
            Some(json!({ "all": true, "rate": "0/s" })),
            "a rate such as",
        ),
        (
            "/tunnels/close",
            Some(json!({ "all": true, "reason": "x".repeat(124) })),
            "123 bytes",
        ),
        (
            "/tunnels/close",
            Some(json!({ "al": true })),
            "unknown key `al`",
        ),
        ("/tunnels/close", Some(json!([])), "no JSON object"),
        ("/rebalance", Some(json!({ "to": 0.1 })), "needed: upstream"),
        (
            "/rebalance",
            Some(json!({ "upstream": "app", "to": 2 })),
            "from 0.0 to 1.0",
        ),
        (
            "/backends",
            Some(json!({ "upstream": "app" })),
            "needed: upstream, backend, state",
        ),
        ("/backends", Some(json!({ "state": "off" })), "\"draining\""),
    ] {
        let error = refused(&proxy, 400, path, body).await;
        assert!(error.contains(expected), "{path}: {error}");
    }
    refused(&proxy, 404, "/tunnels/99", None).await;
    refused(&proxy, 404, "/tunnels/close", Some(json!({ "id": 99 }))).await;
    refused(&proxy, 404, "/rebalance", Some(json!({ "upstream": "x" }))).await;
    let nobody = json!({ "upstream": "app", "backend": "x", "state": "active" });
    refused(&proxy, 404, "/backends", Some(nobody)).await;
    refused(&proxy, 404, "/nothing", Some(json!({}))).await;
    refused(&proxy, 405, "/tunnels", Some(json!({}))).await;
    refused(&proxy, 405, "/tunnels/close", None).await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_it_is_sent() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&[&backend])).await;
    let mut long = dial(&format!("unix:{}", proxy.path("admin.sock").display())).await;
    long.send("POST /backends HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
        .await;
    assert_eq!(long.response().await.head.status, 413);
}

/// Over HTTP/1.1 alone: it is about what the commands say.
#[tokio::test]
async fn a_command_that_lacks_a_word_says_which_in_its_own_words() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&[&backend])).await;
    let mut tunnel = proxy.ws("/").await;
    tunnel.greeting().await;
    let (code, _, errors) = run(&proxy, &["tunnels", "close"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("which tunnels?"), "{errors}");
    for word in ["--all", "--client", "--backend"] {
        assert!(errors.contains(word), "{errors}");
    }
    assert!(!errors.contains("true"), "no words of the API: {errors}");
    tunnel.echo("still here").await;

    let asked = |words: &[&str]| said(longhaul().args(words).output().expect("to run longhaul"));
    for written in ["127.0.0.1:19900", "localhost:19900", "[::1]:19900"] {
        let (code, _, errors) = asked(&["status", "--admin", written]);
        assert_eq!(code, Some(1));
        let url = format!("--admin http://{written}");
        assert!(errors.contains(&url), "{errors}");
    }
    let (_, _, errors) = asked(&["status", "--admin", "no/such:1"]);
    assert!(!errors.contains("http://"), "that is a path: {errors}");
    let bare = proxy.write("bare.toml", site(&[&backend]).to_string());
    let bare = bare.display().to_string();
    let (code, _, errors) = asked(&["status", "--config", &bare]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("bare.toml has no [admin]"), "{errors}");
    let lines = "[admin]\nsocket = \"/run/longhaul/admin.sock\"";
    assert!(errors.contains(lines), "{errors}");
}

async fn tunnels_are_closed_by_what_they_have_in_common_and_no_others(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&[&backend])).await.over(over);
    let mut tunnels = ten(&proxy).await;
    let body = json!({
        "client": "203.0.113.0/30", "code": 1008, "reason": "enough", "rate": "100/s",
        "dry_run": true,
    });
    let dry = post(&proxy, "/tunnels/close", body.clone()).await;
    assert_eq!(
        (&dry["closing"], &dry["seconds"]),
        (&json!(4), &json!(0.04))
    );
    assert_eq!(proxy.tunnels_of("a").await, 10);
    let mut real = body;
    real["dry_run"] = false.into();
    let begun = post(&proxy, "/tunnels/close", real).await;
    assert_eq!(begun["closing"], 4);
    let kept = tunnels.split_off(4);
    for ws in tunnels {
        assert_eq!(ws.closed().await, Some(1008));
        let line = proxy
            .log
            .wait("tunnel closed", &[("cause", "operator")])
            .await;
        assert_eq!(line.text("ended_by"), "longhaul");
    }
    let mut kept = kept.into_iter();
    let one = get(&proxy, "/tunnels?client=203.0.113.4").await["tunnels"][0]["id"].clone();
    let (code, text, errors) = run(
        &proxy,
        &["tunnels", "close", &one.to_string(), "--code", "none"],
    );
    assert_eq!(code, Some(0), "{errors}");
    assert!(text.contains("1 tunnels are closed over 0.0 s"), "{text}");
    assert_eq!(kept.next().expect("the fifth").closed().await, None);
    for mut ws in kept {
        ws.echo("still here").await;
    }
    let done = async || {
        let closings = get(&proxy, "/closings").await["closings"].clone();
        closings
            .as_array()
            .is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["left"] == 0))
    };
    crate::kit::soon("the closings to be over", async { while !done().await {} }).await;
}

async fn a_state_that_is_set_holds_over_reloads_until_the_file_says_otherwise(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let file = |state: &str, route: &str| {
        let text = site(&[&a, &b])
            .route(route)
            .upstream("drain = { rate = '100/s' }")
            .to_string();
        text.replace(
            "name = \"a\",",
            &format!("name = \"a\", state = '{state}',"),
        )
    };
    let proxy = Proxy::start(file("active", "")).await.over(over);
    let tunnels = ten(&proxy).await;
    let of_a = proxy.tunnels_of("a").await;
    assert!(of_a > 0);
    let (code, text, errors) = run(&proxy, &["backends", "set", "app", "a", "draining"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        text.contains(&format!("a is draining, by operator; {of_a} tunnels")),
        "{text}"
    );
    proxy
        .log
        .wait("backend is drained", &[("backend", "a")])
        .await;
    drop(tunnels);
    let overridden = async || {
        let listed = get(&proxy, "/backends?overridden=true").await["backends"].clone();
        listed.as_array().expect("backends").len()
    };
    assert_eq!(overridden().await, 1);
    proxy.reload(file("active", "idle_timeout = '1h'")).await;
    let listed = get(&proxy, "/backends?upstream=app").await["backends"][0].clone();
    assert_eq!(
        (&listed["state"], &listed["state_by"]),
        (&json!("draining"), &json!("operator"))
    );
    assert_eq!(listed["config_state"], "active");
    proxy.reload(file("disabled", "")).await;
    assert_eq!(overridden().await, 0);
    post(
        &proxy,
        "/backends",
        json!({ "upstream": "app", "backend": "a", "state": "active" }),
    )
    .await;
    let (_, text, _) = run(&proxy, &["backends", "list", "--overridden"]);
    assert!(
        text.contains("operator") && text.lines().count() == 2,
        "{text}"
    );
    run(&proxy, &["backends", "set", "app", "a", "config"]);
    assert_eq!(overridden().await, 0);
}
