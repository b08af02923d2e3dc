//! Random lives of tunnels over bad streams, against what must hold for each:
//! nothing lost, doubled, reordered or changed; a Close of longhaul's own only
//! between messages, masked as it must be; and an end within its bounds.

use std::io::ErrorKind;

use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use super::wire::{Chaos, Far, wire};
use super::*;
use crate::ws::frame::FrameCursor;

#[derive(Clone, Debug)]
struct Case {
    framing: Framing,
    client: Peer,
    backend: Peer,
    events: Vec<(u64, Event)>,
    close_code: Option<u16>,
    read_ahead: bool,
}

#[derive(Clone, Debug)]
struct Peer {
    /// What it sends, in frames unless it sends garbage.
    script: Vec<Vec<u8>>,
    chaos: Chaos,
    /// Whether it answers a Close frame and an end of stream.
    polite: bool,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The next bytes of the script: whole frames and a half, or so.
    Send(Side, u16),
    End(Side),
    Break(Side),
    Stall(Side, bool),
    Order,
}

/// The time after the last event in which nobody ends anything.
const QUIET: Duration = Duration::from_secs(1);
/// Half-close or close, linger, and the coarseness of the clock.
const BOUND: Duration = Duration::from_secs(30 + 1 + 1);

fn cases() -> u32 {
    let given = std::env::var("PROPTEST_CASES").ok();
    given.and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

fn frame(masked: bool) -> impl Strategy<Value = Vec<u8>> {
    let data = (
        prop_oneof![Just(1u8), Just(2), Just(0)],
        prop::bool::weighted(0.7),
        prop_oneof![0usize..30, 100usize..300],
    )
        .prop_map(|(opcode, fin, length)| (opcode | if fin { 0x80 } else { 0 }, length));
    let control = (
        prop_oneof![4 => Just(0x89u8), 4 => Just(0x8a), 1 => Just(0x88)],
        0usize..=125,
    );
    (
        prop_oneof![5 => data, 2 => control],
        any::<[u8; 4]>(),
        any::<u8>(),
    )
        .prop_map(move |((first, length), key, fill)| {
            let mask = if masked { 0x80 } else { 0 };
            let mut bytes = vec![first];
            if length < 126 {
                bytes.push(mask | length as u8);
            } else {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            if masked {
                bytes.extend(key);
            }
            bytes.extend((0..length).map(|i| fill.wrapping_add(i as u8)));
            bytes
        })
}

fn peer(masked: bool) -> impl Strategy<Value = Peer> {
    let garbage = prop::collection::vec(any::<u8>(), 1..100);
    let part = prop_oneof![40 => frame(masked).boxed(), 1 => garbage.boxed()];
    let chaos = (
        any::<u64>(),
        prop_oneof![Just(0.0), Just(0.3), Just(0.7)],
        prop_oneof![Just(1usize), Just(7), Just(40_000)],
        any::<bool>(),
    )
        .prop_map(|(seed, pending, most, buffered)| Chaos {
            seed,
            pending,
            most,
            buffered,
        });
    (
        prop::collection::vec(part, 0..20),
        chaos,
        prop::bool::weighted(0.7),
    )
        .prop_map(|(script, chaos, polite)| Peer {
            script,
            chaos,
            polite,
        })
}

fn event() -> impl Strategy<Value = Event> {
    let side = prop_oneof![Just(Side::Client), Just(Side::Backend)];
    prop_oneof![
        12 => (side.clone(), 1u16..600).prop_map(|(side, bytes)| Event::Send(side, bytes)),
        1 => side.clone().prop_map(Event::End),
        1 => side.clone().prop_map(Event::Break),
        2 => (side, any::<bool>()).prop_map(|(side, stalled)| Event::Stall(side, stalled)),
        1 => Just(Event::Order),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let framing = prop_oneof![4 => Just(Framing::WebSocket), 1 => Just(Framing::Opaque)];
    let code = prop_oneof![3 => Just(Some(1012)), 1 => Just(None)];
    let events = prop::collection::vec((0u64..2000, event()), 0..30);
    (
        framing,
        peer(true),
        peer(false),
        events,
        code,
        any::<bool>(),
    )
        .prop_map(
            |(framing, client, backend, mut events, close_code, read_ahead)| {
                events.sort_by_key(|(at, _)| *at);
                Case {
                    framing,
                    client,
                    backend,
                    events,
                    close_code,
                    read_ahead,
                }
            },
        )
}

/// One peer while it lives.
struct Actor {
    side: Side,
    script: Vec<u8>,
    far: Far,
    polite: bool,
    closed: bool,
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
        let (told, at_boundary) = (
            cursor(&inner.seen).close(),
            cursor(&inner.sent).at_message_boundary(),
        );
        let shut = inner.shut;
        let said = cursor(&inner.sent).close().is_some();
        drop(inner);
        if told.is_some() && at_boundary && !said && !self.closed {
            self.far.send(if self.side == Side::Client {
                &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4]
            } else {
                &[0x88, 0x02, 0x03, 0xf4]
            });
            self.closed = true;
        }
        let server_is_done = self.side == Side::Backend && told.is_some() && (said || self.closed);
        if shut || server_is_done {
            self.closed = true;
            self.far.end();
        }
    }
}

fn cursor(bytes: &[u8]) -> FrameCursor {
    let mut cursor = FrameCursor::new();
    cursor.advance(bytes);
    cursor
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
    };
    (actor, ahead)
}

