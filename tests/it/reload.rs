//! Reload: how edits arrive, what they change, and what they never touch.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use tokio::io::AsyncReadExt;

use crate::kit::{
    Authority, Echo, Event, Opcode, Over, Proxy, RawBackend, Setup, Site, Ws, alone, longhaul,
    over_each, soon,
};

over_each!(
    a_wrong_config_changes_nothing_and_names_every_mistake,
    listeners_come_and_go_and_the_tunnels_of_a_removed_one_live_on,
    a_plain_listener_becomes_tls_at_the_same_address,
    tunnels_of_a_removed_backend_stay_by_default,
    tunnels_of_a_removed_backend_are_drained_if_asked,
);

/// A site whose text differs for every `n` and which does the same.
fn variant(backend: &Echo, n: u64) -> Site {
    Site::one(backend.address()).route(&format!("response_timeout = '{}s'", 100 + n))
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .status()
        .expect("to run a command");
    assert!(status.success(), "{program} {arguments:?}");
}

type Save = fn(&std::path::Path, &str);

/// The ways in which editors and tools replace a file.
const SAVES: &[(&str, Save)] = &[
    ("echo >", |path, text| {
        fs::write(path, text).expect("to write");
    }),
    ("two writes", |path, text| {
        let (one, two) = text.split_at(text.len() / 2);
        let mut file = fs::File::create(path).expect("to open");
        std::io::Write::write_all(&mut file, one.as_bytes()).expect("to write");
        file.sync_all().expect("to sync");
        std::io::Write::write_all(&mut file, two.as_bytes()).expect("to write");
    }),
    ("mv", |path, text| {
        let new = path.with_extension("new");
        fs::write(&new, text).expect("to write");
        run(
            "mv",
            &[new.to_str().expect("UTF-8"), path.to_str().expect("UTF-8")],
        );
    }),
    ("mv from another directory", |path, text| {
        let other = tempfile::tempdir_in(path.parent().expect("a parent")).expect("a directory");
        let new = other.path().join("new");
        fs::write(&new, text).expect("to write");
        fs::rename(&new, path).expect("to rename");
    }),
    ("cp", |path, text| {
        let other = tempfile::NamedTempFile::new().expect("a file");
        fs::write(other.path(), text).expect("to write");
        run(
            "cp",
            &[
                other.path().to_str().expect("UTF-8"),
                path.to_str().expect("UTF-8"),
            ],
        );
    }),
    ("sed -i", |path, text| {
        // Only the number differs from what is there.
        let number = |text: &str| {
            let (_, rest) = text.split_once("response_timeout = '").expect("the line");
            rest.split_once('s').expect("seconds").0.to_owned()
        };
        let old = number(&fs::read_to_string(path).expect("to read"));
        let script = format!("s/'{old}s'/'{}s'/", number(text));
        run("sed", &["-i", &script, path.to_str().expect("UTF-8")]);
    }),
    ("vim", |path, text| {
        let (swap, backup) = (
            path.with_file_name(".longhaul.toml.swp"),
            path.with_extension("toml~"),
        );
        let probe = path.with_file_name("4913");
        fs::write(&swap, "b0VIM").expect("to write");
        fs::write(&probe, "").expect("to write");
        fs::remove_file(&probe).expect("to remove");
        fs::rename(path, &backup).expect("to rename");
        fs::write(path, text).expect("to write");
        fs::remove_file(&backup).expect("to remove");
        fs::remove_file(&swap).expect("to remove");
    }),
    ("emacs, rename to backup", |path, text| {
        fs::rename(path, path.with_extension("toml.bak")).expect("to rename");
        fs::write(path, text).expect("to write");
    }),
    ("rsync", |path, text| {
        let new = path.with_file_name(".longhaul.toml.Xa81bc");
        fs::write(&new, text).expect("to write");
        fs::rename(&new, path).expect("to rename");
    }),
    ("git checkout", |path, text| {
        fs::remove_file(path).expect("to remove");
        fs::write(path, text).expect("to write");
    }),
];

