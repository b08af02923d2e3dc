//! The operator's drill: a tunnel is cut in a way that nobody tells, and who did
//! it and why is read from one line of the log, from the metrics alone, and from
//! what the dashboard shows; the table of `docs/metrics.md` says where to look then.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::kit::{
    Event, Opcode, Over, Proxy, RawBackend, Site, Wire, close_payload, handshake, masked,
    over_each, plain, soon,
};

over_each!(whoever_cut_it_is_told_by_one_line_by_the_metrics_and_by_the_dashboard);

const DOCUMENT: &str = include_str!("../../docs/metrics.md");

/// How a tunnel is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    IdleClock,
    MaxLifetime,
    BackendGone,
    BackendReset,
    BackendClosed,
    ClientGone,
    ClientReset,
    ClientClosed,
    Drain,
    Operator,
    ClientLimit,
    BackendLimit,
    FrameLimit,
    MessageRate,
    ByteRate,
    HalfClosed,
}

const CUTS: [Cut; 16] = [
    Cut::IdleClock,
    Cut::MaxLifetime,
    Cut::BackendGone,
    Cut::BackendReset,
    Cut::BackendClosed,
    Cut::ClientGone,
    Cut::ClientReset,
    Cut::ClientClosed,
    Cut::Drain,
    Cut::Operator,
    Cut::ClientLimit,
    Cut::BackendLimit,
    Cut::FrameLimit,
    Cut::MessageRate,
    Cut::ByteRate,
    Cut::HalfClosed,
];

/// What is found: side, cause and close code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    ended_by: String,
    cause: String,
    close_code: String,
}

impl Finding {
    fn new(ended_by: &str, cause: &str, close_code: &str) -> Self {
        Self {
            ended_by: ended_by.to_owned(),
            cause: cause.to_owned(),
            close_code: close_code.to_owned(),
        }
    }

    /// By one access line.
    fn of_line(line: &Event) -> Self {
        Self::of_words(line.text("ended_by"), line.text("cause"))
    }

    /// By the newest of the last closes.
    fn of_ended(answer: &Value) -> Self {
        let word = |key: &str| answer["ended"][0][key].as_str().expect("a word");
        Self::of_words(word("ended_by"), word("cause"))
    }

    fn of_words(ended_by: &str, cause: &str) -> Self {
        let (cause, code) = cause.split_once(' ').unwrap_or((cause, ""));
        Self::new(ended_by, cause, code)
    }

    /// What the table of the document has whoever finds this look at.
    fn advice(&self) -> Vec<&'static str> {
        let (_, table) = DOCUMENT
            .split_once("## Who cut this tunnel?\n")
            .expect("the section");
        let rows = table.lines().map(|row| row.split('|').collect::<Vec<_>>());
        let is_in = |word: &str, cell: &str| cell.contains(&format!("`{word}`"));
        let fits = |row: &Vec<&str>| {
            let told = row.len() == 6;
            let is_code = |row: &[&str]| match row[3].split_once("`close_code` ") {
                Some((_, codes)) => codes.trim().starts_with(&self.close_code),
                None => true,
            };
            told && is_in(&self.ended_by, row[2]) && is_in(&self.cause, row[3]) && is_code(row)
        };
        rows.filter(fits).map(|row| row[4].trim()).collect()
    }

    /// By which counter has grown between two looks.
    fn of_metrics(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> Self {
        let closed = after.iter().filter(|(name, value)| {
            let grown = before.get(*name).is_none_or(|old| *value > old);
            name.starts_with("longhaul_tunnels_closed_total{") && grown
        });
        let grown: Vec<&String> = closed.map(|(name, _)| name).collect();
        let [name] = grown[..] else {
            panic!("one end, told by {grown:?}");
        };
        let label = |label: &str| {
            let (_, rest) = name.split_once(&format!("{label}=\"")).expect("the label");
            rest.split('"').next().expect("its end").to_owned()
        };
        Self::new(&label("ended_by"), &label("cause"), &label("close_code"))
    }
}

