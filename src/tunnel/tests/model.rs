//! Random lives of tunnels over streams in memory that behave as badly as
//! streams may.

use std::io::ErrorKind;

use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use super::lives::{Account, BOUND, Case, Event, Peer, QUIET, Witness, answer, case, cases, check};
use super::wire::{Far, wire};
use super::*;
use crate::ws::frame::FrameCursor;

/// One peer while it lives.
struct Actor {
    side: Side,
    script: Vec<u8>,
    far: Far,
    polite: bool,
    closed: bool,
    /// Of what has reached it, and of what it has sent.
    told: Follower,
    said: Follower,
}

/// Reads what grows, each byte once.
#[derive(Default)]
struct Follower {
    cursor: FrameCursor,
    read: usize,
}

impl Follower {
    fn follow(&mut self, all: &[u8]) -> &FrameCursor {
        self.cursor.advance(&all[self.read..]);
        self.read = all.len();
        &self.cursor
    }
}

impl Actor {
    fn send(&mut self, bytes: u16) {
        let bytes = usize::from(bytes).min(self.script.len());
        if !self.closed {
            self.far
                .send(&self.script.drain(..bytes).collect::<Vec<_>>());
        }
    }

    /// Answers a Close frame between its own messages, and an end of stream.
    fn react(&mut self) {
        if !self.polite {
            return;
        }
        let inner = self.far.look();
        let told = self.told.follow(&inner.seen).close();
        let sent = self.said.follow(&inner.sent);
        let (said, at_boundary) = (sent.close().is_some(), sent.at_message_boundary());
        let shut = inner.shut;
        drop(inner);
        if told.is_some() && at_boundary && !said && !self.closed {
            self.far.send(answer(self.side));
            self.closed = true;
        }
        let server_is_done = self.side == Side::Backend && told.is_some() && (said || self.closed);
        if shut || server_is_done {
            self.closed = true;
            self.far.end();
        }
    }
}

impl Actor {
    fn witness(&self) -> Witness {
        let inner = self.far.look();
        assert!(inner.dropped);
        Witness {
            side: self.side,
            sent: inner.sent.clone(),
            seen: inner.seen.clone(),
            cut: Vec::new(),
            shut: inner.shut,
            polite: self.polite,
        }
    }
}

/// How one life goes.
struct Life {
    client: Actor,
    backend: Actor,
    tunnel: Arc<Tunnel>,
    order: Arc<CloseOrder>,
    /// When it was ordered to close, and what had passed each way.
    ordered: Option<(Instant, [u64; 2])>,
    /// Whether a stall or a reset may have cost bytes.
    interfered: bool,
}

impl Life {
    fn of(&mut self, side: Side) -> &mut Actor {
        match side {
            Side::Client => &mut self.client,
            _ => &mut self.backend,
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Send(side, bytes) => self.of(side).send(bytes),
            Event::End(side) => self.of(side).far.end(),
            Event::Break(side) => {
                self.interfered = true;
                self.of(side).far.break_off(ErrorKind::ConnectionReset);
            }
            Event::Stall(side, stalled) => {
                self.interfered |= stalled;
                self.of(side).far.stall(stalled);
            }
            Event::Order => self.give_order(),
        }
    }

    fn give_order(&mut self) {
        if self.tunnel.close(Arc::clone(&self.order)) {
            let passed = [self.tunnel.bytes_in(), self.tunnel.bytes_out()];
            self.ordered = Some((Instant::now(), passed));
        }
    }

    /// Plays the events until the tunnel has ended; orders it to close if
    /// nobody else ends it.
    async fn play<T>(&mut self, events: &[(u64, Event)], task: &JoinHandle<T>) {
        let start = Instant::now();
        let mut events = events.iter().peekable();
        let mut last = start;
        while !task.is_finished() {
            let now = Instant::now();
            while let Some((_, event)) =
                events.next_if(|(at, _)| start + Duration::from_millis(*at) <= now)
            {
                last = now;
                self.apply(*event);
            }
            self.client.react();
            self.backend.react();
            if events.peek().is_none()
                && last.elapsed() > QUIET
                && self.tunnel.state() == State::Open
            {
                self.give_order();
            }
            assert!(
                start.elapsed() < Duration::from_secs(3) + QUIET + BOUND,
                "never ended"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn actor(side: Side, peer: &Peer, far: Far, read_ahead: bool) -> (Actor, Bytes) {
    let mut script = peer.script.concat();
    let ahead = if read_ahead { script.len().min(20) } else { 0 };
    let ahead: Bytes = script.drain(..ahead).collect();
    far.look().sent.extend(ahead.iter());
    let actor = Actor {
        side,
        script,
        far,
        polite: peer.polite,
        closed: false,
        told: Follower::default(),
        said: Follower::default(),
    };
    (actor, ahead)
}

async fn live(case: &Case) -> Account {
    let start = Instant::now();
    let registry = registry();
    let (near_client, far_client) = wire(case.client.chaos.clone());
    let (near_backend, far_backend) = wire(case.backend.chaos.clone());
    let (client, ahead_in) = actor(Side::Client, &case.client, far_client, case.read_ahead);
    let (backend, ahead_out) = actor(Side::Backend, &case.backend, far_backend, case.read_ahead);
    let mut options = options(case.framing);
    options.close.codes = codes(case.close_code);
    let ticket = registry.open(facts(1), &options);
    let mut life = Life {
        client,
        backend,
        tunnel: Arc::clone(ticket.tunnel()),
        order: Arc::new(drain(case.close_code)),
        ordered: None,
        interfered: false,
    };
    let client_leg = Leg {
        stream: near_client,
        read_ahead: ahead_in,
    };
    let backend_leg = Leg {
        stream: near_backend,
        read_ahead: ahead_out,
    };
    let relay = relay(client_leg, backend_leg, ticket);
    let task = tokio::spawn(async move { (relay.await, Instant::now()) });
    life.play(&case.events, &task).await;
    let (outcome, ended) = task.await.unwrap();
    assert!(registry.is_empty());
    Account {
        client: life.client.witness(),
        backend: life.backend.witness(),
        ordered: life.ordered.map(|(at, passed)| (at - start, passed)),
        ended: ended - start,
        interfered: life.interfered,
        outcome,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300), ..ProptestConfig::default() })]
    #[test]
    fn every_life_keeps_the_rules(case in case()) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        check(&case, &runtime.block_on(live(&case)))?;
    }
}