#[tokio::test]
async fn every_way_to_save_is_noticed_once_within_a_second() {
    let _alone = alone().await;
    let backend = Echo::start("a").await;
    let proxy = Setup::new().beside().start(variant(&backend, 0)).await;
    for (n, (what, save)) in (1..).zip(SAVES) {
        let log = proxy.log.tail();
        let text = Proxy::complete(variant(&backend, n));
        let start = Instant::now();
        save(proxy.config_path(), &text);
        let event = log.wait("config reloaded", &[]).await;
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{what}: {:?}",
            start.elapsed()
        );
        assert_eq!(event.number("generation"), n + 1, "{what}");
        assert_eq!(
            fs::read_to_string(proxy.config_path()).expect("to read"),
            text,
            "{what}"
        );
    }
    let reloads = proxy.log.all(|event| event.message == "config reloaded");
    assert_eq!(reloads.len(), SAVES.len());
    let rejected = proxy.log.all(|event| event.message == "config rejected");
    assert_eq!(
        rejected.len(),
        0,
        "half-written files are not judged: {rejected:?}"
    );
    assert_eq!(proxy.get("/").await.text(), "a");
}

#[tokio::test]
async fn kubernetes_link_swap_is_noticed() {
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    let volume = setup.path("volume");
    // A ConfigMap volume: the file is a link through `..data` to a dated directory.
    let put = |version: &str, text: &str| {
        let dir = volume.join(version);
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("routes.toml"), text).expect("to write");
        let new = volume.join("..data_tmp");
        symlink(version, &new).expect("a link");
        fs::rename(&new, volume.join("..data")).expect("to rename");
    };
    let route =
        |path: &str| format!("[[routes]]\nhost = 'k8s'\npath = '{path}'\nupstream = 'app'\n");
    put("..2026_01", &route("/one"));
    symlink("..data/routes.toml", volume.join("routes.toml")).expect("a link");
    let site = Site::one(backend.address())
        .route("host = 'other'")
        .top("include = ['volume/*.toml']");
    let proxy = setup.start(site).await;
    let status = async |path: &str| {
        let mut wire = proxy.connect().await;
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: k8s\r\n\r\n"))
            .await;
        wire.response().await.head.status
    };
    assert_eq!((status("/one").await, status("/two").await), (200, 404));
    for (version, path) in [("..2026_02", "/two"), ("..2026_03", "/three")] {
        let before = proxy.generation().await;
        let log = proxy.log.tail();
        let start = Instant::now();
        put(version, &route(path));
        let event = log.wait("config reloaded", &[]).await;
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(event.number("generation"), before + 1);
        assert_eq!((status("/one").await, status(path).await), (404, 200));
    }
}

#[tokio::test]
async fn the_main_file_may_be_a_link_too() {
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    setup.write("real/longhaul.toml", Proxy::complete(variant(&backend, 0)));
    let proxy = setup.start(variant(&backend, 0)).await;
    // From a file to a link, then a change behind the link.
    let log = proxy.log.tail();
    proxy.write("real/longhaul.toml", Proxy::complete(variant(&backend, 1)));
    fs::remove_file(proxy.config_path()).expect("to remove");
    symlink("real/longhaul.toml", proxy.config_path()).expect("a link");
    log.wait("config reloaded", &[]).await;
    let log = proxy.log.tail();
    proxy.write("real/longhaul.toml", Proxy::complete(variant(&backend, 2)));
    log.wait("config reloaded", &[]).await;
    assert_eq!(proxy.generation().await, 3);
}

