//! What is said of an edit before, and where the same clients are sent before and after it.

use std::collections::BTreeMap;

use crate::kit::{Echo, Proxy, Site, Ws, longhaul};

pub const CLIENTS: usize = 24;

/// One of the clients: a third of them come by the second route.
#[derive(Clone, Copy)]
pub struct Client(pub usize);

impl Client {
    pub fn all() -> impl Iterator<Item = Self> {
        (0..CLIENTS).map(Self)
    }

    pub fn is_second(self) -> bool {
        self.0.is_multiple_of(3)
    }

    pub fn target(self) -> String {
        let path = if self.is_second() { "/second" } else { "/" };
        format!("{path}?key={}", self.0)
    }

    pub fn headers(self) -> String {
        format!("X-Forwarded-For: 203.0.113.{}\r\n", self.0)
    }
}

/// Two routes to one upstream, and another upstream that nobody uses.
pub fn base(backends: &[&Echo], spare: &Echo) -> String {
    let entries: Vec<_> = backends.iter().map(|one| one.entry()).collect();
    let (name, address) = spare.entry();
    Site::of(&entries)
        .top("trusted_proxies = ['127.0.0.0/8']")
        .route("name = 'chat'")
        .upstream("sticky = ['query:key']")
        .more(SECOND)
        .more(&format!(
            "[upstreams.spare]\nbackends = [{{ name = '{name}', address = '{address}' }}]\n"
        ))
        .to_string()
}

pub const FIRST: &str = "[[routes]]\nupstream = \"app\"\nname = 'chat'\n";
pub const SECOND: &str = "[[routes]]\nname = 'second'\npath = '/second'\nupstream = 'app'\n";
pub const STICKY: &str = "sticky = ['query:key']";

/// `config` with another text in it.
pub fn with(config: &str, old: &str, new: &str) -> String {
    assert!(config.contains(old), "no {old} in {config}");
    config.replacen(old, new, 1)
}

pub async fn open(proxy: &Proxy) -> Vec<Ws> {
    let mut all = Vec::new();
    for client in Client::all() {
        let mut ws = proxy.ws_with(&client.target(), &client.headers()).await;
        ws.greeting().await;
        all.push(ws);
    }
    all
}

/// Where each client is sent now: the backend's name, or the status.
pub async fn places(proxy: &Proxy) -> Vec<String> {
    let mut all = Vec::new();
    for client in Client::all() {
        let answer = proxy.get_with(&client.target(), &client.headers()).await;
        all.push(match answer.head.status {
            200 => answer.text().to_owned(),
            status => status.to_string(),
        });
    }
    all
}

/// Numbers of closed, moving and maybe moving tunnels, by route and backend.
pub type Said = BTreeMap<(String, String), [u64; 3]>;

pub fn sum(said: &Said) -> [u64; 3] {
    said.values().fold([0; 3], |sum, one| {
        std::array::from_fn(|index| sum[index] + one[index])
    })
}

/// The number in front of a word; 0 without it.
pub fn before(text: &str, word: &str) -> u64 {
    let Some((front, _)) = text.split_once(word) else {
        return 0;
    };
    let number = front
        .trim_end()
        .rsplit([' ', '\n'])
        .next()
        .expect("a number");
    number
        .parse()
        .unwrap_or_else(|_| panic!("{number:?} before {word} in {text}"))
}

/// What `check --against` says.
pub fn against(proxy: &Proxy, config: &str) -> Said {
    let text = Proxy::complete(config).replace("admin.sock", "other.sock");
    let file = proxy.write("next.toml", text);
    let mut command = longhaul();
    command.arg("check").arg(file);
    command.arg("--against").arg(proxy.path("admin.sock"));
    let output = command.output().expect("to check");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{text}");
    let mut said = Said::new();
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("  route "))
    {
        let (route, rest) = line.split_once(", backend ").expect("a backend");
        let (backend, rest) = rest.split_once(" of app: of ").expect("an upstream");
        let numbers = [" closed", " moved", " may move"].map(|word| before(rest, word));
        said.insert((route.to_owned(), backend.to_owned()), numbers);
    }
    let [closed, moved, may_move] = sum(&said);
    assert_eq!(before(&text, " would be closed"), closed, "{text}");
    assert_eq!(before(&text, " would move"), moved, "{text}");
    assert_eq!(before(&text, " more may move"), may_move, "{text}");
    said
}

/// What the line of the reload says.
pub async fn reloaded(proxy: &Proxy, config: &str) -> Said {
    let event = proxy.reload(config).await;
    let mut said = Said::new();
    if !event.line.contains("\"tunnels\"") {
        return said;
    }
    for part in event.text("tunnels").split("; ") {
        let (route, rest) = part.split_once(" at ").expect("a backend");
        let (backend, rest) = rest.split_once(" of app: ").expect("an upstream");
        let numbers = [" of ", " move", " may move"].map(|word| before(rest, word));
        said.insert((route.to_owned(), backend.to_owned()), numbers);
    }
    said
}

/// Makes the edit, and compares what was said with where the clients are sent: who moves, by route
/// and by the backend where they are. `at`: where their tunnels are.
pub async fn edit(proxy: &Proxy, config: &str, at: &[String], from: &[String]) -> Said {
    let said = against(proxy, config);
    assert_eq!(reloaded(proxy, config).await, said);
    let now = places(proxy).await;
    let mut moved = BTreeMap::new();
    for client in Client::all() {
        let route = if client.is_second() { "second" } else { "chat" };
        let key = (route.to_owned(), at[client.0].clone());
        *moved.entry(key).or_insert(0) += u64::from(from[client.0] != now[client.0]);
    }
    for (key, moved) in moved {
        let [closed, moving, may_move] = said.get(&key).copied().unwrap_or_default();
        if closed == 0 {
            let most = moving + may_move;
            assert!(
                (moving..=most).contains(&moved),
                "{key:?}: {moved} of {said:?}"
            );
        }
    }
    said
}

pub struct Three {
    pub a: Echo,
    pub b: Echo,
    pub c: Echo,
}

impl Three {
    pub async fn start() -> Self {
        Self {
            a: Echo::start("a").await,
            b: Echo::start("b").await,
            c: Echo::start("c").await,
        }
    }

    pub fn base(&self) -> String {
        base(&[&self.a, &self.b], &self.c)
    }

    /// With a state of b.
    pub fn state_of_b(&self, state: &str) -> String {
        let state = format!("{{ name = \"b\", state = '{state}',");
        with(&self.base(), "{ name = \"b\",", &state)
    }
}
