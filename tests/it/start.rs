//! The command line: help, version, completions, man page, check, exit codes, readiness.

use std::process::Output;

use crate::kit::{Echo, Proxy, Setup, Site, longhaul};

fn run(arguments: &[&str]) -> Output {
    longhaul()
        .args(arguments)
        .output()
        .expect("to run longhaul")
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8 on standard output")
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8 on standard error")
}

/// A config that listens nowhere fixed and needs no backend to be there.
fn valid() -> String {
    Site::one("127.0.0.1:9").to_string()
}

#[test]
fn help_names_every_command_and_gives_examples() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for word in [
        "run",
        "check",
        "demo",
        "completions",
        "man",
        "longhaul run --config",
    ] {
        assert!(out(&output).contains(word), "{word} in {}", out(&output));
    }
    assert!(
        out(&output).to_lowercase().contains("examples"),
        "{}",
        out(&output)
    );
}

#[test]
fn every_command_has_help() {
    for command in ["run", "check", "demo", "completions", "man"] {
        let output = run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(
            out(&output).contains("Usage:"),
            "{command}: {}",
            out(&output)
        );
    }
}

#[test]
fn version_is_the_packages() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(out(&output).starts_with(concat!("longhaul ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        for word in ["longhaul", "check", "demo"] {
            assert!(out(&output).contains(word), "{word} in {shell}");
        }
    }
}

