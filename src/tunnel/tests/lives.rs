//! What a random life of a tunnel is, and what must hold for each: nothing
//! lost, doubled, reordered or changed; a Close of longhaul's own only between
//! messages, masked as it must be; and an end within its bounds.
//!
//! `model` plays them over bad streams in memory, `sockets` over real sockets
//! under both engines.

use proptest::prelude::*;

use super::wire::Chaos;
use super::*;
use crate::ws::frame::FrameCursor;

/// One life to be played.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) framing: Framing,
    pub(super) client: Peer,
    pub(super) backend: Peer,
    /// By their time in milliseconds.
    pub(super) events: Vec<(u64, Event)>,
    pub(super) close_code: Option<u16>,
    pub(super) read_ahead: bool,
    /// Whom longhaul pings, over real sockets.
    pub(super) pings: Option<PingSide>,
}

#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// What it sends, in frames unless it sends garbage.
    pub(super) script: Vec<Vec<u8>>,
    pub(super) chaos: Chaos,
    /// Whether it answers a Close frame and an end of stream.
    pub(super) polite: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// The next bytes of the script: whole frames and a half, or so.
    Send(Side, u16),
    End(Side),
    Break(Side),
    Stall(Side, bool),
    Order,
}

/// The time after the last event in which nobody ends anything.
pub(super) const QUIET: Duration = Duration::from_secs(1);
/// Half-close or close, linger, and the coarseness of the clock.
pub(super) const BOUND: Duration = Duration::from_secs(30 + 1 + 1);

/// A message that does not fit into what is read at once; under Miri, which takes a
/// thousand times longer for each byte, a short one.
const LONG: usize = if cfg!(miri) { 1_500 } else { 20_000 };

/// How many lives are played: `gate` in the gate, or what `LONGHAUL_CASES` says
/// (`tests/long` has 100,000).
pub(super) fn cases(gate: u32) -> u32 {
    let given = std::env::var("LONGHAUL_CASES").ok();
    given.map_or(gate, |cases| cases.parse().expect("a number of cases"))
}

fn frame(masked: bool) -> impl Strategy<Value = Vec<u8>> {
    let data = (
        prop_oneof![Just(1u8), Just(2), Just(0)],
        prop::bool::weighted(0.7),
        prop_oneof![6 => 0usize..30, 6 => 100usize..300, 1 => 1000usize..LONG],
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
        11 => (side.clone(), 1u16..600).prop_map(|(side, bytes)| Event::Send(side, bytes)),
        1 => (side.clone(), 1000u16..60_000).prop_map(|(side, bytes)| Event::Send(side, bytes)),
        1 => side.clone().prop_map(Event::End),
        1 => side.clone().prop_map(Event::Break),
        2 => (side, any::<bool>()).prop_map(|(side, stalled)| Event::Stall(side, stalled)),
        1 => Just(Event::Order),
    ]
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    let framing = prop_oneof![4 => Just(Framing::WebSocket), 1 => Just(Framing::Opaque)];
    let code = prop_oneof![3 => Just(Some(1012)), 1 => Just(None)];
    let events = prop::collection::vec((0u64..2000, event()), 0..30);
    let pings = prop_oneof![
        Just(None),
        Just(Some(PingSide::Client)),
        Just(Some(PingSide::Backend)),
        Just(Some(PingSide::Both)),
    ];
    (
        framing,
        peer(true),
        peer(false),
        events,
        code,
        any::<bool>(),
        pings,
    )
        .prop_map(
            |(framing, client, backend, mut events, close_code, read_ahead, pings)| {
                events.sort_by_key(|(at, _)| *at);
                Case {
                    framing,
                    client,
                    backend,
                    events,
                    close_code,
                    read_ahead,
                    pings,
                }
            },
        )
}

pub(super) fn cursor(bytes: &[u8]) -> FrameCursor {
    let mut cursor = FrameCursor::new();
    cursor.advance(bytes);
    cursor
}

/// The answer of a peer to a Close frame.
pub(super) fn answer(side: Side) -> &'static [u8] {
    if side == Side::Client {
        &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4]
    } else {
        &[0x88, 0x02, 0x03, 0xf4]
    }
}

/// What a peer has seen and done by the end.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) side: Side,
    /// Everything it sent before it ended or broke.
    pub(super) sent: Vec<u8>,
    /// Everything that reached it, without longhaul's own pings.
    pub(super) seen: Vec<u8>,
    /// Behind that, what the end cut off: the beginning of a frame that may have
    /// become a ping of longhaul's own.
    pub(super) cut: Vec<u8>,
    /// It saw the end of its stream.
    pub(super) shut: bool,
    pub(super) polite: bool,
}

/// A life that is over.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) client: Witness,
    pub(super) backend: Witness,
    /// When it was ordered to close, and what had passed each way.
    pub(super) ordered: Option<(Duration, [u64; 2])>,
    pub(super) ended: Duration,
    /// Whether a stall or a reset may have cost bytes.
    pub(super) interfered: bool,
    pub(super) outcome: Outcome,
}

/// What one side saw of what the other sent: how many bytes were forwarded,
/// and whether a Close of longhaul's own came behind them. `None`: neither.
/// `passed` of them longhaul says it passed on.
fn explain(case: &Case, from: &Witness, to: &Witness, passed: u64) -> Option<(usize, bool)> {
    let (sent, seen) = (&from.sent, &to.seen);
    let whole = [&seen[..], &to.cut].concat();
    if sent.starts_with(&whole) && whole.len() as u64 <= passed {
        return Some((whole.len(), false));
    }
    // Else what was cut off is longhaul's own.
    if sent.starts_with(seen) && (to.cut.is_empty() || case.pings.is_some()) {
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

/// Judges a life.
pub(super) fn check(case: &Case, life: &Account) -> Result<(), TestCaseError> {
    let outcome = &life.outcome;
    let (client, backend) = (&life.client, &life.backend);
    let pairs = [
        (client, backend, outcome.bytes_in, outcome.messages_in),
        (backend, client, outcome.bytes_out, outcome.messages_out),
    ];
    for (from, to, bytes, messages) in pairs {
        let sent = &from.sent;
        let explained = explain(case, from, to, bytes);
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
            // A Close of our own that was cut off can look like more of the same:
            // it begins as the peer's would.
            let ours = || life.interfered && to.seen.get(bytes as usize) == Some(&0x88);
            prop_assert!(forwarded as u64 <= bytes || ours());
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
            prop_assert!(to.shut, "the end was not passed on");
        }
    }
    check_times(case, life)
}

fn check_times(case: &Case, life: &Account) -> Result<(), TestCaseError> {
    let (Some((at, _)), Framing::WebSocket) = (life.ordered, case.framing) else {
        return Ok(());
    };
    let took = life.ended - at;
    let bound = Duration::from_secs(5 + 1) + Duration::from_millis(500);
    prop_assert!(took <= bound, "took {:?} after the order", took);
    let answered = [&life.client, &life.backend]
        .iter()
        .all(|peer| peer.polite && cursor(&peer.sent).at_message_boundary());
    if answered && !life.interfered {
        prop_assert!(took < Duration::from_secs(2), "polite, yet {:?}", took);
    }
    Ok(())
}
