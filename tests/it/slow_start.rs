//! The slow start of backends that are new or return: little at first, and in time their whole share.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::kit::{Echo, Proxy, Site, eventually};

const SLOW: Duration = Duration::from_secs(3);
const REQUESTS: usize = 210;

async fn echoes() -> [Echo; 3] {
    [
        Echo::start("a").await,
        Echo::start("b").await,
        Echo::start("c").await,
    ]
}

fn site(backends: &[&Echo]) -> Site {
    let entries: Vec<_> = backends.iter().map(|one| one.entry()).collect();
    Site::of(&entries).upstream("balance = 'round_robin'\nslow_start = '3s'")
}

/// Who answers how many of some requests.
async fn shares(proxy: &Proxy) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..REQUESTS {
        let name = proxy.get("/").await.text().to_owned();
        *shares.entry(name).or_insert(0) += 1;
    }
    shares
}

/// Those that began with the process are over their own.
async fn the_first_are_grown() {
    let start = Instant::now();
    eventually("theirs to be over", || start.elapsed() > SLOW).await;
}

/// `c`, the third, has begun: it gets little, and then its share.
async fn c_grows(proxy: &Proxy) {
    let start = Instant::now();
    let young = shares(proxy).await;
    // Its fair share are 70; a slow machine may be over before it is seen.
    assert!(young["c"] < 50 || start.elapsed() > SLOW / 2, "{young:?}");
    eventually("its slow start to be over", || start.elapsed() > SLOW).await;
    let grown = shares(proxy).await;
    assert!((60..=80).contains(&grown["c"]), "{grown:?}");
}

#[tokio::test]
async fn a_backend_that_is_new_starts_slowly() {
    let [a, b, c] = echoes().await;
    let proxy = Proxy::start(site(&[&a, &b])).await;
    // Those that begin together share as always.
    let together = shares(&proxy).await;
    assert!((95..=115).contains(&together["a"]), "{together:?}");
    the_first_are_grown().await;
    proxy.reload(site(&[&a, &b, &c])).await;
    c_grows(&proxy).await;
}

#[tokio::test]
async fn a_backend_that_is_taken_back_starts_slowly() {
    let [a, b, c] = echoes().await;
    let site = site(&[&a, &b, &c]).to_string();
    let without = site.replace("name = \"c\",", "name = \"c\", state = 'disabled',");
    let proxy = Proxy::start(without).await;
    assert!(!shares(&proxy).await.contains_key("c"));
    the_first_are_grown().await;
    proxy.reload(&site).await;
    c_grows(&proxy).await;
    // The same by an operator's word, which takes effect at once.
    for state in ["draining", "active"] {
        let body = json!({ "upstream": "app", "backend": "c", "state": state });
        let (code, answer) = proxy.ask_admin("/backends", Some(body)).await;
        assert_eq!(code, 200, "{answer}");
    }
    c_grows(&proxy).await;
}

#[tokio::test]
async fn a_backend_that_was_down_starts_slowly() {
    let [a, b, c] = echoes().await;
    let probes = "health = { type = 'tcp', interval = '50ms', rise = 1, fall = 1 }";
    let proxy = Proxy::start(site(&[&a, &b, &c]).upstream(probes)).await;
    let address = c.stop().await;
    proxy.log.wait("backend is down", &[("backend", "c")]).await;
    the_first_are_grown().await;
    assert!(!shares(&proxy).await.contains_key("c"));
    let _c = Echo::start_on("c", &address).await;
    proxy.log.wait("backend is up", &[("backend", "c")]).await;
    c_grows(&proxy).await;
}