async fn live(case: &Case) -> (Life, Outcome, Instant) {
    let registry = registry();
    let (near_client, far_client) = wire(case.client.chaos.clone());
    let (near_backend, far_backend) = wire(case.backend.chaos.clone());
    let (client, ahead_in) = actor(Side::Client, &case.client, far_client, case.read_ahead);
    let (backend, ahead_out) = actor(Side::Backend, &case.backend, far_backend, case.read_ahead);
    let mut options = options(case.framing);
    options.close.code = case.close_code;
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
    (life, outcome, ended)
}

/// What one side saw of what the other sent: how many bytes were forwarded,
/// and whether a Close of longhaul's own came behind them. `None`: neither.
fn explain(case: &Case, from: &Actor, to: &Actor) -> Option<(usize, bool)> {
    let (sent, seen) = (&from.far.look().sent, &to.far.look().seen);
    if sent.starts_with(seen) {
        return Some((seen.len(), false));
    }
    let code = case
        .close_code
        .filter(|_| case.framing == Framing::WebSocket)?;
    let length = if to.side == Side::Backend { 11 } else { 7 };
    let forwarded = seen.len().checked_sub(length)?;
    let (prefix, close) = seen.split_at(forwarded);
    let at = cursor(prefix);
    let masked = close[1] & 0x80 != 0;
    let whole = cursor(close);
    let right = sent.starts_with(prefix)
        && at.at_message_boundary()
        && at.close().is_none()
        && masked == (to.side == Side::Backend)
        && whole.at_frame_boundary()
        && whole.close()?.code == Some(code);
    right.then_some((forwarded, true))
}

fn check(case: &Case, life: &Life, outcome: &Outcome, ended: Instant) -> Result<(), TestCaseError> {
    let Life {
        client, backend, ..
    } = life;
    let pairs = [
        (client, backend, outcome.bytes_in, outcome.messages_in),
        (backend, client, outcome.bytes_out, outcome.messages_out),
    ];
    for (from, to, bytes, messages) in pairs {
        let sent = from.far.look().sent.clone();
        let explained = explain(case, from, to);
        // Half of our own Close may be under way when time is over.
        if !life.interfered {
            prop_assert!(explained.is_some(), "{:?} saw what was not sent", to.side);
        }
        let expected = match case.framing {
            Framing::WebSocket => cursor(&sent[..bytes as usize]).messages(),
            Framing::Opaque => 0,
        };
        prop_assert_eq!(messages, expected);
        if let Some((forwarded, injected)) = explained {
            prop_assert!(forwarded as u64 <= bytes);
            if !life.interfered {
                prop_assert_eq!(forwarded as u64, bytes, "accepted but not delivered");
            }
            if injected {
                let passed =
                    life.ordered.unwrap().1[usize::from(from.side == Side::Backend)] as usize;
                let mut first = cursor(&sent[..passed]);
                let more = first.advance_to_message_boundary(&sent[passed..]);
                prop_assert_eq!(forwarded, passed + more, "not the first boundary");
            }
        }
        if life.ordered.is_none() && !life.interfered && outcome.cause == Cause::Eof {
            prop_assert_eq!(bytes as usize, sent.len(), "lost without a reason");
            prop_assert!(to.far.look().shut, "the end was not passed on");
        }
        prop_assert!(to.far.look().dropped);
    }
    if let (Some((at, _)), Framing::WebSocket) = (life.ordered, case.framing) {
        let bound = Duration::from_secs(5 + 1) + Duration::from_millis(500);
        prop_assert!(ended - at <= bound, "took {:?} after the order", ended - at);
        let answered = [client, backend]
            .iter()
            .all(|actor| actor.polite && cursor(&actor.far.look().sent).at_message_boundary());
        if answered && !life.interfered {
            prop_assert!(
                ended - at < Duration::from_secs(2),
                "polite peers, yet {:?}",
                ended - at
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]
    #[test]
    fn every_life_keeps_the_rules(case in case()) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (life, outcome, ended) = runtime.block_on(live(&case));
        check(&case, &life, &outcome, ended)?;
    }
}
