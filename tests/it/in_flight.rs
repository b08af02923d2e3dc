//! A large message that is half through when its tunnel is told to end, by a
//! stop or by a person: all of it and then a Close, or the end and no Close;
//! never a frame that is broken.

use std::time::Duration;

use serde_json::json;

use crate::kit::{Opcode, Over, Proxy, RawBackend, Site, Wire, masked, over_each, plain};

over_each!(
    a_message_of_ten_megabytes_is_finished_before_the_close,
    a_message_that_is_never_finished_is_cut_without_a_close,
);

/// Who tells the tunnel to end, and whose message is half through.
const CASES: [(Order, Sender); 4] = [
    (Order::Stop, Sender::Client),
    (Order::Stop, Sender::Backend),
    (Order::Operator, Sender::Client),
    (Order::Operator, Sender::Backend),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Stop,
    Operator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Client,
    Backend,
}

impl Order {
    async fn give(self, proxy: &Proxy) {
        match self {
            Self::Stop => {
                proxy.terminate();
                proxy.notice("STOPPING=1").await;
            }
            Self::Operator => {
                let all = json!({ "upstream": "app", "code": 1012 });
                let (code, answer) = proxy.ask_admin("/tunnels/close", Some(all)).await;
                assert_eq!((code, &answer["closing"]), (200, &json!(1)), "{answer}");
            }
        }
    }

    fn cause(self) -> &'static str {
        match self {
            Self::Stop => "drain",
            Self::Operator => "operator",
        }
    }
}

impl Sender {
    fn frame(self, opcode: Opcode, last: bool, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::Client => masked(opcode, last, payload),
            Self::Backend => plain(opcode, last, payload),
        }
    }

    /// Who sends, and who reads.
    fn of(self, client: Wire, server: Wire) -> (Wire, Wire) {
        match self {
            Self::Client => (client, server),
            Self::Backend => (server, client),
        }
    }
}

async fn open(over: Over, close_timeout: &str) -> (Proxy, Wire, Wire) {
    let backend = RawBackend::start().await;
    let drain = format!("[drain]\nwindow = '100ms'\nclose_timeout = '{close_timeout}'\n");
    let site = Site::one(backend.address()).more(&drain);
    let proxy = Proxy::start(site).await.over(over);
    let (client, server) = proxy.tunnel(&backend).await;
    // The tunnel begins just after the client has its 101.
    proxy.log.wait("tunnel opened", &[]).await;
    (proxy, client, server)
}

/// Sends while the other side reads, and compares every byte.
async fn carry(sender: &mut Wire, reader: &mut Wire, bytes: &[u8]) {
    let ((), seen) = tokio::join!(sender.send(bytes), reader.take(bytes.len()));
    assert!(seen == bytes, "other bytes arrived");
}

async fn is_told(proxy: &Proxy, order: Order) {
    let event = proxy.log.wait("tunnel closed", &[]).await;
    let end = (event.text("ended_by"), event.text("cause"));
    assert_eq!(end, ("longhaul", order.cause()), "{}", event.line);
    if order == Order::Stop {
        assert_eq!(proxy.exit().await.code(), Some(0));
    }
}

async fn a_message_of_ten_megabytes_is_finished_before_the_close(over: Over) {
    for (order, from) in CASES {
        let (proxy, client, server) = open(over, "8s").await;
        let (mut sender, mut reader) = from.of(client, server);
        // Ten fragments of a megabyte; the order comes after four and a half.
        let part: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 7 + at) as u8).collect();
        let mut message = from.frame(Opcode::Binary, false, &part);
        for number in 1..10 {
            message.extend(from.frame(Opcode::Continuation, number == 9, &part));
        }
        let (before, behind) = message.split_at(message.len() * 45 / 100);
        carry(&mut sender, &mut reader, before).await;
        order.give(&proxy).await;
        // The way back was between messages all the time.
        assert_eq!(sender.frame().await.close_code(), Some(1012));
        reader.silent_for(Duration::from_millis(300)).await;
        carry(&mut sender, &mut reader, behind).await;
        let close = reader.frame().await;
        assert_eq!(close.close_code(), Some(1012), "{order:?} {from:?}");
        drop((sender, reader));
        is_told(&proxy, order).await;
    }
}

async fn a_message_that_is_never_finished_is_cut_without_a_close(over: Over) {
    for (order, from) in CASES {
        let (proxy, client, server) = open(over, "400ms").await;
        let (mut sender, mut reader) = from.of(client, server);
        let part = vec![0x42; 1_000_000];
        let whole = from.frame(Opcode::Binary, false, &part);
        let half = from.frame(Opcode::Continuation, false, &part);
        carry(&mut sender, &mut reader, &whole).await;
        carry(&mut sender, &mut reader, &half[..500_000]).await;
        order.give(&proxy).await;
        assert_eq!(sender.frame().await.close_code(), Some(1012));
        // Nothing but the end: a Close would be taken for payload.
        reader.end().await;
        drop((sender, reader));
        is_told(&proxy, order).await;
    }
}
