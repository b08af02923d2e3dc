//! Pings of longhaul's own: at every point of a script they go in between two
//! frames, their answers are taken out, and a side that is silent is given up.
//! Under both engines, over TLS and from clients that speak HTTP/2, by splice and
//! by copies.
//!
//! `sockets` has them in its random lives.

use super::super::direction::Way;
use super::super::pulse::Pulse;
use super::ground::Ground;
use super::lives::{answer, cursor};
use super::points::{BACKEND, CLIENT, Scene, on_grounds, said, script};
use super::rig::Engines;
use super::strainer::pong;
use super::*;

pub(super) const PING: [u8; 10] = *b"\x89\x08longhaul";
pub(super) const SIDES: [Side; 2] = [Side::Client, Side::Backend];

fn only(side: usize) -> PingSide {
    [PingSide::Client, PingSide::Backend][side]
}

/// Where taking bytes is no sign of life, because none ever wait.
fn on_roomy_grounds(options: impl Fn(usize) -> Options, scene: impl Fn(Scene, usize, usize)) {
    let ground = |tcp, pipes| Ground::narrow(tcp, pipes).roomy();
    on_grounds(ground, &[false, true], options, scene);
}

/// Bytes of a ping to a side.
fn size(side: usize) -> usize {
    if side == BACKEND { 14 } else { 10 }
}

/// The places in `bytes` where no frame is open.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let is_one = |at: &usize| cursor(&bytes[..*at]).at_frame_boundary();
    (0..=bytes.len()).filter(is_one).collect()
}

/// Passes the time of silence: pings are due, and have gone out.
pub(super) fn fall_silent(scene: &mut Scene) {
    scene.rig.registry.pass(INTERVAL + 1);
    scene.settle();
}

pub(super) fn time_out(scene: &mut Scene) {
    scene.rig.registry.pass(TIMEOUT + 1);
    scene.settle();
}

#[test]
fn a_ping_goes_in_at_the_first_frame_boundary_and_its_answer_goes_nowhere() {
    // The pinged side is the other than the one that sends the script.
    let options = |side: usize| with_pings(only(1 - side));
    on_roomy_grounds(options, |mut scene, side, point| {
        let (sent, other) = (script(side == CLIENT), 1 - side);
        scene.send(side, &sent[..point]);
        fall_silent(&mut scene);
        scene.send(side, &sent[point..]);
        let at = boundaries(&sent).into_iter().find(|at| *at >= point);
        let at = at.unwrap();
        let seen = &scene.far[other].seen;
        let (ping, rest) = seen[at..].split_at(size(other));
        assert_eq!(said(other, ping), PING, "due at {point}");
        assert!(seen[..at] == sent[..at] && rest == &sent[at..]);

        // The answer, at one of the places where it may be.
        let back = script(other == CLIENT);
        let places = boundaries(&back);
        let place = places[point % places.len()];
        for part in [&back[..place], &pong(SIDES[other]), &back[place..]] {
            scene.send(other, part);
        }
        assert!(scene.far[side].seen == back, "with an answer at {place}");
        time_out(&mut scene);
        let tunnel = &scene.rig.tunnel;
        let mut passed = [sent.len() as u64, back.len() as u64];
        passed.rotate_left(side);
        assert_eq!([tunnel.bytes_in(), tunnel.bytes_out()], passed);
        assert_eq!(tunnel.messages_in() + tunnel.messages_out(), 8);
        assert_eq!(tunnel.state(), State::Open);
    });
}

