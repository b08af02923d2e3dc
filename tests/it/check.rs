//! `check` finds what a reload would find, in the same words, and nothing else.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Output;

use crate::kit::{Echo, Proxy, Setup, Site, longhaul};

fn check(proxy: &Proxy) -> Output {
    let mut command = longhaul();
    command.arg("check").arg(proxy.config_path());
    command.output().expect("to check")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// A site whose text differs for every `n` and which does the same.
fn variant(backend: &Echo, n: usize) -> Site {
    Site::one(backend.address()).route(&format!("response_timeout = '{}s'", 100 + n))
}

/// Has each of these written, refused, and found by `check`; gives what was said.
async fn all_refused(proxy: &Proxy, wrong: impl IntoIterator<Item = Site>) -> Vec<String> {
    let mut said = Vec::new();
    for config in wrong {
        let event = proxy.refuse(&config).await;
        let output = check(proxy);
        assert_eq!(output.status.code(), Some(2), "{config}\n{}", event.line);
        let findings = event.text("findings");
        assert!(!findings.is_empty(), "{}", event.line);
        let found = text(&output.stderr);
        for line in findings.lines() {
            assert!(found.contains(line.trim()), "{line} in {found}");
        }
        said.push(findings.to_owned());
    }
    said
}

#[tokio::test]
async fn check_finds_everything_that_a_reload_would() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(variant(&backend, 0)).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address));
    let (_taken, address) = taken.expect("an address");
    let site = |n| variant(&backend, n);
    let two = |address: &str| format!("[listeners.two]\naddress = '{address}'\n");
    let missing = "certificates = [{ chain = 'none.pem', key = 'none.key' }]";
    // Files that are in a socket's way, one of them a socket that is in use.
    let (file, live) = (proxy.write("file.sock", "text"), proxy.path("live.sock"));
    let _live = UnixListener::bind(&live).expect("a socket");
    let unix = |path: &std::path::Path| two(&format!("unix:{}", path.display()));
    let wrong = [
        site(1).route("idle_timout = '1s'"),
        site(2).upstream("balance = 'hsh'").route("path = 'x'"),
        site(3).more(&format!("{}{missing}", two("127.0.0.1:0"))),
        site(4).more(&two("192.0.2.1:1")),
        site(5).more(&two("unix:/no/such/directory/front.sock")),
        site(6).more("[[routes]]\nhost = 'x'\nupstream = 'nowhere'"),
        // Mistakes of every kind at once.
        site(7)
            .route("idle_timout = '1s'")
            .more(&format!("{}{missing}", two("192.0.2.1:1"))),
        site(8).more(&two(&address.to_string())),
        site(9).more(&two(&format!("0.0.0.0:{}", address.port()))),
        site(10).more(&unix(&file)),
        site(11).more(&unix(&live)),
        site(12).more(&unix(&file.join("below-a-file.sock"))),
        // Two of its own that exclude each other.
        site(13)
            .more(&two("127.0.0.1:64999"))
            .more("[listeners.three]\naddress = '0.0.0.0:64999'\n"),
    ];
    all_refused(&proxy, wrong).await;
}

#[tokio::test]
async fn addresses_are_judged_although_a_certificate_is_wrong() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(variant(&backend, 0)).await;
    let both = variant(&backend, 1).more(
        "[listeners.two]\naddress = '192.0.2.1:1'\n\
         certificates = [{ chain = 'none.pem', key = 'none.key' }]",
    );
    let said = all_refused(&proxy, [both]).await;
    for words in [
        "none.pem",
        "listener \"two\" cannot be bound to 192.0.2.1:1",
    ] {
        assert!(said[0].contains(words), "{words} in {}", said[0]);
    }
}

#[tokio::test]
async fn what_the_running_process_holds_is_its_own() {
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    let socket = format!("unix:{}", setup.path("front.sock").display());
    let local = format!("[listeners.local]\naddress = '{socket}'\n");
    let site = || Site::one(backend.address()).more(&local);
    let proxy = setup.start(site()).await;
    let main = proxy.address("main").await;
    let port = main.rsplit_once(':').expect("host:port").1;
    for address in [&main, &format!("0.0.0.0:{port}"), &format!("[::]:{port}")] {
        proxy.edit(site().listener(&format!("address = '{address}'")));
        let output = check(&proxy);
        assert!(
            output.status.success(),
            "{address}: {}",
            text(&output.stderr)
        );
        assert!(
            !text(&output.stdout).contains("warning"),
            "{}",
            text(&output.stdout)
        );
    }
    // Without it, the port is free and the socket file stale.
    proxy.signal(rustix::process::Signal::KILL);
    proxy.exit().await;
    assert!(check(&proxy).status.success());
    let _taken = std::net::TcpListener::bind(&main).expect("the port");
    assert_eq!(check(&proxy).status.code(), Some(2));
}