#[test]
fn the_man_page_is_roff() {
    let output = run(&["man"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        out(&output)
            .lines()
            .any(|line| line.starts_with(".TH longhaul"))
    );
    assert!(out(&output).contains("check"));
}

#[test]
fn bad_usage_is_exit_code_2() {
    let bad: [&[&str]; 6] = [
        &[],
        &["fly"],
        &["run"],
        &["run", "--confg", "x"],
        &["check"],
        &["completions", "csh"],
    ];
    for arguments in bad {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_config_that_is_not_there_is_exit_code_2_and_named() {
    for arguments in [
        &["run", "--config", "/no/such.toml"][..],
        &["check", "/no/such.toml"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(err(&output).contains("/no/such.toml"), "{}", err(&output));
    }
}

#[test]
fn check_accepts_what_run_would() {
    let setup = Setup::new();
    let path = setup.write("longhaul.toml", valid());
    let output = run(&["check", path.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}

/// Three mistakes, each at its place: line and column of the thing itself.
const THREE_MISTAKES: &str = r#"[listeners.main]
address = "127.0.0.1:0"
adress = "typo"

[[routes]]
upstream = "ap"

[upstreams.app]
balance = "hsh"
backends = [{ name = "a", address = "127.0.0.1:9" }]
"#;

#[test]
fn check_and_run_report_every_mistake_at_its_place() {
    let setup = Setup::new();
    let path = setup.write("longhaul.toml", THREE_MISTAKES);
    let path = path.to_str().expect("UTF-8");
    for arguments in [&["check", path][..], &["run", "--config", path]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = format!("{}{}", out(&output), err(&output));
        for place in [
            "longhaul.toml:3:1",
            "longhaul.toml:6:12",
            "longhaul.toml:9:11",
        ] {
            assert!(text.contains(place), "{place} in {text}");
        }
        for words in ["adress", "address", "`ap`", "app", "hsh", "hash"] {
            assert!(text.contains(words), "{words} in {text}");
        }
    }
}

#[test]
fn a_mistake_in_an_included_file_names_that_file() {
    let setup = Setup::new();
    let config = format!("include = [\"routes.d/*.toml\"]\n{}", valid());
    let path = setup.write("longhaul.toml", config);
    setup.write(
        "routes.d/bad.toml",
        "[[routes]]\nhost = \"a\"\nupstrem = \"app\"\n",
    );
    let output = run(&["check", path.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("bad.toml:3:1"), "{}", err(&output));
    assert!(
        err(&output).contains("upstream"),
        "the nearest key: {}",
        err(&output)
    );
}

/// Each config is wrong in one way that a reader of the whole file can see.
const WRONG: &[(&str, &str)] = &[
    (
        "no listeners",
        "[[routes]]\nupstream='a'\n[upstreams.a]\nbackends=[{name='x',address='h:1'}]",
    ),
    ("no routes", "[listeners.l]\naddress='127.0.0.1:0'"),
    ("not TOML", "[listeners"),
    ("empty", ""),
];

#[test]
fn configs_that_cannot_work_are_refused() {
    let setup = Setup::new();
    for (what, text) in WRONG {
        let path = setup.write("longhaul.toml", text);
        let output = run(&["check", path.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(2), "{what}");
        assert!(
            err(&output).contains("longhaul.toml"),
            "{what}: {}",
            err(&output)
        );
    }
}

#[test]
fn wrong_values_are_refused() {
    let site = || Site::one("127.0.0.1:9");
    let wrong = [
        (
            "no such upstream",
            site().more("[[routes]]\nhost = 'x'\nupstream = 'nowhere'"),
        ),
        (
            "no backends",
            site().more("[upstreams.empty]\nbackends = []"),
        ),
        (
            "the same route twice",
            site().more("[[routes]]\nupstream = 'app'\npath = '/*'"),
        ),
        (
            "the same address twice",
            Site::one("127.0.0.1:9")
                .listener("address = '127.0.0.1:9999'")
                .more("[listeners.two]\naddress = '127.0.0.1:9999'"),
        ),
        (
            "client certificates without TLS",
            site().listener("client_certificates = { ca = 'x' }"),
        ),
        (
            "redirect with certificates",
            site()
                .listener("redirect_to_https = true\ncertificates = [{ chain = 'c', key = 'k' }]"),
        ),
        ("h2c", site().route("upgrades = ['h2c']")),
        ("connect", site().route("upgrades = ['connect']")),
        (
            "weight 0",
            site().more("[upstreams.w]\nbackends = [{ name = 'a', address = 'h:1', weight = 0 }]"),
        ),
        (
            "a backend name twice",
            site().more(
                "[upstreams.w]\nbackends = [{name='a',address='h:1'},{name='a',address='h:2'}]",
            ),
        ),
        (
            "a code that may not be sent",
            site().more("[drain]\nclose_code = 1006"),
        ),
        (
            "a duration without unit",
            site().route("idle_timeout = '10'"),
        ),
        (
            "a size without unit",
            site().more("[limits]\nmax_request_head = '32'"),
        ),
        (
            "jitter above one",
            site().route("max_lifetime_jitter = 1.5"),
        ),
        (
            "tls to an http backend",
            site().upstream("tls = { server_name = 'x' }"),
        ),
        (
            "an unknown sticky source",
            site().upstream("sticky = ['cokie:sid']"),
        ),
        ("a path without slash", site().route("path = 'ws'")),
        (
            "not a CIDR",
            site().top("trusted_proxies = ['10.0.0.0/33']"),
        ),
    ];
    let setup = Setup::new();
    for (what, config) in wrong {
        let path = setup.write("longhaul.toml", config.to_string());
        let output = run(&["check", path.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(2), "{what}: {}", out(&output));
        assert!(
            err(&output).contains("longhaul.toml:"),
            "{what}: {}",
            err(&output)
        );
    }
}

#[test]
fn check_finds_certificates_that_are_not_there() {
    let setup = Setup::new();
    let config = Site::one("127.0.0.1:9").listener("certificates = [{chain='c.pem',key='k.pem'}]");
    let path = setup.write("longhaul.toml", config.to_string());
    let output = run(&["check", path.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("c.pem"), "{}", err(&output));
}

#[test]
fn explain_shows_route_key_backend_and_head() {
    let setup = Setup::new();
    let config = Site::of(&[("a", "127.0.0.1:9"), ("b", "127.0.0.1:10")])
        .route("name = 'chat'\nhost = 'chat.example.com'\npath = '/ws/*'")
        .upstream("sticky = ['query:room', 'client_ip']");
    let path = setup.write("longhaul.toml", config.to_string());
    let path = path.to_str().expect("UTF-8");
    let explain = |url: &str| {
        run(&[
            "check",
            path,
            "--explain",
            url,
            "--header",
            "x-test: 1",
            "--client",
            "192.0.2.7",
        ])
    };

    let output = explain("ws://chat.example.com/ws/1?room=7");
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    for words in [
        "chat",
        "query:room",
        "GET /ws/1?room=7 HTTP/1.1",
        "x-test: 1",
        "192.0.2.7",
    ] {
        assert!(
            text.to_lowercase().contains(&words.to_lowercase()),
            "{words} in {text}"
        );
    }
    assert!(
        text.contains("127.0.0.1:9") || text.contains("127.0.0.1:10"),
        "{text}"
    );
    assert_eq!(
        out(&explain("ws://chat.example.com/ws/1?room=7")),
        text,
        "always the same"
    );

    let output = explain("http://other.example.com/");
    assert!(out(&output).contains("404"), "{}", out(&output));
}

#[tokio::test]
async fn ready_means_bound_and_routable() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address())).await;
    assert_eq!(proxy.get("/").await.text(), "a");
    let status = proxy.status().await;
    assert_eq!(status["pid"].as_i64(), Some(proxy.pid().into()));
    assert_eq!(status["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(status["generation"].as_u64(), Some(1));
    assert_eq!(status["tunnels"].as_u64(), Some(0));
}

#[tokio::test]
async fn an_address_in_use_is_exit_code_1_and_its_listener_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let site = Site::one("127.0.0.1:9").listener(&format!("address = '{address}'"));
    let proxy = Setup::new().launch(site).await;
    assert_eq!(proxy.exit().await.code(), Some(1));
    proxy
        .log
        .wait_for(|event| event.line.contains("listener \"main\" cannot be bound"))
        .await;
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let backend = Echo::start("a").await;
    let setup = Setup::new().after("ulimit -S -n 256");
    let proxy = setup.start(Site::one(backend.address())).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.pid())).expect("limits");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("a line");
    let numbers: Vec<&str> = line
        .split_whitespace()
        .filter(|word| word.parse::<u64>().is_ok())
        .collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    assert_ne!(numbers[0], "256");
}