#[test]
fn a_side_that_is_silent_after_a_ping_is_given_up_at_every_point() {
    // The script comes from the side that then hangs.
    let options = |side: usize| with_pings(only(side));
    on_roomy_grounds(options, |mut scene, side, point| {
        let (sent, other) = (script(side == CLIENT), 1 - side);
        scene.send(side, &sent[..point]);
        fall_silent(&mut scene);
        assert_eq!(said(side, &scene.far[side].seen), PING);
        scene.rig.registry.pass(TIMEOUT);
        scene.settle();
        assert_eq!(scene.rig.tunnel.state(), State::Open, "too early");
        scene.rig.registry.pass(1);
        scene.settle();
        let (passed, close) = scene.far[other].seen.split_at(point);
        assert_eq!(passed, &sent[..point]);
        if cursor(&sent[..point]).at_message_boundary() {
            let code: u16 = if side == BACKEND { 1011 } else { 1001 };
            let close = said(other, close);
            assert_eq!((close[0], &close[2..4]), (0x88, &code.to_be_bytes()[..]));
            scene.send(other, answer(SIDES[other]));
        } else {
            assert!(close.is_empty() && scene.far[other].ended);
        }
        scene.end(other);
        let outcome = scene.outcome();
        let end = (outcome.ended_by, outcome.cause);
        assert_eq!(end, (SIDES[side], Cause::PingTimeout));
        scene.await_end(side);
        assert_eq!(scene.far[side].reset, scene.is_reset_possible(side));
        assert!(scene.far[other].ended);
        assert_eq!(scene.far[other].reset, scene.is_severed(other));
        assert_eq!(outcome.bytes_in + outcome.bytes_out, point as u64);
    });
}

/// Each engine, over Unix sockets.
pub(super) fn each(options: &Options, scene: impl Fn(Scene)) {
    for engine in [Engines::Own, Engines::Tokio, Engines::Tls, Engines::Http2] {
        scene(Scene::new(engine, Ground::narrow(false, None), options));
    }
}

#[test]
fn a_single_byte_is_a_sign_of_life_and_who_talks_is_not_pinged() {
    each(&with_pings(PingSide::Both), |mut scene| {
        for byte in script(true) {
            // Both are silent but for this byte: the backend answers.
            scene.send(CLIENT, &[byte]);
            scene.rig.registry.pass(INTERVAL - 1);
            scene.settle();
            scene.send(BACKEND, &pong(Side::Backend));
        }
        assert!(scene.far[CLIENT].seen.is_empty());
        assert_eq!(scene.rig.tunnel.state(), State::Open);
        // Now the client is silent, and after its ping says one byte.
        fall_silent(&mut scene);
        assert_eq!(scene.far[CLIENT].seen, PING);
        scene.send(CLIENT, &[0x81]);
        scene.send(BACKEND, &pong(Side::Backend));
        time_out(&mut scene);
        assert_eq!(scene.rig.tunnel.state(), State::Open);
        // A late answer is one, and it is the last that is heard.
        fall_silent(&mut scene);
        time_out(&mut scene);
        assert_eq!(scene.rig.tunnel.standing(), State::Closing);
    });
}

#[test]
fn pings_and_pongs_of_the_peers_pass() {
    let frames: [&[u8]; 6] = [
        b"\x89\x08longhaul",
        b"\x8a\x08longhaux",
        b"\x8a\x00",
        b"\x8a\x07longhau",
        b"\x8a\x0alonghaul..",
        b"\xca\x08longhaul",
    ];
    each(&with_pings(PingSide::Both), |mut scene| {
        scene.send(BACKEND, &frames.concat());
        assert_eq!(scene.far[CLIENT].seen, frames.concat());
        // Nor is a half of what might be an answer kept when the stream ends.
        scene.send(BACKEND, b"\x8a\x08long");
        assert_eq!(scene.far[CLIENT].seen, frames.concat());
        scene.end(BACKEND);
        assert!(scene.far[CLIENT].seen.ends_with(b"\x8a\x08long"));
        scene.end(CLIENT);
        let passed = frames.concat().len() + 6;
        assert_eq!(scene.outcome().bytes_out, passed as u64);
    });
}

#[test]
fn a_tunnel_in_which_only_pings_are_answered_is_idle() {
    let mut options = with_pings(PingSide::Both);
    options.clocks.idle_timeout = Some(Duration::from_secs(10));
    each(&options, |mut scene| {
        let mut pings = 0;
        while scene.rig.tunnel.state() == State::Open {
            scene.rig.registry.pass(1);
            scene.settle();
            let seen = std::mem::take(&mut scene.far[CLIENT].seen);
            if seen == PING {
                pings += 1;
                for side in [CLIENT, BACKEND] {
                    scene.send(side, &pong(SIDES[side]));
                }
            }
        }
        assert_eq!(pings, 3);
        let order = scene.rig.tunnel.order().unwrap();
        assert_eq!(order.cause, Cause::IdleTimeout);
        assert_eq!(scene.rig.tunnel.bytes_in(), 0);
    });
}

