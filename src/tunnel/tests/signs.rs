//! Signs of life: what counts as one when a side is looked at, what it costs to
//! look for them, and what is none.

use tokio::task::yield_now;
use tokio::time::sleep;

use super::super::direction::Way;
use super::super::pulse::Pulse;
use super::super::scratch;
use super::ground::Ground;
use super::pings::{PING, SIDES, each, fall_silent, time_out};
use super::points::{BACKEND, CLIENT, Scene};
use super::rig::Engines;
use super::strainer::pong;
use super::wire::{Chaos, Far, wire};
use super::*;

/// The header of a frame from the backend that never ends: no ping goes in.
const OPEN_FRAME: [u8; 10] = [0x82, 127, 0, 0, 0, 0, 0xff, 0, 0, 0];

#[test]
fn an_answer_that_came_while_the_process_stood_still_is_heard() {
    each(&with_pings(PingSide::Both), |mut scene| {
        fall_silent(&mut scene);
        for side in [CLIENT, BACKEND] {
            assert!(scene.put(side, &pong(SIDES[side])));
        }
        time_out(&mut scene);
        assert_eq!(scene.rig.tunnel.standing(), State::Open);
        fall_silent(&mut scene);
        time_out(&mut scene);
        assert_eq!(scene.rig.tunnel.standing(), State::Closing);
    });
}

/// A kernel tells of room only when much of its buffer is free.
#[test]
fn a_reader_that_makes_a_little_room_lives_until_it_stops() {
    let narrow = Ground::narrow(false, None);
    for (engine, ground, some) in [
        (Engines::Own, narrow, 1),
        (Engines::Tokio, narrow, 1),
        // What its far end reads at once, and less than its kernel holds.
        (Engines::Tls, narrow.broad(), 1000),
    ] {
        let mut scene = Scene::new(engine, ground, &with_pings(PingSide::Client));
        scene.far[CLIENT].takes = 0;
        assert!(scene.put(BACKEND, &OPEN_FRAME));
        scene.fill(BACKEND);
        for _ in 0..10 {
            scene.far[CLIENT].takes = some;
            scene.settle();
            scene.rig.registry.pass(TIMEOUT + 1);
            scene.settle();
            assert_eq!(scene.rig.tunnel.standing(), State::Open, "{engine:?}");
        }
        for _ in 0..10 {
            time_out(&mut scene);
        }
        assert_eq!(scene.rig.tunnel.standing(), State::Closing, "{engine:?}");
        let cause = scene.rig.tunnel.order().map(|order| order.cause);
        assert_eq!(cause, Some(Cause::PingTimeout));
    }
}

#[test]
fn a_reader_that_takes_what_its_tls_had_waiting_lives() {
    for engine in [Engines::Own, Engines::Tokio, Engines::Tls] {
        let ground = Ground::narrow(false, None).broad();
        let mut scene = Scene::new(engine, ground, &with_pings(PingSide::Client));
        scene.send(BACKEND, &OPEN_FRAME);
        for _ in 0..10 {
            // More than the kernel holds of it, and less than a session of TLS.
            scene.far[CLIENT].takes = 0;
            for _ in 0..100 {
                scene.put(BACKEND, &[0x55; 200]);
                scene.settle();
            }
            scene.rig.registry.pass(TIMEOUT + 1);
            scene.settle();
            assert_eq!(scene.rig.tunnel.standing(), State::Open, "{engine:?}");
            scene.far[CLIENT].takes = usize::MAX;
            scene.settle();
        }
    }
}

