//! What a command that waits shows at a terminal, and that it is one plain line elsewhere.

use std::fs::File;
use std::io::Read;
use std::process::{Output, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::task::JoinSet;

use crate::kit::{Echo, Proxy, Site, Ws, longhaul};

/// Both ends of a terminal: the person's, and the program's.
pub fn terminal() -> (File, File) {
    // A program that had the person's end would never see the person leave.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let person = openpt(flags).expect("a terminal");
    grantpt(&person).expect("to grant it");
    unlockpt(&person).expect("to unlock it");
    let name = ptsname(&person, Vec::new()).expect("its name");
    let program = rustix::fs::open(
        name,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    (person.into(), program.expect("to open it").into())
}

/// What a command says to a pipe, and shows at a terminal.
async fn at_a_terminal(proxy: &Proxy, words: &[&str]) -> (String, String) {
    let (person, program) = terminal();
    let output = run(proxy, words, program.into()).await;
    (said(&output), all_of(person))
}

/// What it says where nobody watches; it must show nothing.
async fn elsewhere(proxy: &Proxy, words: &[&str]) -> String {
    let output = run(proxy, words, Stdio::piped()).await;
    assert!(output.stderr.is_empty(), "{output:?}");
    said(&output)
}

async fn run(proxy: &Proxy, words: &[&str], errors: Stdio) -> Output {
    let mut command = longhaul();
    command.args(words).arg("--admin");
    command.arg(proxy.path("admin.sock"));
    let child = command.stdout(Stdio::piped()).stderr(errors).spawn();
    // The program's end is open in the program alone.
    drop(command);
    let child = child.expect("to run longhaul");
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await;
    output.expect("to wait").expect("to wait")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything that was shown; nobody writes any more.
fn all_of(mut person: File) -> String {
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    // The end is an error, once the other side is closed.
    while let Ok(read @ 1..) = person.read(&mut part) {
        all.extend_from_slice(&part[..read]);
    }
    String::from_utf8(all).expect("UTF-8")
}

/// How many are left of `all` by a bar, which is as full as it says.
fn left_of(bar: &str, all: u64) -> u64 {
    let (drawn, said) = bar.split_once("] ").expect("a bar");
    let drawn = drawn.strip_prefix('[').expect("its beginning");
    let full = drawn.trim_end_matches('.');
    assert!(full.chars().all(|it| it == '#'), "{bar:?}");
    let numbers = said.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u64> = numbers.filter_map(|it| it.parse().ok()).collect();
    let [done, of, percent] = numbers[..] else {
        panic!("no three numbers in {bar:?}");
    };
    let share = |whole: u64| (done * whole).checked_div(of).unwrap_or(whole);
    assert_eq!((of, percent), (all, share(100)), "{bar:?}");
    assert_eq!(said, format!("{done} of {of} closed, {percent} %"));
    assert_eq!((full.len() as u64, drawn.len()), (share(30), 30), "{bar:?}");
    of - done
}

/// From `first` down to none, each line over the one before, and never more again.
fn counts_down(shown: &str, first: u64) {
    let lines = shown.strip_suffix("\r\n").expect("an end of the line");
    let parts = lines.split("\r\u{1b}[K").skip(1);
    let left: Vec<u64> = parts.map(|part| left_of(part, first)).collect();
    assert!(
        left.is_sorted_by(|before, after| before >= after),
        "{left:?}"
    );
    assert_eq!(
        (left.first(), left.last()),
        (Some(&first), Some(&0)),
        "{left:?}"
    );
    assert!(left.len() > 2, "only {left:?}");
}

async fn open(proxy: &Proxy, count: usize) -> Vec<Ws> {
    let mut tunnels = Vec::new();
    for _ in 0..count {
        let mut ws = proxy.ws("/").await;
        ws.greeting().await;
        tunnels.push(ws);
    }
    tunnels
}

/// Clients that answer their Close.
fn closing(tunnels: Vec<Ws>) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for ws in tunnels {
        all.spawn(async move { assert_eq!(ws.closed().await, Some(1012)) });
    }
    all
}

/// Over HTTP/1.1 alone: it is about what the command shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_terminal_a_close_shows_what_is_left_until_none_is() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address())).await;
    let words = ["tunnels", "close", "--all", "--window", "2s"];
    let closed = closing(open(&proxy, 6).await);
    let (said, shown) = at_a_terminal(&proxy, &words).await;
    assert_eq!(said, "6 tunnels are closed over 2.0 s\n");
    counts_down(&shown, 6);
    closed.join_all().await;

    let closed = closing(open(&proxy, 2).await);
    let said = elsewhere(&proxy, &words).await;
    assert_eq!(said, "2 tunnels are closed over 2.0 s\n");
    closed.join_all().await;

    let closed = closing(open(&proxy, 1).await);
    let words = [&words[..], &["--no-wait"]].concat();
    let (said, shown) = at_a_terminal(&proxy, &words).await;
    assert_eq!((&*said, &*shown), ("1 tunnels are closed over 2.0 s\n", ""));
    closed.join_all().await;
}

/// Over HTTP/1.1 alone: it is about what the command shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_terminal_a_drain_shows_what_is_left_until_none_is() {
    let backend = Echo::start("a").await;
    let site = Site::one(backend.address()).upstream("drain = { window = '2s' }");
    let proxy = Proxy::start(site).await;
    let words = ["backends", "set", "app", "a", "draining"];
    let line = |count: usize| {
        format!("a is draining, by operator; {count} tunnels are closed over 2.0 s\n")
    };
    let closed = closing(open(&proxy, 6).await);
    let (said, shown) = at_a_terminal(&proxy, &words).await;
    assert_eq!(said, line(6));
    counts_down(&shown, 6);
    assert_eq!(proxy.tunnels_of("a").await, 0);
    closed.join_all().await;
    // There is nothing left to wait for.
    let (said, shown) = at_a_terminal(&proxy, &words).await;
    assert_eq!(said, "a is draining, by operator\n");
    let bar = shown.strip_prefix("\r\u{1b}[K").expect("one line");
    assert_eq!(left_of(bar.trim_end(), 0), 0);

    let back = ["backends", "set", "app", "a", "active"];
    let no_wait = [&words[..], &["--no-wait"]].concat();
    for at_terminal in [true, false] {
        let (said, shown) = at_a_terminal(&proxy, &back).await;
        assert_eq!((&*said, &*shown), ("a is active, by operator\n", ""));
        let closed = closing(open(&proxy, 2).await);
        let (said, shown) = match at_terminal {
            true => at_a_terminal(&proxy, &no_wait).await,
            false => (elsewhere(&proxy, &words).await, String::new()),
        };
        assert_eq!((said, &*shown), (line(2), ""));
        closed.join_all().await;
    }
}