#[tokio::test]
async fn included_files_come_change_and_go() {
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    fs::create_dir(setup.path("routes.d")).expect("a directory");
    let site = Site::one(backend.address())
        .route("path = '/main'")
        .top("include = ['routes.d/*.toml']");
    let proxy = setup.start(site).await;
    let route = |path: &str| format!("[[routes]]\npath = '{path}'\nupstream = 'app'\n");
    let status = async |path: &str| proxy.get(path).await.head.status;
    assert_eq!(status("/one").await, 404);

    let log = proxy.log.tail();
    let file = proxy.write("routes.d/a.toml", route("/one"));
    log.wait("config reloaded", &[]).await;
    assert_eq!(status("/one").await, 200);

    let log = proxy.log.tail();
    proxy.write("routes.d/a.toml", route("/two"));
    log.wait("config reloaded", &[]).await;
    assert_eq!((status("/one").await, status("/two").await), (404, 200));

    // What the pattern does not match is nobody's business: the next edit is generation 4.
    proxy.write("routes.d/note.txt", "not a route");
    let log = proxy.log.tail();
    fs::remove_file(file).expect("to remove");
    let event = log.wait("config reloaded", &[]).await;
    assert_eq!(event.number("generation"), 4);
    assert_eq!((status("/two").await, status("/main").await), (404, 200));
}

#[tokio::test]
async fn sighup_does_the_same_and_tells_the_service_manager() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(variant(&backend, 0)).await;
    proxy.signal(Signal::HUP);
    // Nothing was edited: no watch can have done this.
    let start = Instant::now();
    let event = proxy.log.wait("config reloaded", &[]).await;
    assert_eq!(event.number("generation"), 2);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    let message = proxy.notice("RELOADING=1").await;
    let line = message
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    let micros: u64 = line.expect("MONOTONIC_USEC").parse().expect("a number");
    let uptime = fs::read_to_string("/proc/uptime").expect("uptime");
    let uptime: f64 = uptime
        .split(' ')
        .next()
        .expect("a number")
        .parse()
        .expect("a number");
    assert!(
        (micros as f64 / 1e6 - uptime).abs() < 60.0,
        "{micros} against {uptime}"
    );
    proxy.notice("READY=1").await;
    assert!(proxy.running());
    assert_eq!(proxy.get("/").await.text(), "a");
}

#[tokio::test]
async fn a_reload_by_the_watch_tells_the_service_manager_too() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(variant(&backend, 0)).await;
    proxy.edit(variant(&backend, 1));
    proxy.notice("RELOADING=1").await;
    proxy.notice("READY=1").await;
    proxy.log.wait("config reloaded", &[]).await;
    assert_eq!(proxy.generation().await, 2);
}

async fn a_wrong_config_changes_nothing_and_names_every_mistake(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(variant(&backend, 0)).await.over(over);
    let mut ws = proxy.ws("/").await;
    ws.greeting().await;
    let before = proxy.status().await;
    let wrong = Site::one(backend.address())
        .route("idle_timout = '1s'")
        .upstream("balance = 'hsh'\nsticky = 'cokie:x'");
    let event = proxy.refuse(wrong).await;
    for words in [
        "idle_timout",
        "idle_timeout",
        "hsh",
        "hash",
        "cokie:x",
        "longhaul.toml:",
    ] {
        assert!(event.line.contains(words), "{words} in {}", event.line);
    }
    ws.echo("still here").await;
    assert_eq!(proxy.get("/").await.text(), "a");
    let after = proxy.status().await;
    assert_eq!(after["generation"], before["generation"]);
    assert_eq!(after["config_hash"], before["config_hash"]);
    assert_eq!(after["last_reload"]["ok"], false);
    assert!(
        after["last_reload"]["message"]
            .as_str()
            .expect("a message")
            .contains("idle_timout")
    );

    // Empty, and gone: the same.
    proxy.refuse_text("").await;
    let log = proxy.log.tail();
    fs::remove_file(proxy.config_path()).expect("to remove");
    proxy.signal(Signal::HUP);
    log.wait("config rejected", &[]).await;
    assert_eq!(proxy.get("/").await.text(), "a");

    let event = proxy.reload(variant(&backend, 1)).await;
    assert_eq!(event.number("generation"), 2);
    assert_eq!(proxy.status().await["last_reload"]["ok"], true);
}