#[test]
fn an_order_in_the_middle_of_an_answer_finds_the_close_behind_it() {
    each(&with_pings(PingSide::Both), |mut scene| {
        fall_silent(&mut scene);
        let answers = [Side::Client, Side::Backend].map(pong);
        for side in [CLIENT, BACKEND] {
            scene.send(side, &answers[side][..5]);
        }
        assert!(scene.rig.tunnel.close(Arc::new(drain(Some(1012)))));
        scene.settle();
        for side in [BACKEND, CLIENT] {
            scene.send(side, &answers[side][5..]);
            scene.send(side, answer(SIDES[side]));
            scene.end(side);
        }
        let outcome = scene.outcome();
        let codes = (outcome.client_close_code, outcome.backend_close_code);
        assert_eq!(codes, (Some(1012), Some(1012)));
        assert_eq!(outcome.cause, Cause::Drain);
        assert_eq!(outcome.bytes_in + outcome.bytes_out, 0);
    });
}

/// A pulse of the client whose ping is due, and the time.
fn due() -> (Pulse, u32) {
    let mut pulse = Pulse::new(&with_pings(PingSide::Client), 0).unwrap();
    assert_eq!(pulse.due(), INTERVAL + 1);
    assert_eq!(pulse.expired(INTERVAL, [false; 2]), None);
    assert!(!pulse.wants_ping(Way::Out));
    assert_eq!(pulse.expired(INTERVAL + 1, [false; 2]), None);
    assert_eq!(Way::BOTH.map(|way| pulse.wants_ping(way)), [false, true]);
    (pulse, INTERVAL + 1)
}

/// Lets a deadline pass; `stuck`: bytes wait for the client, `unheard`: those
/// of the client wait.
fn look(pulse: &mut Pulse, now: &mut u32, stuck: bool, unheard: bool) -> Option<Way> {
    *now += TIMEOUT + 1;
    assert_eq!(pulse.due(), *now);
    pulse.expired(*now, [unheard, stuck])
}

#[test]
fn a_side_that_is_not_read_is_not_held_to_answer() {
    let (mut pulse, mut now) = due();
    pulse.ping(Way::Out, now);
    for _ in 0..5 {
        assert_eq!(look(&mut pulse, &mut now, false, true), None);
    }
    assert_eq!(look(&mut pulse, &mut now, false, false), Some(Way::Out));
    // Unless it takes nothing itself, for then both may wait for ever.
    let (mut pulse, mut now) = due();
    pulse.ping(Way::Out, now);
    assert_eq!(look(&mut pulse, &mut now, true, true), None);
    assert_eq!(look(&mut pulse, &mut now, true, true), Some(Way::Out));
}

#[test]
fn a_ping_that_cannot_go_out_is_no_reason_but_bytes_that_are_not_taken_are() {
    let (mut pulse, mut now) = due();
    for _ in 0..5 {
        assert_eq!(look(&mut pulse, &mut now, false, false), None);
    }
    // They may have begun to wait just now.
    assert_eq!(look(&mut pulse, &mut now, true, false), None);
    assert_eq!(look(&mut pulse, &mut now, false, false), None);
    assert_eq!(look(&mut pulse, &mut now, true, false), None);
    assert_eq!(look(&mut pulse, &mut now, true, false), Some(Way::Out));
    // Some were taken in between: a sign of life, and silence begins anew.
    let (mut pulse, mut now) = due();
    assert_eq!(look(&mut pulse, &mut now, true, false), None);
    pulse.heard(Way::In, now);
    assert!(!pulse.wants_ping(Way::Out));
    assert_eq!(look(&mut pulse, &mut now, true, false), None);
    assert_eq!(pulse.due(), now - (TIMEOUT + 1) + INTERVAL + 1);
}
