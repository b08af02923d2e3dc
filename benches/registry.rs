//! What a registry of a million tunnels costs: memory for each, opening and
//! ending one, a page of it, and whether many are closed as fast as was asked.
//!
//! Tunnels are entries without streams: nothing is relayed. Times are those of
//! one quiet thread, the median and the longest of the rounds. It fails where a
//! page, the memory of an entry or the pace of a close is beyond its bound.
//!
//! `cargo bench --bench registry [-- TUNNELS]`

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use longhaul::config::Clocks;
use longhaul::tunnel::{
    Cause, Close, CloseOrder, Codes, Facts, Filter, Framing, Labels, Opening, Options, Registry,
    State, Ticket, Words,
};
use support::rss;
use tokio::runtime::Builder;

// As the program, or what an entry takes would be another allocator's word.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TUNNELS: u64 = 1_000_000;
const ROUNDS: usize = 15;
const BACKENDS: u64 = 10;
/// Of a page of the API, where nothing is said, and at most.
const PAGES: [usize; 2] = [100, 10_000];

/// What any page may take at most, in ms.
const MOST_MS: f64 = 50.0;
/// A tenth above what was found when this was written. Of fewer tunnels than
/// `ENOUGH` the memory cannot be told from that of the process.
const MOST_BYTES: f64 = 310.0;
const ENOUGH: u64 = 100_000;
/// The part of all that a close may be away from the line, and of its time.
const MOST_OFF: f64 = 0.05;

fn main() {
    let mut numbers = std::env::args().filter_map(|word| word.parse().ok());
    let tunnels = numbers.next().unwrap_or(TUNNELS);
    let registry = Registry::new();
    let labels: Vec<Arc<Labels>> = (0..BACKENDS).map(labels).collect();
    let before = rss();
    let start = Instant::now();
    let tickets: Vec<Ticket> = (0..tunnels)
        .map(|number| registry.open(facts(&labels, number), &options()))
        .collect();
    let opened = start.elapsed();
    let own = tickets.len() * size_of::<Ticket>();
    let bytes = (rss() - before) as f64 - own as f64;
    println!("{tunnels} tunnels");
    println!(
        "  bytes of memory for each      {:8.1}",
        bytes / tunnels as f64
    );
    assert!(
        tunnels < ENOUGH || bytes / tunnels as f64 <= MOST_BYTES,
        "an entry takes more than {MOST_BYTES} bytes"
    );
    println!(
        "  ns to enter one               {:8.1}",
        each(opened, tunnels)
    );
    replace(&registry, &labels, tunnels);
    pages(&registry, tunnels);
    closes(&registry);
    let start = Instant::now();
    drop(tickets);
    println!(
        "  ns to take one out            {:8.1}",
        each(start.elapsed(), tunnels)
    );
}

/// One comes and goes while all others live.
fn replace(registry: &Arc<Registry>, labels: &[Arc<Labels>], tunnels: u64) {
    let times = 1_000_000;
    let start = Instant::now();
    for number in 0..times {
        drop(registry.open(facts(labels, tunnels + number), &options()));
    }
    println!(
        "  ns for one to come and go     {:8.1}",
        each(start.elapsed(), times)
    );
}

fn pages(registry: &Registry, tunnels: u64) {
    let client = |net: &str| Filter {
        client: Some(net.parse().unwrap()),
        ..Filter::default()
    };
    let filters = [
        ("no filter", Filter::default()),
        ("one of 10 backends", of_backend("chat-3")),
        ("a backend that nobody has", of_backend("none")),
        (
            "one key",
            Filter {
                key: Some(tunnels / 2),
                ..Filter::default()
            },
        ),
        ("one client", client("10.7.7.7/32")),
        ("a network of 65,536", client("10.7.0.0/16")),
        (
            "all that are open",
            Filter {
                state: Some(State::Open),
                ..Filter::default()
            },
        ),
    ];
    for (name, filter) in &filters {
        for after in [0, tunnels / 2] {
            for limit in PAGES {
                page(registry, name, filter, after, limit);
            }
        }
    }
    time("count those of one backend", &mut || {
        let filter = of_backend("chat-3");
        registry.count(&|tunnel| filter.accepts(tunnel))
    });
    time("find one by its id", &mut || {
        usize::from(registry.find(tunnels / 3).is_some())
    });
}

