//! Random lives of tunnels over real sockets, the same under both engines, and
//! some of them over TLS or from a client of HTTP/2: tiny buffers, writes of one byte, half-close and reset and orders at every point,
//! pipes that are full or not to be had.
//!
//! No time but the registry's passes for a tunnel, and it passes only when
//! nothing happens any more without it: so how fast the machine is makes no
//! difference to a life.

use std::num::NonZero;
use std::thread;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::event::Timespec;

use super::super::engine::testing::lent;
use super::actor::Actor;
use super::ground::{Deliveries, Ground, ground};
use super::lives::{Account, BOUND, Case, Event, QUIET, case, cases, check};
use super::rig::{Engines, Rig};
use super::*;

/// How one life goes.
struct Life {
    client: Actor,
    backend: Actor,
    rig: Rig,
    random: StdRng,
    order: Arc<CloseOrder>,
    /// In ticks of a tenth of a second.
    now: u32,
    ordered: Option<(u32, [u64; 2])>,
    interfered: bool,
    /// Only with TCP on a side.
    deliveries: Option<Deliveries>,
    /// Whether what is written passes in frames of HTTP/2.
    framed: bool,
    /// For the kernel, in real time, since something happened.
    waits: u32,
}

const TICK: Duration = Duration::from_millis(100);

/// Of five milliseconds: a patience that only a hang outlasts.
const MOST_WAITS: u32 = 6000;

impl Life {
    fn begin(case: &Case, ground: Ground, engine: Engines) -> Self {
        ground.prepare();
        let [(client, near_client), (backend, near_backend)] = ground.pairs(engine);
        let (client, ahead_in) = Actor::new(Side::Client, &case.client, client, case.read_ahead);
        let (backend, ahead_out) =
            Actor::new(Side::Backend, &case.backend, backend, case.read_ahead);
        let deliveries = Deliveries::of([&near_client, &near_backend]);
        let mut options = options(case.framing);
        options.close.codes = codes(case.close_code);
        // At the first silence; a life is too short for one to be given up.
        options.clocks.pings = case.pings.map(|side| Pings {
            interval: TICK,
            timeout: 2 * BOUND,
            side,
        });
        let client_leg = Leg {
            stream: near_client,
            read_ahead: ahead_in,
        };
        let backend_leg = Leg {
            stream: near_backend,
            read_ahead: ahead_out,
        };
        Self {
            client,
            backend,
            rig: Rig::new(engine, &options, client_leg, backend_leg),
            random: StdRng::seed_from_u64(case.client.chaos.seed ^ case.backend.chaos.seed),
            order: Arc::new(drain(case.close_code)),
            now: 0,
            ordered: None,
            interfered: false,
            deliveries,
            framed: engine == Engines::Http2,
            waits: 0,
        }
    }

    fn apply(&mut self, event: Event) {
        let side = match event {
            Event::Order => return self.give_order(),
            Event::Send(side, _) | Event::End(side) => side,
            Event::Break(side) => {
                self.interfered = true;
                side
            }
            Event::Stall(side, stalled) => {
                self.interfered |= stalled;
                side
            }
        };
        match side {
            Side::Client => self.client.apply(event),
            _ => self.backend.apply(event),
        }
    }

    fn give_order(&mut self) {
        let tunnel = &self.rig.tunnel;
        if tunnel.close(Arc::clone(&self.order)) {
            self.ordered = Some((self.now, [tunnel.bytes_in(), tunnel.bytes_out()]));
        }
    }

    /// One round in which a peer may miss its turn.
    fn rough_round(&mut self) {
        for actor in [&mut self.client, &mut self.backend] {
            if !actor.random.random_bool(actor.peer.chaos.pending) {
                actor.act();
            }
        }
        self.rig.turn();
    }

    /// Everyone acts once; says whether anything came of it.
    fn round(&mut self) -> bool {
        let passed = |rig: &Rig| (rig.tunnel.bytes_in(), rig.tunnel.bytes_out(), rig.outcome());
        let before = passed(&self.rig);
        let acted = self.client.act() | self.backend.act();
        self.rig.turn();
        let something = acted | (before != passed(&self.rig));
        if something {
            self.waits = 0;
        }
        something
    }

