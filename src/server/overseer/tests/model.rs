//! Random lives of backends and tunnels against a plain model: whatever opens,
//! waits, is refused, closed, drained, removed, brought back or rebalanced, and
//! in whatever order, the counts are those of what the model holds.
//!
//! `LONGHAUL_EVENTS` says how many events (`tests/long` has a million), and
//! `LONGHAUL_SEED` draws from a seed that was printed: the same configs, and the
//! same events until a tunnel goes, since when paced closes come longhaul draws
//! itself. A tunnel is an entry whose relay obeys when it is looked at.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};

use super::super::*;
use super::configs::configs;
use crate::config::{Config, Pace};
use crate::tunnel::{CloseOrder, Facts, Framing, Labels, Opening, Options, Ticket};
use crate::upstream::{Full, Lease, Pass, Plan};

const STATES: [BackendState; 3] = [
    BackendState::Active,
    BackendState::Draining,
    BackendState::Disabled,
];
/// What the model holds at once, at most.
const MOST: usize = 300;

struct World {
    state: Arc<State>,
    overseer: Overseer,
    configs: Vec<Config>,
    random: StdRng,
    next: u64,
    seen: HashMap<Key, Arc<Backend>>,
    waiting: Vec<Waiting>,
    handshakes: Vec<(Lease, Pass, u64)>,
    tunnels: Vec<(Lease, Ticket)>,
    closers: Vec<JoinHandle<()>>,
    happened: [u64; 10],
}

