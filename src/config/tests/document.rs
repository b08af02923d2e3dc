//! `docs/configuration.md` is true: its examples parse, it has every key and
//! no other, and its defaults are the defaults.

use std::collections::BTreeSet;

use super::{found, parsed, shipped};
use crate::config::keys::{KEYS, MAIN};
use crate::route::PRECEDENCE;

/// A complete config to which a section can be added.
const REST: &str = r#"
listeners.a.address = "[::]:1"
routes = [{ upstream = "a" }]
upstreams.a.backends = [{ address = "a:1" }]
"#;

const HTTPS: &str = r#"
[upstreams.b]
scheme = "https"
backends = [{ address = "b:1" }]
"#;

/// The same for what belongs to `[acme]`.
fn opened_for_acme(title: &str) -> String {
    let external = match title {
        "[acme]" => "",
        _ => "[acme.external_account]\nkey_id = \"k\"\nkey_file = \"f\"\n",
    };
    format!(
        "[listeners.b]\naddress = \"[::]:2\"\ncertificates = \"acme\"\n\
         acme_names = [\"b.test\"]\n[acme]\nagree_to_terms = true\n{external}"
    )
}

/// The same for what belongs to a route.
fn opened_below_a_route(title: &str) -> String {
    let below = match title.trim_end_matches(" of [[routes]]") {
        "`basic_auth`" => "[routes.basic_auth]\nusers = \"u\"\n",
        "`jwt`" => "[routes.jwt]\nkeys = \"https://a/k\"\n",
        "`message_limits`" => "[routes.message_limits]\n",
        "`auth`" => "[routes.auth]\nupstream = \"a\"\n",
        other => panic!("what is {other}?"),
    };
    let rest = REST.replace("routes = [{ upstream = \"a\" }]", "");
    format!("{rest}[[routes]]\nupstream = \"a\"\n{below}")
}

/// The section `title`, such that its keys may follow.
fn opened(title: &str) -> String {
    if title.ends_with("[acme]") {
        return opened_for_acme(title);
    }
    let tls = "[listeners.b]\naddress = \"[::]:2\"\n";
    let pair = "chain = \"a\"\nkey = \"b\"\n";
    match title {
        "[admin]" => "[admin]\nsocket = \"a.sock\"\nlisten = \"127.0.0.1:1\"\n".to_owned(),
        "[listeners.NAME]" => "[listeners.b]\naddress = \"unix:b\"\n".to_owned(),
        "`proxy_protocol` of [listeners.NAME]" => "[listeners.b]\naddress = \"[::]:2\"\n\
             [listeners.b.proxy_protocol]\nfrom = [\"10.0.0.0/8\"]\n"
            .to_owned(),
        "`certificates` of [listeners.NAME]" => {
            format!("{tls}[[listeners.b.certificates]]\n{pair}")
        }
        "`client_certificates` of [listeners.NAME]" => format!(
            "{tls}certificates = [{{ chain = \"a\", key = \"b\" }}]\n\
             [listeners.b.client_certificates]\nca = \"c\"\n"
        ),
        "[[routes]]" => {
            REST.replace("routes = [{ upstream = \"a\" }]", "")
                + "[[routes]]\nhost = \"*\"\nupstream = \"a\"\n"
        }
        "[upstreams.NAME]" => "[upstreams.b]\nbackends = [{ address = \"b:1\" }]\n".to_owned(),
        "`cookie` of [upstreams.NAME]" => "[upstreams.b]\nsticky = \"cookie\"\n\
             backends = [{ address = \"b:1\" }]\n[upstreams.b.cookie]\n"
            .to_owned(),
        "`tls` of [upstreams.NAME]" => format!("{HTTPS}[upstreams.b.tls]\n"),
        "`client_certificate` of `tls` of [upstreams.NAME]" => {
            format!("{HTTPS}[upstreams.b.tls.client_certificate]\n{pair}")
        }
        "`backends` of [upstreams.NAME]" => {
            "[upstreams.b]\n[[upstreams.b.backends]]\naddress = \"b:1\"\n".to_owned()
        }
        "`health` of [upstreams.NAME]" => "[upstreams.b]\nbackends = [{ address = \"b:1\" }]\n\
             [upstreams.b.health]\ntype = \"http\"\n"
            .to_owned(),
        "`discovery` of [upstreams.NAME]" => {
            "[upstreams.b.discovery]\ndns = \"b\"\nport = 1\n".to_owned()
        }
        "`drain` of [upstreams.NAME]" => {
            "[upstreams.b]\nbackends = [{ address = \"b:1\" }]\n[upstreams.b.drain]\n".to_owned()
        }
        "`close_codes` of [drain]" => "[drain.close_codes]\n".to_owned(),
        "`close_codes` of `drain` of [upstreams.NAME]" => "[upstreams.b]\n\
             backends = [{ address = \"b:1\" }]\n[upstreams.b.drain.close_codes]\n"
            .to_owned(),
        "`admission` of [upstreams.NAME]" => "[upstreams.b]\nbackends = [{ address = \"b:1\" }]\n\
             [upstreams.b.admission]\nmax_handshakes_in_flight = 9\n"
            .to_owned(),
        "`rebalance` of [upstreams.NAME]" => "[upstreams.b]\n\
             backends = [{ address = \"b:1\" }]\n[upstreams.b.rebalance]\n"
            .to_owned(),
        of_routes if of_routes.ends_with(" of [[routes]]") => opened_below_a_route(of_routes),
        "`ejection` of [upstreams.NAME]" => "[upstreams.b]\nbackends = [{ address = \"b:1\" }]\n\
             [upstreams.b.ejection]\n"
            .to_owned(),
        plain => format!("{plain}\n{}", required(plain)),
    }
}