#[tokio::test]
async fn a_mistake_that_is_taken_back_is_over() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(variant(&backend, 0)).await;
    proxy
        .refuse(variant(&backend, 0).route("idle_timout = '1s'"))
        .await;
    assert_eq!(proxy.status().await["last_reload"]["ok"], false);
    proxy.reload(variant(&backend, 0)).await;
    let status = proxy.status().await;
    assert_eq!(status["last_reload"]["ok"], true);
    assert!(
        !status["last_reload"]["message"]
            .to_string()
            .contains("idle_timout")
    );
    assert_eq!(proxy.get("/").await.text(), "a");
}

#[tokio::test]
async fn the_hash_is_of_the_text_that_is_there() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(variant(&backend, 0)).await;
    let log = proxy.log.tail();
    proxy.edit(format!("# a comment\n{}", variant(&backend, 0)));
    log.wait_for(|event| event.message.starts_with("config "))
        .await;
    let hash = proxy.status().await["config_hash"].clone();
    let check = longhaul()
        .arg("check")
        .arg(proxy.config_path())
        .output()
        .expect("to check");
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        text.contains(hash.as_str().expect("a hash")),
        "{hash} in {text}"
    );
}

#[tokio::test]
async fn what_cannot_be_prepared_changes_nothing() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(variant(&backend, 0)).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address");
    let listener = std::net::TcpListener::bind(taken);
    let cases = [
        variant(&backend, 1).more("[listeners.two]\naddress = '192.0.2.1:1'"),
        variant(&backend, 2).more(
            "[listeners.two]\naddress = '127.0.0.1:0'\n\
             certificates = [{ chain = 'none.pem', key = 'none.key' }]",
        ),
    ];
    for site in cases {
        proxy.refuse(site.route("name = 'new'")).await;
        assert_eq!(proxy.get("/").await.text(), "a");
        assert_eq!(proxy.generation().await, 1);
        let listeners = proxy.status().await["listeners"]
            .as_array()
            .expect("a list")
            .len();
        assert_eq!(listeners, 1);
    }
    drop(listener);
}

#[tokio::test]
async fn everything_changes_without_a_restart() {
    let (one, two) = (Echo::start("one").await, Echo::start("two").await);
    let proxy = Proxy::start(Site::of(&[one.entry()])).await;
    assert_eq!(proxy.get("/").await.text(), "one");

    // Upstream.
    proxy.reload(Site::of(&[two.entry()])).await;
    assert_eq!(proxy.get("/").await.text(), "two");

    // Route.
    proxy
        .reload(Site::of(&[two.entry()]).route("path = '/only'"))
        .await;
    assert_eq!(proxy.get("/").await.head.status, 404);

    // Log settings: off and on, quieter and louder, JSON and text.
    let quiet = "[log]\nformat = 'json'\naccess = false\n";
    proxy.reload(Site::of(&[two.entry()]).more(quiet)).await;
    let log = proxy.log.tail();
    assert_eq!(proxy.get("/quiet").await.text(), "two");
    proxy.reload(Site::of(&[two.entry()])).await;
    proxy.get("/loud").await;
    log.wait("request", &[("path", "/loud")]).await;
    assert_eq!(log.all(|event| event.text("path") == "/quiet").len(), 0);
    let warn = "[log]\nformat = 'json'\nlevel = 'warn'\n";
    let log = proxy.log.tail();
    proxy.edit(Site::of(&[two.entry()]).more(warn));
    soon("the level to change", async {
        while proxy.generation().await != 6 {}
        // Reloads come one after the other: at the second the first is done.
        proxy.edit(Site::of(&[two.entry()]).route("name = 'warned'").more(warn));
        while proxy.generation().await != 7 {}
    })
    .await;
    assert_eq!(proxy.get("/silent").await.text(), "two");
    proxy.reload(Site::of(&[two.entry()])).await;
    assert_eq!(log.all(|event| event.text("path") == "/silent").len(), 0);
    let text = "[log]\nformat = 'text'\n";
    proxy.edit(Site::of(&[two.entry()]).more(text));
    proxy
        .log
        .wait_for(|event| event.level.is_empty() && event.line.contains("reloaded"))
        .await;
    proxy.get("/as-text").await;
    let line = log
        .wait_for(|event| event.line.contains("path=\"/as-text\""))
        .await;
    assert!(line.level.is_empty(), "not JSON: {}", line.line);
    proxy
        .reload(Site::of(&[two.entry()]).route("name = 'json-again'"))
        .await;
    proxy.get("/as-json").await;
    log.wait("request", &[("path", "/as-json")]).await;

    // Limits and trust.
    proxy
        .reload(Site::of(&[two.entry()]).more("[limits]\nmax_request_headers = 2\n"))
        .await;
    assert_eq!(
        proxy
            .get_with("/", "A: 1\r\nB: 2\r\nC: 3\r\n")
            .await
            .head
            .status,
        431
    );
}