struct Waiting {
    backend: Arc<Backend>,
    key: u64,
    task: JoinHandle<Result<(Lease, Pass), Full>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let state = Arc::new(State::new());
        let configs = configs(&mut random);
        let mut world = Self {
            overseer: Overseer::new(&state),
            state,
            configs,
            random,
            next: 0,
            seen: HashMap::new(),
            waiting: Vec::new(),
            handshakes: Vec::new(),
            tunnels: Vec::new(),
            closers: Vec::new(),
            happened: [0; 10],
        };
        world.reload();
        world
    }

    fn backends(&self) -> Arc<Backends> {
        self.state.snapshot().upstreams["app"].backends()
    }

    fn any(&mut self, of: usize) -> usize {
        self.random.random_range(0..of)
    }

    async fn event(&mut self) {
        let event = match self.any(1000) {
            0..450 => 0,
            450..650 => 1,
            650..750 => 2,
            750..850 => 3,
            850..900 => 4,
            900..920 => 5,
            920..950 => 6,
            950..980 => 7,
            980..990 => 8,
            _ => 9,
        };
        self.happened[event] += 1;
        match event {
            0 => self.ask(),
            1 => self.open(),
            2 if !self.handshakes.is_empty() => {
                let at = self.any(self.handshakes.len());
                drop(self.handshakes.swap_remove(at));
            }
            3 if !self.tunnels.is_empty() => {
                let at = self.any(self.tunnels.len());
                drop(self.tunnels.swap_remove(at));
            }
            4 if !self.waiting.is_empty() => {
                let at = self.any(self.waiting.len());
                self.waiting.swap_remove(at).task.abort();
            }
            5 => self.reload(),
            6 => self.say(),
            7 => sleep(Duration::from_millis(self.random.random_range(1..400))).await,
            8 => self.close(),
            9 => self.rebalance(),
            _ => {}
        }
    }

    /// A client asks for a tunnel.
    fn ask(&mut self) {
        if self.waiting.len() + self.handshakes.len() + self.tunnels.len() > MOST {
            return;
        }
        let backends = self.backends();
        let key = self.random.random_range(1..50);
        let Some(index) = backends.pick(Some(key), &[]) else {
            return;
        };
        let backend = Arc::clone(backends.get(index));
        self.seen
            .insert(Arc::as_ptr(&backend), Arc::clone(&backend));
        let deadline = Instant::now() + Duration::from_millis(self.random.random_range(0..2000));
        let task = tokio::spawn(async move { backends.admit(index, deadline).await });
        self.waiting.push(Waiting { backend, key, task });
    }

    /// A handshake succeeds.
    fn open(&mut self) {
        if self.handshakes.is_empty() {
            return;
        }
        let at = self.any(self.handshakes.len());
        let (lease, _pass, key) = self.handshakes.swap_remove(at);
        let lease = lease.into_tunnel();
        self.next += 1;
        let name = |text: &str| Arc::from(text);
        let facts = Facts {
            id: self.next,
            labels: Arc::new(Labels {
                listener: name("main"),
                http: "1.1",
                route: name("app"),
                upstream: name("app"),
                backend: Arc::clone(lease.backend().name()),
            }),
            key,
            opening: Opening::default(),
        };
        let config = &self.state.snapshot().config;
        let clocks = config.routes[0].clocks;
        let options = Options::new(Framing::Opaque, clocks, &config.drain, None);
        let ticket = self.state.registry.open(facts, &options);
        self.tunnels.push((lease, ticket));
    }

    fn reload(&mut self) {
        let at = self.any(self.configs.len());
        let prepared = self.state.prepare(self.configs[at].clone(), 0).unwrap();
        self.state.commit(prepared);
        self.overseer.look();
    }

    /// A person says a state, or takes it back.
    fn say(&mut self) {
        let backends = self.backends();
        let at = self.any(backends.list().len());
        let word = self.any(4);
        backends.get(at).say(STATES.get(word).copied());
        self.overseer.look();
    }

    /// A person closes what has a key.
    fn close(&mut self) {
        let key = self.random.random_range(1..50);
        let registry = Arc::clone(&self.state.registry);
        let tunnels = registry.select(&|tunnel| tunnel.facts().key == key);
        let order = CloseOrder::new(Ending::Operator, &self.state.snapshot().config.drain);
        self.closers.push(tokio::spawn(async move {
            let span = Duration::from_secs(1);
            registry.close_paced(tunnels, order, span).await;
        }));
    }

    fn rebalance(&mut self) {
        let snapshot = self.state.snapshot();
        let registry = Arc::clone(&self.state.registry);
        let plan = Plan::new(&snapshot.upstreams["app"], &registry, 0.1);
        let span = Pace::new(None, Duration::from_secs(1)).span(plan.tunnels.len());
        let order = CloseOrder::new(Ending::Rebalance, &snapshot.config.drain);
        self.closers.push(tokio::spawn(async move {
            registry.close_in_order(plan.tunnels, order, span).await;
        }));
    }

    /// Lets everything that can happen now happen.
    async fn settle(&mut self) {
        for _ in 0..3 {
            yield_now().await;
        }
        for at in (0..self.waiting.len()).rev() {
            if self.waiting[at].task.is_finished() {
                let Waiting { key, task, .. } = self.waiting.swap_remove(at);
                if let Ok((lease, pass)) = task.await.unwrap() {
                    self.handshakes.push((lease, pass, key));
                }
            }
        }
        // What a relay does that was told.
        self.tunnels
            .retain(|(_, ticket)| ticket.tunnel().standing() != crate::tunnel::State::Closing);
        self.closers.retain(|closer| !closer.is_finished());
    }

    fn compare(&self) {
        assert_eq!(self.state.registry.len(), self.tunnels.len());
        let mut expected: HashMap<Key, (u32, u32, u32)> = HashMap::new();
        for one in &self.waiting {
            expected.entry(Arc::as_ptr(&one.backend)).or_default().0 += 1;
        }
        for (lease, ..) in &self.handshakes {
            expected.entry(Arc::as_ptr(lease.backend())).or_default().1 += 1;
        }
        for (lease, _) in &self.tunnels {
            expected.entry(Arc::as_ptr(lease.backend())).or_default().2 += 1;
        }
        for (key, backend) in &self.seen {
            let (waiting, handshakes, tunnels) = expected.remove(key).unwrap_or_default();
            let found = (backend.load(), backend.handshakes(), backend.tunnels());
            let wanted = (
                waiting + handshakes + tunnels,
                waiting + handshakes,
                tunnels,
            );
            assert_eq!(found, wanted, "{}", backend.name());
        }
        assert!(expected.is_empty(), "leases of backends that nobody chose");
    }

    /// Everybody leaves.
    async fn end(mut self) {
        self.waiting.iter().for_each(|one| one.task.abort());
        self.waiting.clear();
        self.handshakes.clear();
        self.tunnels.clear();
        self.settle().await;
        self.compare();
        assert!(self.state.registry.is_empty());
        for backend in self.seen.values() {
            assert!(!backend.has_tunnels() && backend.load() == 0 && backend.queued() == 0);
        }
        println!("{:?} of each kind", self.happened);
        assert!(self.happened.iter().all(|times| *times > 0));
    }
}

fn events() -> u32 {
    let given = std::env::var("LONGHAUL_EVENTS").ok();
    given.map_or(20_000, |events| events.parse().expect("a number of events"))
}

fn seed() -> u64 {
    let given = std::env::var("LONGHAUL_SEED").ok();
    given.map_or_else(rand::random, |seed| seed.parse().expect("a seed"))
}

#[tokio::test(start_paused = true)]
async fn the_counts_are_the_models_whatever_happens() {
    let seed = seed();
    println!("LONGHAUL_SEED={seed}");
    let mut world = World::new(seed);
    for _ in 0..events() {
        world.event().await;
        world.settle().await;
        world.compare();
    }
    world.end().await;
}