/// Over HTTP/1.1 alone: it is about what the command shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_terminal_a_rebalance_shows_its_plan_and_what_is_left_until_none_is() {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let site =
        |backends: &[(&str, &str)]| Site::of(backends).upstream("balance = 'least_connections'");
    let proxy = Proxy::start(site(&[a.entry()])).await;
    let mut tunnels = open(&proxy, 12).await;
    proxy.reload(site(&[a.entry(), b.entry()])).await;
    let words = ["rebalance", "app", "--to", "0%", "--rate", "4/s"];
    let dry = [&words[..], &["--dry-run"]].concat();
    let (said, shown) = at_a_terminal(&proxy, &dry).await;
    assert!(
        said.ends_with("6 tunnels would be closed over 1.5 s\n"),
        "{said}"
    );
    assert_eq!(shown, "");

    let mut kept = tunnels.split_off(6);
    let closed = closing(tunnels);
    let (said, shown) = at_a_terminal(&proxy, &words).await;
    assert!(
        said.ends_with("6 tunnels are closed over 1.5 s\n"),
        "{said}"
    );
    let cells = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let lines: Vec<_> = said.lines().map(cells).collect();
    assert!(lines.contains(&cells("a 12 6.0 6 0")), "{said}");
    assert!(lines.contains(&cells("b 0 6.0 0 0")), "{said}");
    counts_down(&shown, 6);
    // The oldest went, and nobody else.
    closed.join_all().await;
    for ws in &mut kept {
        ws.echo("still here").await;
    }
    assert_eq!(proxy.tunnels_of("a").await, 6);
}