async fn listeners_come_and_go_and_the_tunnels_of_a_removed_one_live_on(over: Over) {
    let backend = Echo::start("a").await;
    let second = "[listeners.two]\naddress = '127.0.0.1:0'\n";
    let site = Site::one(backend.address());
    let proxy = Proxy::start(&site).await.over(over);
    let main = proxy.address("main").await;
    proxy.reload(site.clone().more(second)).await;
    let two = proxy.address("two").await;
    assert_eq!(proxy.address("main").await, main, "the port stays");
    let mut ws = Ws::open(proxy.connect_to("two").await, "/", "localhost", "").await;
    assert_eq!(ws.greeting().await, "a");
    let mut idle = proxy.connect_to("two").await;
    idle.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    idle.response().await;

    proxy.reload(&site).await;
    // Who comes before the socket is closed is not served.
    let refused = async {
        while let Ok(mut late) = tokio::net::TcpStream::connect(&two).await {
            let _ = late.read(&mut [0]).await;
        }
    };
    soon("the end of accepting", refused).await;
    ws.echo("lives on").await;
    assert_eq!(proxy.get("/").await.text(), "a");
    // Nothing comes on it any more, so an idle keep-alive connection is closed.
    idle.end().await;
    ws.echo("and on").await;
    ws.close(1000).await;
}

async fn a_plain_listener_becomes_tls_at_the_same_address(over: Over) {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let proxy = setup.start(Site::one(backend.address())).await.over(over);
    let mut plain = proxy.ws("/").await;
    plain.greeting().await;
    let before = proxy.address("main").await;
    proxy.reload(Site::one(backend.address()).tls()).await;
    assert_eq!(proxy.address("main").await, before);
    let wire = proxy.tls(&authority.client(), "localhost").await;
    let mut tls = Ws::open(wire, "/", "localhost", "").await;
    assert_eq!(tls.greeting().await, "a");
    plain.echo("plain lives on").await;
}

/// Over HTTP/1.1 alone: it is about the TLS handshake.
#[tokio::test]
async fn a_certificate_that_came_too_early_is_taken_when_its_time_comes() {
    let backend = Echo::start("a").await;
    let (old, new) = (Authority::new(), Authority::new());
    let setup = Setup::with_pair(&old.pair(&["localhost"]));
    let site = Site::one(backend.address()).tls();
    let proxy = setup.start(site).await;
    let start = SystemTime::now() + Duration::from_secs(5);
    let pair = new.early_pair(&["localhost"], start);
    let log = proxy.log.tail();
    proxy.write("site.pem", &pair.chain);
    proxy.write("site.key", &pair.key);
    let kept = |event: &Event| event.message.contains("is not valid before");
    log.wait_for(kept).await;
    // Nobody touches a file from here on.
    let loaded = |event: &Event| event.text("changes").contains("site.pem loaded");
    log.wait_for(loaded).await;
    let wire = proxy.tls(&new.client(), "localhost").await;
    let mut ws = Ws::open(wire, "/", "localhost", "").await;
    ws.greeting().await;
}

