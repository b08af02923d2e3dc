//! Backends that are found in a file: what an edit of it moves, and what a mistake in it does not.
//!
//! Finding them in DNS is tested against a real server in tests/apps.

use serde_json::{Value, json};

use crate::kit::{Echo, Over, Proxy, Setup, Site, over_each};

over_each!(
    an_edit_of_the_file_moves_what_it_must_and_no_more,
    who_is_no_longer_listed_is_drained_if_the_upstream_says_so,
    a_file_with_a_mistake_changes_nothing,
    what_was_there_before_serves_until_something_is_found,
    labels_give_weight_and_state,
);

/// What the file says of these backends.
fn listing(backends: &[&Echo]) -> String {
    let targets: Vec<&str> = backends.iter().map(|one| one.address()).collect();
    json!([{ "targets": targets, "labels": { "env": "test" } }]).to_string()
}

fn site(upstream: &str) -> String {
    let site = Site::of(&[]).upstream("sticky = 'query:key'");
    let text = site.upstream(upstream).to_string();
    text.replace("backends = []", "discovery = { file = 'backends.json' }")
}

async fn start(over: Over, backends: &[&Echo], upstream: &str) -> Proxy {
    let setup = Setup::new();
    setup.write("backends.json", listing(backends));
    setup.start(site(upstream)).await.over(over)
}

/// Replaces the file and waits until longhaul has seen it.
async fn edit(proxy: &Proxy, text: &str, message: &str) {
    let log = proxy.log.tail();
    proxy.write("backends.json", text);
    log.wait(message, &[("upstream", "app")]).await;
}

async fn upstream(proxy: &Proxy) -> Value {
    proxy.status().await["upstreams"][0].clone()
}

/// Which backend each of some keys goes to.
async fn keys(proxy: &Proxy) -> Vec<String> {
    let mut keys = Vec::new();
    for key in 0..40 {
        let answer = proxy.get(&format!("/?key={key}")).await;
        assert_eq!(answer.head.status, 200);
        keys.push(answer.text().to_owned());
    }
    keys
}

async fn an_edit_of_the_file_moves_what_it_must_and_no_more(over: Over) {
    let (a, b, c) = (
        Echo::start("a").await,
        Echo::start("b").await,
        Echo::start("c").await,
    );
    let proxy = start(over, &[&a, &b], "").await;
    let before = keys(&proxy).await;
    let mut tunnels = Vec::new();
    for key in 0..10 {
        let mut ws = proxy.ws(&format!("/?key={key}")).await;
        ws.greeting().await;
        tunnels.push(ws);
    }
    edit(&proxy, &listing(&[&c, &b, &a]), "backends found").await;
    let found = proxy
        .log
        .wait("backends found", &[("added", c.address())])
        .await;
    assert_eq!((found.number("backends"), found.text("removed")), (3, ""));
    let after = keys(&proxy).await;
    assert!(after.contains(&"c".to_owned()));
    for (old, new) in before.iter().zip(&after) {
        assert!(new == "c" || old == new, "{old} moved to {new}");
    }
    // It is no reload.
    assert_eq!(proxy.generation().await, 1);
    edit(&proxy, &listing(&[&a, &b]), "backends found").await;
    assert_eq!(keys(&proxy).await, before);
    for ws in &mut tunnels {
        ws.echo("still here").await;
    }
    // A config that names them as they are found sends every key the same way.
    let names: Vec<_> = [&a, &b]
        .iter()
        .map(|one| (one.address(), one.address()))
        .collect();
    let named = Site::of(&names).upstream("sticky = 'query:key'");
    let named = Setup::new().beside().start(named).await;
    assert_eq!(keys(&named).await, before);
}

async fn who_is_no_longer_listed_is_drained_if_the_upstream_says_so(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let drain = "on_removed = 'drain'\ndrain = { rate = '100/s' }";
    let proxy = start(over, &[&a], drain).await;
    let mut ws = proxy.ws("/").await;
    assert_eq!(ws.greeting().await, "a");
    edit(&proxy, &listing(&[&b]), "draining a removed backend").await;
    assert_eq!(ws.closed().await, Some(1012));
    assert_eq!(proxy.get("/").await.text(), "b");
}