/// A tunnel over streams in memory, and their far ends.
async fn open(options: &Options) -> (Arc<Registry>, Arc<Tunnel>, [Far; 2], JoinHandle<Outcome>) {
    let registry = registry();
    let (near_client, client) = wire(Chaos::none());
    let (near_backend, backend) = wire(Chaos::none());
    let (tunnel, task) = start(&registry, options, near_client, near_backend);
    yield_now().await;
    (registry, tunnel, [client, backend], task)
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pongs_costs_no_write_for_each() {
    let (_registry, tunnel, [client, backend], _task) = open(&with_pings(PingSide::Both)).await;
    let flood = b"\x8a\x80key.".repeat(20_000);
    let answers = [&pong(Side::Client)[..], b"\x89\x80key."].concat();
    for (sent, least) in [(flood, 20_000 * 6), (answers.repeat(5000), 5000 * 6)] {
        let before = tunnel.bytes_in();
        let count = sent.len();
        client.send(&sent);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(tunnel.bytes_in() - before, least);
        // Reads and writes are of random length.
        let writes = std::mem::take(&mut backend.look().writes);
        assert!(writes < 100 * (1 + count / scratch::SIZE), "{writes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_behind_a_frame_that_could_not_be_written_is_noted() {
    for pings in [None, Some(PingSide::Both)] {
        let options = pings.map_or_else(|| options(Framing::WebSocket), with_pings);
        let (_registry, _tunnel, [client, backend], task) = open(&options).await;
        backend.break_off(std::io::ErrorKind::BrokenPipe);
        client.send(b"\x81\x81key.!\x8a\x80key.\x88\x82\0\0\0\0\x03\xe8");
        client.end();
        let outcome = task.await.unwrap();
        assert_eq!(outcome.client_close_code, Some(1000), "{pings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_waited_for_room_is_no_byte_that_has_passed() {
    let (registry, tunnel, [client, _backend], _task) = open(&with_pings(PingSide::Client)).await;
    client.stall(true);
    sleep(Duration::from_millis(3700)).await;
    client.stall(false);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(client.look().seen, PING);
    let (_, outward) = registry.idle(&tunnel);
    assert!(outward.as_secs_f64() > 3.5, "{outward:?}");
    assert_eq!(tunnel.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn no_ping_goes_behind_bytes_that_wait() {
    let (_registry, tunnel, [client, backend], _task) = open(&with_pings(PingSide::Client)).await;
    client.stall(true);
    backend.send(b"\x81\x02hi");
    for _ in 0..10 {
        sleep(Duration::from_millis(3700)).await;
        client.send(b"\x8a\x80key.");
    }
    assert_eq!(tunnel.standing(), State::Open);
    client.stall(false);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(client.look().seen, b"\x81\x02hi");
}

#[test]
fn of_two_sides_that_take_nothing_it_is_the_client() {
    let mut pulse = Pulse::new(&with_pings(PingSide::Both), 0).unwrap();
    let mut now = INTERVAL + 1;
    assert_eq!(pulse.expired(now, [true; 2]), None);
    now += TIMEOUT + 1;
    assert_eq!(pulse.expired(now, [true; 2]), Some(Way::Out));
    // Of one, it is that one.
    for (waiting, way) in [([true, false], Way::In), ([false, true], Way::Out)] {
        let mut pulse = Pulse::new(&with_pings(PingSide::Both), 0).unwrap();
        assert_eq!(pulse.expired(INTERVAL + 1, waiting), None);
        assert_eq!(pulse.expired(now, waiting), Some(way));
    }
}

#[test]
fn many_tunnels_are_looked_at_together() {
    let mut options = with_pings(PingSide::Client);
    for (interval, step) in [(9, 1), (10, 10), (30, 10)] {
        options.clocks.pings = Some(Pings {
            interval: Duration::from_secs(interval),
            timeout: Duration::from_millis(1500),
            side: PingSide::Client,
        });
        let interval = interval as u32 * 10;
        let next = |now: u32, span: u32| (now + span + 1).next_multiple_of(step);
        let mut pulse = Pulse::new(&options, 3).unwrap();
        let quiet = next(3, interval);
        assert_eq!(pulse.due(), quiet);
        pulse.heard(Way::In, 5);
        assert_eq!(pulse.expired(quiet, [false; 2]), None);
        let late = next(5, interval);
        assert_eq!(pulse.expired(late, [false; 2]), None);
        assert_eq!(pulse.due(), next(late, 15));
        pulse.ping(Way::Out, late + 4);
        assert_eq!(pulse.due(), next(late + 4, 15));
    }
}
