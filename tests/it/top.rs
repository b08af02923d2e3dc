//! `longhaul top` at a terminal: what it shows, what its keys do, and how it leaves.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use tokio::sync::watch;

use crate::kit::{Echo, Proxy, Setup, Site, longhaul, nobody, soon};
use crate::terminal::terminal;

const ROWS: u16 = 24;
const COLUMNS: u16 = 80;
const TAKES: &str = "\u{1b}[?1049h";
const GIVES_BACK: &str = "\u{1b}[?1049l";
const CURSOR: &str = "\u{1b}[?25h";

/// A terminal with `longhaul top` at it.
struct Top {
    child: Child,
    keys: File,
    screen: watch::Receiver<Screen>,
    /// The program's end, to see in which mode it is.
    program: File,
    before: Termios,
}

/// What stands on a screen: as much of a terminal as `top` asks for.
#[derive(Clone, Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    at: (usize, usize),
    raw: String,
}

impl Screen {
    fn new() -> Self {
        Self {
            rows: vec![vec![' '; COLUMNS.into()]; ROWS.into()],
            ..Self::default()
        }
    }

    /// All that was shown so far, from the beginning: a sequence may come in parts.
    fn of(raw: &[u8]) -> Self {
        let mut screen = Self::new();
        screen.raw = String::from_utf8_lossy(raw).into_owned();
        let text = screen.raw.clone();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\u{1b}' => screen.command(&mut rest),
                c if c.is_control() => {}
                c => screen.put(c),
            }
        }
        screen
    }

    fn put(&mut self, c: char) {
        let (row, column) = self.at;
        if let Some(cell) = self.rows.get_mut(row).and_then(|row| row.get_mut(column)) {
            *cell = c;
        }
        self.at.1 += 1;
    }

    /// `CSI parameters letter`; nothing else is sent.
    fn command(&mut self, rest: &mut impl Iterator<Item = char>) {
        if rest.next() != Some('[') {
            return;
        }
        let mut parameters = String::new();
        for c in rest {
            if !c.is_ascii_alphabetic() {
                parameters.push(c);
                continue;
            }
            let mut numbers = parameters
                .split(';')
                .map(|it| it.parse::<usize>().unwrap_or(1));
            match c {
                'H' => {
                    let mut next = || numbers.next().unwrap_or(1) - 1;
                    self.at = (next(), next());
                }
                'J' => self.rows = Self::new().rows,
                _ => {}
            }
            return;
        }
    }

    fn text(&self) -> String {
        let rows = self.rows.iter().map(|row| row.iter().collect::<String>());
        rows.collect::<Vec<_>>().join("\n")
    }
}

impl Top {
    fn start(words: &[&str]) -> Self {
        let (person, program) = terminal();
        let size = Winsize {
            ws_row: ROWS,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&program, size).expect("to set its size");
        let before = tcgetattr(&program).expect("its mode");
        Self {
            child: run(words, &program),
            keys: person.try_clone().expect("another handle"),
            screen: followed(person),
            program,
            before,
        }
    }

    fn at(proxy: &Proxy) -> Self {
        let socket = proxy.path("admin.sock");
        Self::start(&["--admin", &socket.display().to_string()])
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("to press keys");
    }

    /// Until all of this stands on the screen.
    async fn shows(&mut self, texts: &[&str]) {
        let screen = self.screen.clone();
        let shown = self.screen.wait_for(|screen| {
            let text = screen.text();
            texts.iter().all(|it| text.contains(it))
        });
        let what = format!("{texts:?} on the screen");
        let waits = async { shown.await.map(drop) };
        if tokio::time::timeout(std::time::Duration::from_secs(15), waits)
            .await
            .is_err()
        {
            panic!("{what}:\n{}", screen.borrow().text());
        }
    }

    /// How it ended, once the terminal is what it was before.
    async fn left(mut self) -> ExitStatus {
        let ended = tokio::task::spawn_blocking(move || self.child.wait());
        let status = soon("its end", ended)
            .await
            .expect("to wait")
            .expect("to wait");
        // Each is a write of its own, and comes when whoever reads the terminal has read it.
        let all = |it: &Screen| it.raw.contains(CURSOR) && it.raw.contains(GIVES_BACK);
        soon("the last that was shown", self.screen.wait_for(all))
            .await
            .map(drop)
            .expect("a cursor again");
        let raw = self.screen.borrow().raw.clone();
        let (takes, back) = (raw.rfind(TAKES), raw.rfind(GIVES_BACK));
        assert!(takes.is_some() && back > takes, "{raw:?}");
        let after = tcgetattr(&self.program).expect("its mode");
        let modes = |it: &Termios| (it.input_modes, it.output_modes, it.local_modes);
        assert_eq!(modes(&after), modes(&self.before));
        status
    }
}

fn run(words: &[&str], program: &File) -> Child {
    let end = || Stdio::from(program.try_clone().expect("another handle"));
    longhaul()
        .arg("top")
        .args(words)
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .expect("to run longhaul")
}

