//! What the pure rooms are given by the benchmarks that time them and by those
//! that count their instructions: the same messages, tables and members.

#![allow(dead_code)]

use http::{HeaderMap, Method};
use longhaul::balance::{Member, member_id};
use longhaul::route::{Criteria, Request, Table};

/// Payload of a small message, as everywhere in the benchmarks.
const SMALL: usize = 125;

/// Bytes that a tunnel reads at once.
pub const READ: usize = 32 * 1024;

/// `count` messages of 125 bytes, as a client sends them.
pub fn small_messages(count: usize) -> Vec<u8> {
    let mut message = vec![0x82, 0x80 | SMALL as u8, 1, 2, 3, 4];
    message.resize(message.len() + SMALL, 7);
    message.repeat(count)
}

/// One message of `payload` bytes, as a client sends it.
pub fn large_message(payload: u64) -> Vec<u8> {
    let mut message = vec![0x82, 0x80 | 127];
    message.extend(payload.to_be_bytes());
    message.extend([1, 2, 3, 4]);
    message.resize(message.len() + payload as usize, 7);
    message
}

/// A message in `fragments` frames of 125 bytes, with a ping between each two.
pub fn fragmented_message(fragments: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for fragment in 0..fragments {
        let opcode = if fragment == 0 { 0x02 } else { 0x00 };
        let fin = if fragment + 1 == fragments { 0x80 } else { 0 };
        bytes.extend([opcode | fin, 0x80 | SMALL as u8, 1, 2, 3, 4]);
        bytes.extend([7; SMALL]);
        if fin == 0 {
            bytes.extend([0x89, 0x80, 1, 2, 3, 4]);
        }
    }
    bytes
}

/// A table of `count` routes as a large installation has them: each host with
/// four paths, every eighth host a wildcard, and last a route for everybody.
pub fn table(count: usize) -> Table<usize> {
    let rest = (0..count - 1).map(|index| {
        let star = if index / 4 % 8 == 7 { "*." } else { "" };
        let host = format!("{star}tenant-{}.example.com", index / 4);
        let path = ["/ws/*", "/api/v1/*", "/doc/*/live", "/health"][index % 4];
        criteria(&host, path)
    });
    let any = criteria("*", "/*");
    let all = rest.chain([any]).enumerate();
    Table::new(all.map(|(index, criteria)| (criteria, index)))
}

fn criteria(host: &str, path: &str) -> Criteria {
    Criteria {
        host: host.parse().unwrap(),
        path: path.parse().unwrap(),
        methods: Vec::new(),
        headers: Vec::new(),
        subprotocols: Vec::new(),
    }
}

/// What is asked of a table, with what a browser sends along.
pub struct Question {
    pub host: &'static str,
    pub path: &'static str,
    headers: HeaderMap,
}

impl Question {
    /// The first host of every table of more than one route.
    pub fn exact() -> Self {
        Self::new("tenant-0.example.com", "/doc/42/live")
    }

    /// No such host: the route for everybody.
    pub fn unknown() -> Self {
        Self::new("nobody.example.org", "/ws/room/42")
    }

    fn new(host: &'static str, path: &'static str) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat"),
            ("origin", "https://example.com"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        Self {
            host,
            path,
            headers,
        }
    }

    pub fn request(&self) -> Request<'_> {
        Request {
            host: self.host,
            path: self.path,
            method: &Method::GET,
            headers: &self.headers,
        }
    }
}

/// `count` backends, all of one weight or of three.
pub fn members(count: usize, weights: u32) -> Vec<Member> {
    let member = |index| Member {
        id: member_id(&format!("backend-{index}")),
        weight: 1 + index as u32 % weights,
        ramp: 100,
        load: index as u32 % 7,
    };
    (0..count).map(member).collect()
}