    /// Until nothing happens any more but by the clock.
    fn settle(&mut self) {
        let mut calm = 0;
        while calm < 4 && self.rig.outcome().is_none() {
            if self.round() {
                calm = 0;
                continue;
            }
            calm += 1;
            if let Some(deliveries) = &mut self.deliveries {
                let far = [&self.client, &self.backend];
                deliveries.make(far.into_iter().filter_map(Actor::tcp));
            }
            // TCP has more timers than the one for ACKs, and a frame of HTTP/2
            // takes its time.
            if calm == 4 && (self.deliveries.is_some() || self.framed) && self.is_under_way() {
                self.wait();
                calm = 0;
            }
        }
    }

    /// Whether bytes are on their way that nothing of this life holds up.
    fn is_under_way(&self) -> bool {
        let passed = [self.rig.tunnel.bytes_in(), self.rig.tunnel.bytes_out()];
        let ways = [(&self.client, &self.backend), (&self.backend, &self.client)];
        let forwards_all = self.rig.tunnel.state() != State::Closing;
        let mut ways = ways.into_iter().zip(passed);
        !self.interfered
            && ways.any(|((from, to), passed)| {
                let passed = passed as usize;
                from.is_held_up()
                    || passed > to.has_come() && !to.shut
                    || passed + from.is_held() < from.sent.len() && forwards_all
            })
    }

    /// Waits for the kernel.
    fn wait(&mut self) {
        let actors = [&self.client, &self.backend];
        let mut polled: Vec<_> = actors.iter().filter_map(|actor| actor.poll()).collect();
        let most = if polled.is_empty() { 0 } else { 5 };
        let most = Timespec::try_from(Duration::from_millis(most)).unwrap();
        rustix::event::poll(&mut polled, Some(&most)).unwrap();
        self.waits += 1;
        assert!(self.waits < MOST_WAITS, "stuck: {:?}", self.rig.tunnel);
    }

    fn pass(&mut self, ticks: u32) {
        self.now += ticks;
        self.rig.registry.pass(ticks);
    }

    fn play(mut self, case: &Case) -> Account {
        for (at, event) in &case.events {
            let at = (*at / 100) as u32;
            if at > self.now && self.rig.outcome().is_none() {
                // A slow reader is not a stalled one: it gets what it can in no time.
                self.settle();
                self.pass(at - self.now);
            }
            self.apply(*event);
            for _ in 0..self.random.random_range(1..4) {
                self.rough_round();
            }
        }
        self.settle();
        let last = self.now;
        while self.rig.outcome().is_none() {
            let quiet = (self.now - last) * TICK > QUIET;
            if quiet && self.rig.tunnel.state() == State::Open {
                self.give_order();
            }
            // Finer where a second counts.
            self.pass(if self.ordered.is_some() { 1 } else { 4 });
            self.settle();
            assert!(
                (self.now - last) * TICK < QUIET + BOUND + TICK * 8,
                "never ended"
            );
        }
        drop(self.deliveries.take());
        assert!(self.rig.registry.is_empty());
        assert_eq!(lent(), 0, "a pipe outlives its tunnel");
        Account {
            outcome: self.rig.outcome().unwrap(),
            client: self.client.witness(),
            backend: self.backend.witness(),
            ordered: self.ordered.map(|(at, passed)| (TICK * at, passed)),
            ended: TICK * self.now,
            interfered: self.interfered,
        }
    }
}

/// A life waits for its kernel now and then, and lives need nothing of each other: so a
/// thread for each core plays its share.
#[test]
fn every_life_keeps_the_rules_under_both_engines() {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let share = cases(2000).div_ceil(threads as u32);
    let play = || {
        let mut runner = TestRunner::new(ProptestConfig {
            cases: share,
            source_file: Some(file!()),
            ..ProptestConfig::default()
        });
        let played = runner.run(&(case(), ground()), |(case, ground)| {
            under_both(&case, ground)
        });
        played.map_err(|failed| failed.to_string())
    };
    let found: Vec<_> = thread::scope(|scope| {
        let players: Vec<_> = (0..threads).map(|_| scope.spawn(play)).collect();
        players
            .into_iter()
            .map(|player| player.join().unwrap())
            .collect()
    });
    assert_eq!(found, vec![Ok(()); threads]);
}

fn under_both(case: &Case, ground: Ground) -> Result<(), TestCaseError> {
    let also = [
        ground.tls.then_some(Engines::Tls),
        ground.http2.then_some(Engines::Http2),
    ];
    let engines = [Engines::Own, Engines::Tokio].into_iter();
    for engine in engines.chain(also.into_iter().flatten()) {
        let life = Life::begin(case, ground, engine).play(case);
        check(case, &life).map_err(|error| TestCaseError::fail(format!("{engine:?}: {error}")))?;
    }
    Ok(())
}