/// What a person sees, as it changes.
fn followed(mut person: File) -> watch::Receiver<Screen> {
    let (sender, receiver) = watch::channel(Screen::new());
    thread::spawn(move || {
        let (mut raw, mut part) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = person.read(&mut part) {
            raw.extend_from_slice(&part[..read]);
            if sender.send(Screen::of(&raw)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Over HTTP/1.1 alone: it is about what the command shows and does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_what_is_and_asks_before_it_closes_or_drains() {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let site = Site::of(&[a.entry(), b.entry()])
        .upstream("balance = 'round_robin'\ndrain = { window = '0s' }");
    let proxy = Proxy::start(site).await;
    let mut tunnels = Vec::new();
    for path in ["/room-1", "/room-2"] {
        let mut ws = proxy.ws(path).await;
        ws.greeting().await;
        tunnels.push(ws);
    }
    let mut top = Top::at(&proxy);
    top.shows(&["tunnels 2", "app", "up", "1 backends", "d drain"])
        .await;

    top.press("2");
    top.shows(&["/room-1", "/room-2", "2 of 2, by oldest"])
        .await;
    top.press("/ROOM-2\r");
    top.shows(&["1 of 1", "with \"ROOM-2\""]).await;
    top.press("x");
    top.shows(&["close tunnel", "y: yes"]).await;
    top.press("n");
    top.shows(&["nothing was done"]).await;
    tunnels[1].echo("still here").await;
    top.press("xy");
    top.shows(&["is told to close", "0 of 0"]).await;
    assert_eq!(tunnels.pop().expect("a tunnel").closed().await, Some(1012));
    proxy
        .log
        .wait("operator action", &[("action", "close")])
        .await;
    top.press("/\u{1b}");
    top.shows(&["1 of 1"]).await;

    top.press("1");
    if proxy.tunnels_of("a").await == 0 {
        top.press("j");
    }
    top.press("dy");
    top.shows(&["is draining", "draining"]).await;
    assert_eq!(tunnels.pop().expect("a tunnel").closed().await, Some(1012));
    top.press("3");
    top.shows(&["drain", "operator", "127.0.0.1"]).await;
    top.press("4");
    top.shows(&["in force", "listener \"main\" added"]).await;
    top.press("q");
    assert!(top.left().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_terminal_is_what_it_was_whichever_way_it_ends() {
    let proxy = Proxy::start(Site::one(&nobody().await)).await;
    for end in ["q", "\u{3}", "\u{1b}", "terminate", "hang up"] {
        let mut top = Top::at(&proxy);
        top.shows(&["generation 1"]).await;
        let kill = |signal| kill_process(Pid::from_child(&top.child), signal).expect("a signal");
        match end {
            "terminate" => kill(Signal::TERM),
            "hang up" => kill(Signal::HUP),
            keys => top.press(keys),
        }
        assert!(top.left().await.success(), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_backends_are_whole_or_show_their_ends() {
    let nobody = nobody().await;
    let (whole, long) = (
        "a-backend-of-22-columns",
        "one-of-which-there-is-no-end-but-7",
    );
    for (name, shown) in [(whole, whole), (long, "…hich-there-is-no-end-but-7")] {
        let proxy = Proxy::start(Site::of(&[(name, &nobody)])).await;
        let mut top = Top::at(&proxy);
        top.shows(&["app", shown, "stalled"]).await;
        top.press("q");
        assert!(top.left().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longhaul_that_goes_away_is_told_and_not_waited_for() {
    let proxy = Proxy::start(Site::one(&nobody().await)).await;
    let mut top = Top::at(&proxy);
    top.shows(&["generation 1"]).await;
    proxy.terminate();
    top.shows(&["does not answer"]).await;
    top.press("q");
    assert!(top.left().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_read_is_told_so() {
    use std::os::unix::fs::PermissionsExt;
    let setup = Setup::new();
    let token = setup.write("token", "a-token-that-only-reads");
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).expect("its mode");
    let admin =
        "[admin]\nsocket = 'admin.sock'\nlisten = '127.0.0.1:0'\nread_token_file = 'token'\n";
    let proxy = setup.start(Site::one(&nobody().await).more(admin)).await;
    let status = proxy.status().await;
    let url = format!(
        "http://{}",
        status["admin_listen"].as_str().expect("an address")
    );
    let token = token.display().to_string();
    let mut top = Top::start(&["--admin", &url, "--token-file", &token]);
    top.shows(&["generation 1", "app"]).await;
    top.press("d");
    top.shows(&["read_token_file may only read"]).await;
    top.press("q");
    assert!(top.left().await.success());
    // Without the token the screen is not even taken.
    let mut top = Top::start(&["--admin", &url]);
    top.shows(&["Authorization: Bearer"]).await;
    let status = top.child.wait().expect("to wait");
    assert_eq!(status.code(), Some(1));
    assert!(!top.screen.borrow().raw.contains(TAKES));
}

#[tokio::test]
async fn where_there_is_no_terminal_it_says_what_to_do_instead() {
    let proxy = Proxy::start(Site::one(&nobody().await)).await;
    let output = longhaul()
        .args(["top", "--admin"])
        .arg(proxy.path("admin.sock"))
        .output()
        .expect("to run longhaul");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("longhaul status"), "{said}");
    assert!(output.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_when_its_terminal_has_gone() {
    let proxy = Proxy::start(Site::one(&nobody().await)).await;
    let socket = proxy.path("admin.sock").display().to_string();
    let (mut person, program) = terminal();
    let mut child = run(&["--admin", &socket], &program);
    drop(program);
    let ended = tokio::task::spawn_blocking(move || {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(TAKES) {
            let mut part = [0; 4096];
            let read = person.read(&mut part).expect("a screen");
            seen.extend_from_slice(&part[..read]);
        }
        // The only handle of who sits there.
        drop(person);
        child.wait()
    });
    // Nobody reads any more how it went.
    let status = soon("its end", ended).await.expect("to wait");
    let code = status.expect("to wait").code();
    assert!(
        matches!(code, Some(0 | 1)),
        "neither a signal nor a panic: {code:?}"
    );
}