/// What such a section cannot do without.
fn required(title: &str) -> &'static str {
    match title {
        "[traces]" => "endpoint = \"https://b/\"\n",
        _ => "",
    }
}

/// A complete config with `line` in the section `title`.
fn with_line(title: &str, line: &str) -> String {
    match title {
        MAIN => format!("{line}\n{REST}"),
        routes if routes.ends_with("[[routes]]") => format!("{}{line}\n", opened(title)),
        _ => format!("{REST}{}{line}\n", opened(title)),
    }
}

fn document() -> String {
    std::fs::read_to_string(shipped("../docs/configuration.md")).unwrap()
}

/// The cells of the rows below the heading of a section: key, type, default,
/// meaning.
fn rows(document: &str, title: &str) -> Vec<Vec<String>> {
    let heading = title.replace('`', "").replace("the main", "The main");
    let mut sections = document.split("\n#").filter_map(|section| {
        let section = section.trim_start_matches('#').trim_start();
        section.split_once('\n')
    });
    let (_, body) = sections
        .find(|(name, _)| *name == heading)
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let body = body.split("The sources of a sticky key").next().unwrap();
    let rows = body.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells = row.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

#[test]
fn the_list_of_keys_is_what_is_read() {
    for (title, keys) in KEYS {
        let found = found(&with_line(title, "zzzzzz = 1"));
        let title = title.replace("NAME", "b");
        let expected = format!(
            "unknown key `zzzzzz` in {title}\n  allowed: {}",
            keys.join(", ")
        );
        assert!(found.contains(&expected), "{found}\nis not\n{expected}");
    }
}

#[test]
fn the_order_of_routes_is_there() {
    let section = document();
    let section = section.split("\n## [[routes]]\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    assert!(section.contains(PRECEDENCE), "no {PRECEDENCE:?}");
}

#[test]
fn every_key_is_there_and_no_other() {
    let document = document();
    for (title, keys) in KEYS {
        let rows = rows(&document, title);
        let documented: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
        let known: BTreeSet<_> = keys.iter().copied().collect();
        assert_eq!(
            documented.iter().copied().collect::<BTreeSet<_>>(),
            known,
            "{title}"
        );
        assert_eq!(
            documented.len(),
            known.len(),
            "a key of {title} is there twice"
        );
        for row in rows {
            assert_eq!(row.len(), 4, "{row:?}");
            assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        }
    }
}

#[test]
fn the_defaults_are_the_defaults() {
    let document = document();
    let mut seen = 0;
    for (title, _) in KEYS {
        for row in rows(&document, title) {
            let key = row[0].trim_matches('`');
            let literal = row[2].strip_prefix('`').and_then(|d| d.strip_suffix('`'));
            let Some(default) = literal.filter(|d| !d.contains('`')) else {
                continue;
            };
            if key == "host" {
                continue;
            }
            let needed = match key {
                "redirect_port" => "redirect_to_https = true\n",
                "websocket_over_http2" if *title == "[upstreams.NAME]" => "http2 = true\n",
                "side" => "max_frame = \"1KiB\"\n",
                "missing_origin" => "allowed_origins = [\"same_host\"]\n",
                _ => "",
            };
            let written = with_line(title, &format!("{needed}{key} = {default}"));
            assert_eq!(
                parsed(&written),
                parsed(&with_line(title, needed)),
                "{key} of {title} is not {default}"
            );
            seen += 1;
        }
    }
    assert!(seen > 35, "only {seen} defaults");
}

/// A fragment with what it lacks to be a config.
fn completed(fragment: &str) -> String {
    let mut text = fragment.to_owned();
    if !fragment.contains("[listeners.") {
        text.push_str("\n[listeners.completed]\naddress = \"[::]:0\"\n");
    }
    if !fragment.contains("[[routes]]") {
        text.push_str("\n[[routes]]\nupstream = \"completed\"\n");
    }
    for name in ["completed", "chat"] {
        let named = text.contains(&format!("upstream = \"{name}\""));
        if named && !text.contains(&format!("[upstreams.{name}]")) {
            text.push_str(&format!(
                "\n[upstreams.{name}]\nbackends = [{{ address = \"10.0.0.1:9000\" }}]\n"
            ));
        }
    }
    text
}

#[test]
fn every_block_is_a_config() {
    let document = document();
    let (mut whole, mut fragments) = (0, 0);
    for block in document.split("\n```").skip(1).step_by(2) {
        let (kind, text) = block.split_once('\n').unwrap();
        match kind {
            "toml" => {
                parsed(text);
                whole += 1;
            }
            "toml fragment" => {
                parsed(&completed(text));
                fragments += 1;
            }
            "text" => {}
            other => panic!("a block of {other:?}"),
        }
    }
    assert!(whole >= 2 && fragments >= 10, "{whole}, {fragments}");
}

#[test]
fn the_messages_shown_are_the_messages() {
    let document = document();
    let shown = document.split("```text\n").nth(1).unwrap();
    let shown = shown.split("```").next().unwrap().trim_end();
    let text = "include = []\n\n[listeners.public]\nadress = \"[::]:80\"\n\n[[routes]]\n\
                upstream = \"chta\"\n\n[upstreams.chat]\nbackends = [{ address = \"a:1\" }]\n";
    assert_eq!(found(text), shown);
}