async fn tunnels_of_a_removed_backend_stay_by_default(over: Over) {
    let (one, two) = (Echo::start("one").await, Echo::start("two").await);
    let proxy = Proxy::start(Site::of(&[one.entry()])).await.over(over);
    let mut ws = proxy.ws("/").await;
    assert_eq!(ws.greeting().await, "one");
    proxy.reload(Site::of(&[two.entry()])).await;
    ws.echo("stays").await;
    assert_eq!(proxy.ws("/").await.greeting().await, "two");
    // And when its whole upstream and route go.
    let other = "[[routes]]\nhost = 'x'\nupstream = 'y'\n[upstreams.y]\nbackends = \
                 [{ name = 'y', address = '127.0.0.1:9' }]\n[listeners.main]\naddress = '127.0.0.1:0'\n";
    proxy.reload(other).await;
    ws.echo("still stays").await;
    ws.close(1000).await;
}

async fn tunnels_of_a_removed_backend_are_drained_if_asked(over: Over) {
    let (one, two) = (RawBackend::start().await, Echo::start("two").await);
    let drain = "[drain]\nwindow = '200ms'\n";
    let site = |listed: &[(&str, &str)]| {
        Site::of(listed)
            .upstream("on_removed = 'drain'\nbalance = 'round_robin'")
            .more(drain)
    };
    let both = [("one", one.address()), two.entry()];
    let proxy = Proxy::start(site(&both)).await.over(over);
    let mut client = proxy.connect().await;
    client.send(crate::kit::handshake("/", "h", "")).await;
    // One of the first two handshakes goes to each.
    let mut other = proxy.connect().await;
    other.send(crate::kit::handshake("/", "h", "")).await;
    let mut server = one.accept().await;
    server.request().await;
    server.switch("").await;
    let mut heads = [client.response_head().await, other.response_head().await];
    heads.sort_by_key(|head| head.header("x-backend").is_some());
    assert_eq!(heads.map(|head| head.status), [101, 101]);

    proxy.reload(site(&both[1..])).await;
    let frame = server.frame().await;
    assert_eq!(
        (frame.opcode, frame.close_code()),
        (Opcode::Close, Some(1012))
    );
    drop(server);
    let event = proxy.log.wait("tunnel closed", &[("backend", "one")]).await;
    assert_eq!(
        (event.text("ended_by"), event.text("cause")),
        ("longhaul", "removed")
    );
    assert_eq!(proxy.tunnels_of("two").await, 1);
    assert_eq!(
        proxy
            .log
            .all(|event| event.message == "tunnel closed")
            .len(),
        1
    );
}

/// A CA is not loaded as a pair is: the line says that its file is another.
#[tokio::test]
async fn the_log_names_a_changed_ca_file() {
    let backend = Echo::start("a").await;
    let (servers, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let setup = Setup::with_pair(&servers.pair(&["localhost"]));
    setup.write("clients.pem", old.pem());
    let site = Site::one(backend.address())
        .tls()
        .listener("client_certificates = { ca = 'clients.pem' }");
    let proxy = setup.start(site).await;
    let log = proxy.log.tail();
    proxy.write("clients.pem", new.pem());
    let event = log.wait("config reloaded", &[]).await;
    let file = proxy.path("clients.pem");
    let changes = format!("{} changed", file.display());
    assert_eq!(event.text("changes"), changes);
    let ann = new.client_pair("ann");
    let client = servers.client_with(crate::kit::TlsVersion::V12, Some(&ann));
    assert!(proxy.try_tls(&client, "localhost").await.is_ok());

    // And once only.
    let log = proxy.log.tail();
    proxy.signal(Signal::HUP);
    let event = log.wait("config reloaded", &[]).await;
    assert_eq!(event.text("changes"), "none");
}

#[tokio::test]
async fn the_log_says_what_changed() {
    let (one, two) = (Echo::start("one").await, Echo::start("two").await);
    let proxy = Proxy::start(Site::of(&[one.entry()])).await;
    let more = "[[routes]]\nname = 'extra-route'\nhost = 'x'\nupstream = 'app'\n";
    let event = proxy
        .reload(Site::of(&[one.entry(), two.entry()]).more(more))
        .await;
    assert!(event.line.contains("extra-route"), "{}", event.line);
    assert!(event.line.contains("two"), "{}", event.line);
    let event = proxy.reload(Site::of(&[one.entry(), two.entry()])).await;
    assert!(event.line.contains("extra-route"), "{}", event.line);
}
