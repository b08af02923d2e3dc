//! `longhaul top`: what the dashboard shows, in a terminal.
//!
//! One thread asks longhaul, two wait for signals and for the terminal to go, and this one draws and hears
//! keys; so a question that takes long keeps nobody from leaving.
//!
//! Invariant: the terminal is as it was before, whichever way this ends: by a key,
//! a signal, an error or a panic.

mod asker;
mod keys;
mod screen;
mod sums;
mod view;

use std::io::{self, IsTerminal};
use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::signal::unix::{SignalKind, signal};

use self::asker::{Order, Told};
use self::keys::Next;
use self::screen::Screen;
use super::api::meant;
use super::args::TopArguments;
use super::asked;
use crate::admin::Endpoint;

/// How soon what was told is drawn.
const DRAW: Duration = Duration::from_millis(100);
/// Within which `top` ends by itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// Told and not yet drawn; whoever tells more waits.
const WAITING: usize = 8;

pub fn top(arguments: &TopArguments) -> anyhow::Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("`longhaul top` needs a terminal; `longhaul status` prints what is once");
    }
    let api = meant(&arguments.socket)?;
    // What is wrong is said before the screen is taken.
    let status = asked(&api, api.get(Endpoint::Status.path()))?;
    let (telling, told) = sync_channel(WAITING);
    let (ordering, orders) = sync_channel(WAITING);
    let stops = telling.clone();
    thread::spawn(move || asker::run(&api, &orders, &telling));
    let mut terminal = ratatui::try_init().context("the terminal")?;
    let hung_up = stops.clone();
    thread::spawn(move || leave_when(until_signalled, &stops));
    thread::spawn(move || leave_when(until_hung_up, &hung_up));
    let _restored = Restored;
    let screen = Screen::new(&status["asked_by"]);
    let ended = drawn(&mut terminal, screen, &told, &ordering);
    // Otherwise its end would say so where nobody is left to read it, which panics.
    if terminal.show_cursor().is_err() {
        mem::forget(terminal);
    }
    ended
}

/// Gives the terminal back; a panic's hook does so before its message as well.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        // Somebody may have closed it.
        let _ = ratatui::try_restore();
    }
}

/// Until somebody wants to leave.
fn drawn(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    told: &Receiver<Told>,
    ordering: &SyncSender<Order>,
) -> anyhow::Result<()> {
    loop {
        for told in told.try_iter() {
            if matches!(told, Told::Stop) {
                return Ok(());
            }
            screen.hear(told);
        }
        terminal.draw(|frame| view::draw(frame, &mut screen))?;
        if !event::poll(DRAW)? {
            continue;
        }
        let Event::Key(key) = event::read()? else {
            continue;
        };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match screen.key(key) {
            Next::Stay => {}
            Next::Leave => return Ok(()),
            // Too many at once are not heard, and said so.
            Next::Order(order) => {
                if ordering.try_send(order).is_err() {
                    "still busy with what was asked before".clone_into(&mut screen.message);
                }
            }
        }
    }
}

/// Has `top` end once it must. crossterm reads a terminal that has gone for ever and
/// hears nothing meanwhile: whoever has not ended soon is ended.
fn leave_when(must: fn() -> io::Result<()>, stops: &SyncSender<Told>) {
    if must().is_err() {
        return;
    }
    // Nobody hears it once all is over.
    let _ = stops.try_send(Told::Stop);
    thread::sleep(PATIENCE);
    let _ = ratatui::try_restore();
    std::process::exit(0);
}

/// Until the process is told to end.
fn until_signalled() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let mut end = signal(SignalKind::terminate())?;
        let mut gone = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = end.recv() => {}
            _ = gone.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

/// Until nobody is at the other end of the terminal. Whose controlling terminal it is
/// not gets no signal.
fn until_hung_up() -> io::Result<()> {
    let stdin = io::stdin();
    loop {
        // The kernel tells of a hang-up unasked (poll(2)).
        let mut terminal = [PollFd::new(&stdin, PollFlags::empty())];
        match poll(&mut terminal, None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