/// As root, `check` may bind ports that the running process may not.
#[tokio::test]
async fn a_port_that_only_the_checker_may_bind_is_found() {
    let backend = Echo::start("a").await;
    let mut setup = Setup::new();
    if rustix::process::geteuid().is_root() {
        let bounded = "set -- setpriv --bounding-set -net_bind_service \"$@\"";
        setup = setup.after(bounded);
    }
    let proxy = setup.start(variant(&backend, 0)).await;
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u16 = first.expect("a setting").trim().parse().expect("a number");
    let privileged = variant(&backend, 1).more("[listeners.two]\naddress = '127.0.0.1:7'\n");
    if first > 7 {
        all_refused(&proxy, [privileged]).await;
    } else {
        // On this machine anybody may.
        proxy.reload(&privileged).await;
        assert!(check(&proxy).status.success());
    }
}

#[test]
fn a_port_in_use_is_a_doubt_where_the_process_cannot_be_asked() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let site = Site::one("127.0.0.1:9").listener(&format!("address = '{address}'"));
    let setup = Setup::new();
    let path = setup.write("longhaul.toml", site.to_string());
    let check = || {
        longhaul()
            .arg("check")
            .arg(&path)
            .output()
            .expect("to check")
    };
    // Nobody runs this file.
    assert_eq!(check().status.code(), Some(2));
    // Something does, and has no admin socket.
    let program = setup.path("longhaul");
    std::os::unix::fs::symlink("/bin/sh", &program).expect("a link");
    let mut running = std::process::Command::new(&program);
    running
        .args(["-c", "read x; :", "run", "--config"])
        .arg(&path);
    let mut running = running
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("to run");
    let output = check();
    running.kill().expect("to kill");
    running.wait().expect("its end");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.contains("warning") && said.contains("could not be asked"),
        "{said}"
    );
}

#[test]
fn the_admin_socket_is_looked_at_too_and_placed() {
    let setup = Setup::new();
    let (file, live) = (setup.write("file", "text"), setup.path("live.sock"));
    let _live = UnixListener::bind(&live).expect("a socket");
    let sockets = [
        ("/no/such/directory/admin.sock", "No such file"),
        (file.to_str().expect("UTF-8"), "in use"),
    ];
    for (socket, reason) in sockets {
        let admin = format!("[admin]\nsocket = '{socket}'\n");
        let site = Site::one("127.0.0.1:9").more(&admin).to_string();
        let line = 1 + site[..site.find("socket =").expect("the key")]
            .matches('\n')
            .count();
        let path = setup.write("longhaul.toml", site);
        let output = longhaul()
            .arg("check")
            .arg(&path)
            .output()
            .expect("to check");
        assert_eq!(output.status.code(), Some(2), "{socket}");
        let said = text(&output.stderr);
        assert!(
            said.contains(&format!("longhaul.toml:{line}:1: the admin socket")),
            "{said}"
        );
        assert!(said.contains(reason), "{said}");
    }
}

#[tokio::test]
async fn clients_that_no_limit_counts_are_warned_about() {
    let setup = Setup::new();
    let file = setup.path("public.sock");
    let site = Site::one("127.0.0.1:1")
        .route("max_tunnels_per_client = 5")
        .more(&format!(
            "[listeners.file]\naddress = 'unix:{}'\n",
            file.display()
        ));
    let proxy = setup.start(&site).await;
    let output = check(&proxy);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let wanted = "limits for each client, as route `* /*` has them, count nobody who comes by \
                  listener `file`, a Unix socket";
    assert!(said.contains(wanted), "{said}");
    proxy
        .reload(site.top("trusted_proxies = ['127.0.0.1']"))
        .await;
    let output = check(&proxy);
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("count nobody"), "{said}");
}
