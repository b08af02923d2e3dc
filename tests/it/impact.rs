//! What an edit will do to live tunnels is said before, and is what comes of it: `check --against`, and the
//! line of the reload, against where the same clients are sent before and after.

use std::collections::BTreeMap;

use crate::kit::{Echo, Over, Proxy, Site, Ws, longhaul, over_each};

over_each!(
    on two threads:
    what_closes_is_said_by_route_and_backend,
    who_moves_with_the_backends_is_said_exactly,
    who_moves_with_the_routes_is_said_exactly,
    who_moves_with_the_sticky_key_is_said_as_far_as_it_is_known,
    who_moves_with_the_balance_is_said_as_far_as_it_is_known,
    routes_with_conditions_are_followed_as_far_as_they_are_known,
);

const CLIENTS: usize = 24;

/// One of the clients: a third of them come by the second route.
#[derive(Clone, Copy)]
struct Client(usize);

impl Client {
    fn all() -> impl Iterator<Item = Self> {
        (0..CLIENTS).map(Self)
    }

    fn is_second(self) -> bool {
        self.0.is_multiple_of(3)
    }

    fn target(self) -> String {
        let path = if self.is_second() { "/second" } else { "/" };
        format!("{path}?key={}", self.0)
    }

    fn headers(self) -> String {
        format!("X-Forwarded-For: 203.0.113.{}\r\n", self.0)
    }
}

