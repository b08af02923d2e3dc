//! What every test of the product is made of: backends, proxy, clients.
//!
//! The kit speaks HTTP and WebSocket with its own small and strict readers, so
//! that a test never judges longhaul by the libraries longhaul is made of. It
//! knows nothing of longhaul but its command line, config file, log, admin
//! socket and notify messages. Every wait here has one deadline.

pub mod acme;
mod echo;
mod fixed;
mod frame;
pub mod h2;
mod log;
mod message;
mod process;
mod proxy;
mod raw;
mod samples;
mod site;
mod tls;
mod wire;
mod ws;

use std::fmt::Display;
use std::panic::Location;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use echo::Echo;
pub use fixed::Fixed;
pub use frame::{Opcode, close_payload, masked, plain};
pub use log::Event;
pub use message::{Head, Request, Response};
pub use proxy::{Over, Proxy, Setup, alone, dial, dial_from, longhaul};
pub use raw::{RawBackend, Stuck, nobodies, nobody};
pub use site::Site;
pub use tls::{Authority, Pair, TlsClient, TlsVersion};
pub use wire::{End, Transport, Wire};
pub use ws::{ACCEPT, KEY, Ws, handshake, switching};

/// How long anything that must happen may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The future's value, or a failure that says what was waited for and where.
#[track_caller]
pub fn soon<F: Future>(what: impl Display, future: F) -> impl Future<Output = F::Output> {
    let place = Location::caller();
    let what = what.to_string();
    async move {
        match tokio::time::timeout(DEADLINE, future).await {
            Ok(value) => value,
            Err(_) => panic!("{what}: not within {DEADLINE:?} (at {place})"),
        }
    }
}

/// Waits for a fact that announces itself nowhere (a count in `/proc`, say).
#[track_caller]
pub fn eventually(what: impl Display, mut fact: impl FnMut() -> bool) -> impl Future<Output = ()> {
    soon(what, async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while !fact() {
            ticks.tick().await;
        }
    })
}

/// For a test that has both ends of its tunnels in this process.
pub fn raise_file_limit(descriptors: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).expect("to raise the limit of open files");
    let enough = limit.maximum.is_none_or(|most| most as usize > descriptors);
    assert!(enough, "too few open files allowed");
}

/// Runs each of these functions as a test over each HTTP that clients may speak.
macro_rules! over_each {
    (@ $name:ident #[$test:meta]) => {
        mod $name {
            use crate::kit::Over;

            #[$test]
            async fn http1() {
                super::$name(Over::Http1).await;
            }

            #[$test]
            async fn http2() {
                super::$name(Over::Http2).await;
            }
        }
    };
    (on two threads: $($name:ident),+ $(,)?) => {
        $($crate::kit::over_each!(
            @ $name #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        );)+
    };
    ($($name:ident),+ $(,)?) => {
        $($crate::kit::over_each!(@ $name #[tokio::test]);)+
    };
}
pub(crate) use over_each;
