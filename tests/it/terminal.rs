//! What a command that waits shows at a terminal, and that it is one plain line elsewhere.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::kit::{Echo, Proxy, Site, longhaul};

/// Both ends of a terminal: the person's, and the program's.
fn terminal() -> (File, File) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&person).expect("to grant it");
    unlockpt(&person).expect("to unlock it");
    let name = ptsname(&person, Vec::new()).expect("its name");
    let program = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
    (person.into(), program.expect("to open it").into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_terminal_a_close_shows_what_is_left_until_none_is() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address())).await;
    for (at_terminal, count) in [(true, 6), (false, 2)] {
        let mut tunnels = Vec::new();
        for _ in 0..count {
            let mut ws = proxy.ws("/").await;
            ws.greeting().await;
            tunnels.push(ws);
        }
        let (mut person, program) = terminal();
        let mut command = longhaul();
        command
            .args(["tunnels", "close", "--all", "--window", "2s", "--admin"])
            .arg(proxy.path("admin.sock"))
            .stdout(Stdio::piped())
            .stderr(match at_terminal {
                true => Stdio::from(program),
                false => Stdio::piped(),
            });
        let child = command.spawn().expect("to run longhaul");
        // The program's end is open in the program alone.
        drop(command);
        let closed = tokio::spawn(async move {
            for ws in tunnels {
                assert_eq!(ws.closed().await, Some(1012));
            }
        });
        let output = tokio::task::spawn_blocking(|| child.wait_with_output());
        let output = output.await.expect("to wait").expect("to wait");
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, format!("{count} tunnels are closed over 2.0 s\n"));
        if at_terminal {
            let mut shown = [0; 4096];
            let read = person.read(&mut shown).expect("what was shown");
            let shown = String::from_utf8_lossy(&shown[..read]).into_owned();
            assert!(shown.contains("\r\u{1b}[K6 left"), "{shown:?}");
            assert!(shown.contains("\r\u{1b}[K0 left\r\n"), "{shown:?}");
        } else {
            assert!(output.stderr.is_empty(), "{output:?}");
        }
        closed.await.expect("to be closed");
    }
}