impl Cut {
    fn finding(self) -> Finding {
        match self {
            Self::IdleClock => Finding::new("longhaul", "idle_timeout", ""),
            Self::MaxLifetime => Finding::new("longhaul", "max_lifetime", ""),
            Self::BackendGone => Finding::new("backend", "eof", ""),
            Self::BackendReset => Finding::new("backend", "reset", ""),
            Self::BackendClosed => Finding::new("backend", "close", "1011"),
            Self::ClientGone => Finding::new("client", "eof", ""),
            Self::ClientReset => Finding::new("client", "reset", ""),
            Self::ClientClosed => Finding::new("client", "close", "1001"),
            Self::Drain => Finding::new("longhaul", "drain", ""),
            Self::Operator => Finding::new("longhaul", "operator", ""),
            Self::ClientLimit => Finding::new("client", "max_message", ""),
            Self::BackendLimit => Finding::new("backend", "max_message", ""),
            Self::FrameLimit => Finding::new("client", "max_frame", ""),
            Self::MessageRate => Finding::new("client", "message_rate", ""),
            Self::ByteRate => Finding::new("client", "byte_rate", ""),
            Self::HalfClosed => Finding::new("longhaul", "half_close_timeout", ""),
        }
    }

    /// What the document must have an operator look at.
    fn clue(self) -> &'static str {
        match self {
            Self::IdleClock => "`idle_timeout`",
            Self::MaxLifetime => "`max_lifetime`",
            Self::BackendGone | Self::BackendReset => "crashed or was killed",
            Self::BackendClosed => "the backend's own log",
            Self::ClientGone | Self::ClientReset => "their networks",
            Self::ClientClosed => "nothing is wrong",
            Self::Drain => "deploys",
            Self::Operator => "operator action",
            Self::HalfClosed => "`half_close_timeout`",
            Self::ClientLimit | Self::BackendLimit | Self::FrameLimit => "`message_limits`",
            Self::MessageRate | Self::ByteRate => "`message_limits`",
        }
    }

    /// Where a tunnel must go to be cut so.
    fn path(self) -> &'static str {
        match self {
            Self::IdleClock => "/idle",
            Self::MaxLifetime => "/old",
            Self::ClientLimit | Self::BackendLimit => "/small",
            Self::FrameLimit => "/frames",
            Self::MessageRate => "/talk",
            Self::ByteRate => "/bulk",
            Self::HalfClosed => "/halves",
            _ => "/",
        }
    }

    async fn cut(self, proxy: &Proxy, mut client: Wire, mut server: Wire) {
        match self {
            Self::IdleClock | Self::MaxLifetime => farewell(client, server).await,
            Self::BackendGone => {
                server.finish().await;
                client.eof().await;
            }
            Self::ClientGone => {
                client.finish().await;
                server.eof().await;
            }
            Self::BackendReset => {
                server.abort();
                client.end().await;
            }
            Self::ClientReset => {
                client.abort();
                server.end().await;
            }
            Self::BackendClosed => {
                let close = close_payload(1011);
                server.send(plain(Opcode::Close, true, &close)).await;
                client.frame().await;
                client.send(masked(Opcode::Close, true, &close)).await;
                server.frame().await;
            }
            Self::ClientClosed => {
                let close = close_payload(1001);
                client.send(masked(Opcode::Close, true, &close)).await;
                server.frame().await;
                server.send(plain(Opcode::Close, true, &close)).await;
                client.frame().await;
            }
            Self::Drain => {
                let order = json!({ "upstream": "app", "backend": "a", "state": "draining" });
                assert_eq!(proxy.ask_admin("/backends", Some(order)).await.0, 200);
                farewell(client, server).await;
                let back = json!({ "upstream": "app", "backend": "a", "state": "active" });
                assert_eq!(proxy.ask_admin("/backends", Some(back)).await.0, 200);
            }
            Self::ClientLimit | Self::FrameLimit | Self::MessageRate => {
                client.send(masked(Opcode::Text, true, &[b'a'; 200])).await;
                farewell(client, server).await;
            }
            Self::ByteRate => {
                client.send(masked(Opcode::Text, true, &[b'a'; 200])).await;
                assert_eq!(server.frame().await.payload.len(), 200);
                farewell(client, server).await;
            }
            Self::HalfClosed => {
                // Both go on to look alive; the one that was told does not answer.
                let close = close_payload(1000);
                client.send(masked(Opcode::Close, true, &close)).await;
                server.frame().await;
                server.eof().await;
                client.eof().await;
            }
            Self::BackendLimit => {
                server.send(plain(Opcode::Text, true, &[b'a'; 200])).await;
                farewell(client, server).await;
            }
            Self::Operator => {
                let order = json!({ "all": true });
                assert_eq!(proxy.ask_admin("/tunnels/close", Some(order)).await.0, 200);
                farewell(client, server).await;
            }
        }
    }
}