/// Two routes to one upstream, and another upstream that nobody uses.
fn base(backends: &[&Echo], spare: &Echo) -> String {
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

const FIRST: &str = "[[routes]]\nupstream = \"app\"\nname = 'chat'\n";
const SECOND: &str = "[[routes]]\nname = 'second'\npath = '/second'\nupstream = 'app'\n";
const STICKY: &str = "sticky = ['query:key']";

/// `config` with another text in it.
fn with(config: &str, old: &str, new: &str) -> String {
    assert!(config.contains(old), "no {old} in {config}");
    config.replacen(old, new, 1)
}

async fn open(proxy: &Proxy) -> Vec<Ws> {
    let mut all = Vec::new();
    for client in Client::all() {
        let mut ws = proxy.ws_with(&client.target(), &client.headers()).await;
        ws.greeting().await;
        all.push(ws);
    }
    all
}

/// Where each client is sent now: the backend's name, or the status.
async fn places(proxy: &Proxy) -> Vec<String> {
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
type Said = BTreeMap<(String, String), [u64; 3]>;

fn sum(said: &Said) -> [u64; 3] {
    said.values().fold([0; 3], |sum, one| {
        std::array::from_fn(|index| sum[index] + one[index])
    })
}

/// The number in front of a word; 0 without it.
fn before(text: &str, word: &str) -> u64 {
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
fn against(proxy: &Proxy, config: &str) -> Said {
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
async fn reloaded(proxy: &Proxy, config: &str) -> Said {
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
async fn edit(proxy: &Proxy, config: &str, at: &[String], from: &[String]) -> Said {
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

struct Three {
    a: Echo,
    b: Echo,
    c: Echo,
}

impl Three {
    async fn start() -> Self {
        Self {
            a: Echo::start("a").await,
            b: Echo::start("b").await,
            c: Echo::start("c").await,
        }
    }

    fn base(&self) -> String {
        base(&[&self.a, &self.b], &self.c)
    }

    /// With a state of b.
    fn state_of_b(&self, state: &str) -> String {
        let state = format!("{{ name = \"b\", state = '{state}',");
        with(&self.base(), "{ name = \"b\",", &state)
    }
}

async fn what_closes_is_said_by_route_and_backend(over: Over) {
    for gone in [false, true] {
        let three = Three::start().await;
        let keep = |config: &str| with(config, STICKY, &format!("{STICKY}\non_removed = 'drain'"));
        let config = keep(&three.base());
        let proxy = Proxy::start(&config).await.over(over);
        let _tunnels = open(&proxy).await;
        let at = places(&proxy).await;
        let next = match gone {
            true => keep(&base(&[&three.a], &three.c)),
            false => keep(&three.state_of_b("draining")),
        };
        let said = edit(&proxy, &next, &at, &at).await;
        let mut expected = Said::new();
        for client in Client::all().filter(|client| at[client.0] == "b") {
            let route = if client.is_second() { "second" } else { "chat" };
            let of = expected.entry((route.to_owned(), "b".to_owned()));
            of.or_insert([0; 3])[0] += 1;
        }
        assert_eq!(said, expected, "nobody else has to move");
        assert_eq!(said.len(), 2, "both routes had tunnels there");
    }
}

async fn who_moves_with_the_backends_is_said_exactly(over: Over) {
    let three = Three::start().await;
    let config = three.base();
    let proxy = Proxy::start(&config).await.over(over);
    let _tunnels = open(&proxy).await;
    let at = places(&proxy).await;
    assert_eq!(against(&proxy, &config), Said::new());
    let (c, address) = three.c.entry();
    let moved_address = with(&config, three.b.address(), address);
    let heavier = with(&config, "{ name = \"b\",", "{ name = \"b\", weight = 5,");
    for next in [
        base(&[&three.a, &three.b, &three.c], &three.c),
        three.state_of_b("disabled"),
        heavier,
        // Kept where it is, but nobody comes back to it.
        base(&[&three.a], &three.c),
        moved_address,
    ] {
        let said = edit(&proxy, &next, &at, &at).await;
        let [closed, moving, may_move] = sum(&said);
        assert!(
            closed == 0 && moving > 0 && may_move == 0,
            "{said:?} of {next}"
        );
        proxy.reload(&config).await;
        assert_eq!(places(&proxy).await, at, "{c}");
    }
}

async fn who_moves_with_the_routes_is_said_exactly(over: Over) {
    let three = Three::start().await;
    let config = three.base();
    let proxy = Proxy::start(&config).await.over(over);
    let _tunnels = open(&proxy).await;
    let at = places(&proxy).await;
    let elsewhere = SECOND.replace("'app'", "'spare'");
    let seconds = CLIENTS.div_ceil(3) as u64;
    let firsts = CLIENTS as u64 - seconds;
    for (next, moving) in [
        (with(&config, SECOND, &elsewhere), seconds),
        // The first route takes what the second had, to the same place.
        (with(&config, SECOND, ""), 0),
        // Nobody takes what the first had.
        (with(&config, FIRST, ""), firsts),
        // Another name is none to a client.
        (with(&config, "name = 'chat'", "name = 'other'"), 0),
        // A new route takes some of them.
        (
            format!(
                "{config}{}",
                elsewhere
                    .replace("/second'", "/'")
                    .replace("'second'", "'x'")
            ),
            firsts,
        ),
        // Not for these clients.
        (
            format!(
                "{config}{}",
                elsewhere
                    .replace("path = '/second'", "host = 'x'")
                    .replace("'second'", "'x'")
            ),
            0,
        ),
    ] {
        let said = edit(&proxy, &next, &at, &at).await;
        assert_eq!(sum(&said), [0, moving, 0], "{said:?} of {next}");
        proxy.reload(&config).await;
    }
}

async fn who_moves_with_the_sticky_key_is_said_as_far_as_it_is_known(over: Over) {
    let three = Three::start().await;
    let config = three.base();
    let proxy = Proxy::start(&config).await.over(over);
    let _tunnels = open(&proxy).await;
    let at = places(&proxy).await;
    let all = CLIENTS as u64;
    for (sticky, expected) in [
        // Who had the first source has it still.
        (
            "sticky = ['query:key', 'header:x-user', 'client_ip']",
            Some([0, 0, 0]),
        ),
        // An address is kept: exactly those move whose addresses belong elsewhere.
        ("sticky = ['client_ip']", None),
        ("sticky = ['path:2', 'client_ip']", None),
        // What else a client has nobody knows.
        ("sticky = ['header:x-user', 'query:key']", Some([0, 0, all])),
        ("sticky = ['header:x-user']", Some([0, 0, all])),
    ] {
        let next = with(&config, STICKY, sticky);
        let said = edit(&proxy, &next, &at, &at).await;
        let [closed, moving, may_move] = sum(&said);
        match expected {
            Some(expected) => assert_eq!([closed, moving, may_move], expected, "{sticky}"),
            None => assert!(
                closed == 0 && moving > 0 && may_move == 0,
                "{sticky}: {said:?}"
            ),
        }
        proxy.reload(&config).await;
    }
}

async fn who_moves_with_the_balance_is_said_as_far_as_it_is_known(over: Over) {
    let three = Three::start().await;
    let hash = three.base();
    let least = with(
        &hash,
        STICKY,
        &format!("{STICKY}\nbalance = 'least_connections'"),
    );
    let proxy = Proxy::start(&least).await.over(over);
    let mut at = Vec::new();
    let mut tunnels = Vec::new();
    for client in Client::all() {
        let mut ws = proxy.ws_with(&client.target(), &client.headers()).await;
        at.push(ws.greeting().await);
        tunnels.push(ws);
    }
    // Keys send them from where they are by chance.
    let said = edit(&proxy, &hash, &at, &at).await;
    let [closed, moving, may_move] = sum(&said);
    assert!(closed == 0 && moving > 0 && may_move == 0, "{said:?}");
    // From there chance takes them anywhere.
    let said = edit(&proxy, &least, &at, &places(&proxy).await).await;
    assert_eq!(sum(&said), [0, 0, CLIENTS as u64]);
    // By chance still, but for those whose backend is used no longer.
    let disabled = with(
        &least,
        "{ name = \"b\",",
        "{ name = \"b\", state = 'disabled',",
    );
    let said = edit(&proxy, &disabled, &at, &at).await;
    let of_b = at.iter().filter(|name| *name == "b").count() as u64;
    assert_eq!(sum(&said), [0, of_b, 0]);
}

async fn routes_with_conditions_are_followed_as_far_as_they_are_known(over: Over) {
    let three = Three::start().await;
    let config = three.base();
    let proxy = Proxy::start(&config).await.over(over);
    let _tunnels = open(&proxy).await;
    let at = places(&proxy).await;
    let tenant = "[[routes]]\nname = 'tenant'\nheaders = { x-tenant = 'a' }\nupstream = 'spare'\n";
    let with_tenant = format!("{config}{tenant}");
    // Whether clients of the first route have this header nobody knows.
    let firsts = (CLIENTS - CLIENTS.div_ceil(3)) as u64;
    let said = edit(&proxy, &with_tenant, &at, &at).await;
    assert_eq!(sum(&said), [0, 0, firsts], "{said:?}");
    assert_eq!(places(&proxy).await, at);
    // Now it is known that they have not, or they would be there.
    let app = with(
        &with_tenant,
        "x-tenant = 'a' }\nupstream = 'spare'",
        "x-tenant = 'a' }\nupstream = 'app'",
    );
    assert_eq!(sum(&against(&proxy, &app)), [0, 0, 0]);
    let methods = tenant.replace("headers = { x-tenant = 'a' }", "methods = ['POST']");
    let post = format!("{config}{methods}");
    let said = edit(&proxy, &post, &at, &at).await;
    assert_eq!(sum(&said), [0, 0, 0], "{said:?}");
}