fn page(registry: &Registry, name: &str, filter: &Filter, after: u64, limit: usize) {
    let name = format!("page of {limit} after {after}, {name}");
    let longest = time(&name, &mut || {
        let page = registry.page(after, limit, &|tunnel| filter.accepts(tunnel));
        page.tunnels.len()
    });
    assert!(longest < MOST_MS, "{name} took {longest} ms");
}

/// Says how long it takes; the longest of the rounds, in ms.
fn time(name: &str, work: &mut dyn FnMut() -> usize) -> f64 {
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        found = work();
        times.push(start.elapsed());
    }
    times.sort();
    let (middle, longest) = (ms(times[ROUNDS / 2]), ms(times[ROUNDS - 1]));
    println!("  ms, {name:54} {middle:8.2} {longest:8.2}  ({found})");
    longest
}

/// A tenth of all at such a rate that it takes two seconds.
fn closes(registry: &Registry) {
    let filter = of_backend("chat-7");
    let start = Instant::now();
    let tunnels = registry.select(&|tunnel| filter.accepts(tunnel));
    let count = tunnels.len();
    println!(
        "  ms, all {count} of one backend selected {:33.2}",
        ms(start.elapsed())
    );
    let span = Duration::from_secs(2);
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let watched = tunnels.clone();
    let start = Instant::now();
    let worst = runtime.block_on(async {
        let order = CloseOrder {
            cause: Cause::Operator,
            code: None,
            reason: "".into(),
        };
        let mut closes = Box::pin(registry.close_in_order(tunnels, order, span));
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        let mut worst: f64 = 0.0;
        loop {
            tokio::select! {
                () = &mut closes => return worst,
                _ = looks.tick() => {
                    let due = start.elapsed().as_secs_f64() / span.as_secs_f64() * count as f64;
                    let told = watched.partition_point(|it| it.standing() == State::Closing);
                    worst = worst.max((told as f64 - due).abs());
                }
            }
        }
    });
    let (took, asked) = (start.elapsed().as_secs_f64(), span.as_secs_f64());
    let worst = worst / count as f64;
    let per_cent = 100.0 * worst;
    println!("  s, the same closed over {asked} s {took:40.3}  (at worst {per_cent:.2} % off)");
    let late = (took - asked).abs() / asked;
    assert!(
        worst <= MOST_OFF && late <= MOST_OFF,
        "not as fast as was asked"
    );
}

fn each(time: Duration, count: u64) -> f64 {
    time.as_nanos() as f64 / count as f64
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn of_backend(name: &str) -> Filter {
    Filter {
        backend: Some(name.to_owned()),
        ..Filter::default()
    }
}

fn labels(backend: u64) -> Arc<Labels> {
    Arc::new(Labels {
        listener: "public".into(),
        http: "1.1",
        route: "chat".into(),
        upstream: "chat".into(),
        backend: format!("chat-{backend}").into(),
    })
}

/// What a browser that opens a chat room leaves behind.
fn facts(labels: &[Arc<Labels>], number: u64) -> Facts {
    let [_, a, b, c] = (number as u32).to_be_bytes();
    let client = format!("10.{a}.{b}.{c}:{}", 10_000 + number % 50_000);
    let path = format!("/ws/room-{}", number % 1000);
    let words = Words {
        tls: "TLSv1.3",
        sni: "chat.example.com",
        host: "chat.example.com",
        method: "GET",
        path: &path,
        sticky: "cookie:sid",
        ..Words::default()
    };
    Facts {
        id: number + 1,
        labels: Arc::clone(&labels[(number % BACKENDS) as usize]),
        key: number | 1,
        opening: Opening::new(client, &words),
    }
}

fn options() -> Options {
    Options {
        expiry: None,
        messages: None,
        framing: Framing::WebSocket,
        clocks: Clocks {
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(3600)),
            half_close_timeout: Duration::from_secs(30),
            max_lifetime: None,
            max_lifetime_jitter: 0.0,
            pings: None,
        },
        close: Close {
            codes: Codes {
                max_lifetime: Some(1012),
                idle_timeout: Some(1001),
                client_hangs: Some(1001),
                backend_hangs: Some(1011),
            },
            timeout: Duration::from_secs(5),
        },
    }
}