async fn a_file_with_a_mistake_changes_nothing(over: Over) {
    let a = Echo::start("a").await;
    let proxy = start(over, &[&a], "on_removed = 'drain'").await;
    let mut ws = proxy.ws("/").await;
    ws.greeting().await;
    edit(&proxy, "[{", "discovery has failed: the last answer stands").await;
    for (text, error) in [
        ("[]", "no backend in it"),
        ("[{\"targets\": [\"a\"]}]", "host and port"),
    ] {
        proxy.write("backends.json", text);
        while !upstream(&proxy).await["discovery"]["error"]
            .as_str()
            .is_some_and(|said| said.contains(error))
        {}
    }
    assert_eq!(upstream(&proxy).await["discovery"]["ok"], false);
    assert_eq!(proxy.get("/").await.text(), "a");
    ws.echo("still here").await;
    let said = proxy
        .log
        .all(|event| event.message.starts_with("discovery has failed"));
    assert_eq!(said.len(), 1, "once, not for each try: {said:?}");
    edit(&proxy, &listing(&[&a]), "discovery works again").await;
    assert_eq!(upstream(&proxy).await["discovery"]["ok"], true);
    ws.echo("still here").await;
}

#[tokio::test]
async fn without_a_file_there_is_nobody_until_it_comes() {
    let a = Echo::start("a").await;
    let proxy = Proxy::start(site("")).await;
    assert_eq!(proxy.get("/").await.head.status, 503);
    edit(&proxy, &listing(&[&a]), "backends found").await;
    assert_eq!(proxy.get("/").await.text(), "a");
}

async fn what_was_there_before_serves_until_something_is_found(over: Over) {
    let a = Echo::start("a").await;
    let drain = "on_removed = 'drain'\ndrain = { window = '0s' }";
    let listed = Site::of(&[(a.address(), a.address())]).upstream(drain);
    let proxy = Proxy::start(&listed).await.over(over);
    let mut ws = proxy.ws("/").await;
    ws.greeting().await;
    // To a discovery that has nothing yet, then one that finds the same.
    proxy.reload(site(drain)).await;
    let failed = "discovery has failed: the last answer stands";
    proxy.log.wait(failed, &[("upstream", "app")]).await;
    assert_eq!(proxy.get("/").await.text(), "a");
    edit(&proxy, &listing(&[&a]), "discovery works again").await;
    proxy
        .reload(site(drain) + "\n[tcp]\nkeepalive_probes = 4\n")
        .await;
    assert_eq!(proxy.get("/").await.text(), "a");
    ws.echo("still here").await;
    let drained = proxy.log.all(|event| event.message.starts_with("draining"));
    assert!(drained.is_empty(), "{drained:?}");
}

async fn labels_give_weight_and_state(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let proxy = start(over, &[&a, &b], "drain = { rate = '100/s' }").await;
    let mut ws = Vec::new();
    for key in 0..20 {
        ws.push(proxy.ws(&format!("/?key={key}")).await);
    }
    let text = json!([
        { "targets": [a.address()], "labels": { "longhaul_weight": "7" } },
        { "targets": [b.address()], "labels": { "longhaul_state": "draining" } },
    ]);
    edit(&proxy, &text.to_string(), "backend is drained").await;
    let status = upstream(&proxy).await;
    let backends = status["backends"].as_array().expect("backends");
    let of = |address: &str| backends.iter().find(|one| one["name"] == address);
    assert_eq!(of(a.address()).expect("a")["weight"], 7);
    assert_eq!(of(b.address()).expect("b")["state"], "draining");
    assert_eq!(of(b.address()).expect("b")["tunnels"], 0);
    assert!(keys(&proxy).await.iter().all(|name| name == "a"));
}