/// Both sides are told, and go.
async fn farewell(mut client: Wire, mut server: Wire) {
    let code = client.frame().await.close_code().expect("a code");
    server.frame().await;
    let close = close_payload(code);
    client.send(masked(Opcode::Close, true, &close)).await;
    server.send(plain(Opcode::Close, true, &close)).await;
}

async fn open(proxy: &Proxy, backend: &RawBackend, path: &str) -> (Wire, Wire) {
    let opening = handshake(path, "h", "");
    let (mut client, mut server) = backend.join_with(proxy.connect().await, opening).await;
    client.send(masked(Opcode::Text, true, b"up")).await;
    assert_eq!(server.frame().await.text(), "up");
    (client, server)
}

/// What the metrics say once they count one more end.
async fn after_one_more(proxy: &Proxy, before: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let ends = |page: &BTreeMap<String, f64>| -> f64 {
        let closed = page
            .iter()
            .filter(|(name, _)| name.starts_with("longhaul_tunnels_closed_total{"));
        closed.map(|(_, value)| value).sum()
    };
    soon("one more end to be counted", async {
        loop {
            let page = proxy.samples().await;
            if ends(&page) > ends(before) {
                return page;
            }
        }
    })
    .await
}

async fn whoever_cut_it_is_told_by_one_line_by_the_metrics_and_by_the_dashboard(over: Over) {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address()).more(
        "[[routes]]\npath = '/idle'\nupstream = 'app'\nidle_timeout = '300ms'\n\
         [[routes]]\npath = '/old'\nupstream = 'app'\nmax_lifetime = '300ms'\n\
         [[routes]]\npath = '/small'\nupstream = 'app'\n\
         message_limits = { max_message = '125B', side = 'both' }\n\
         [[routes]]\npath = '/frames'\nupstream = 'app'\n\
         message_limits = { max_frame = '125B' }\n\
         [[routes]]\npath = '/talk'\nupstream = 'app'\n\
         message_limits = { message_rate = '1/h' }\n\
         [[routes]]\npath = '/bulk'\nupstream = 'app'\n\
         message_limits = { byte_rate = '150B/h' }\n\
         [[routes]]\npath = '/halves'\nupstream = 'app'\nhalf_close_timeout = '300ms'\n\
         [drain]\nwindow = '0s'\n",
    );
    let proxy = Proxy::start(site).await.over(over);
    let mut cuts: Vec<Cut> = CUTS.iter().chain(&CUTS).copied().collect();
    cuts.shuffle(&mut rand::rng());
    let mut before = proxy.samples().await;
    for (number, cut) in cuts.iter().enumerate() {
        let log = proxy.log.tail();
        let (client, server) = open(&proxy, &backend, cut.path()).await;
        eprintln!("{number}: {cut:?}");
        cut.cut(&proxy, client, server).await;
        let line = log.wait("tunnel closed", &[]).await;
        assert_eq!(
            Finding::of_line(&line),
            cut.finding(),
            "{number} of {cuts:?}: {}",
            line.line
        );
        let ended = proxy.ask_admin("/tunnels/ended", None).await.1;
        assert_eq!(Finding::of_ended(&ended), cut.finding(), "{ended}");
        let advice = cut.finding().advice();
        assert!(
            advice.iter().any(|it| it.contains(cut.clue())),
            "{cut:?}: the document says {advice:?}"
        );
        let after = after_one_more(&proxy, &before).await;
        assert_eq!(
            Finding::of_metrics(&before, &after),
            cut.finding(),
            "{number} of {cuts:?}"
        );
        before = after;
    }
}
