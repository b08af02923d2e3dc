use crate::config::{Source, parse};

const BASE: &str = r#"include = []

[listeners.public]
address = "[::]:80"

[[routes]]
upstream = "chat"

[upstreams.chat]
backends = [
  { name = "a", address = "10.0.0.1:9000" },
]
"#;

fn found(old: &str, new: &str) -> String {
    assert_eq!(BASE.matches(old).count(), 1, "{old}");
    let text = BASE.replacen(old, new, 1);
    parse(&Source::new("longhaul.toml", text), &[])
        .unwrap_err()
        .to_string()
}
#[test]
fn show() {
    for (old, new) in [
        ("address = \"[::]:80\"", "adress = \"[::]:80\""),
        ("include = []", "workers = \"2\""),
        ("include = []", "workers = 0"),
        ("include = []", "include = \"routes.d/*.toml\""),
        (
            "include = []",
            "trusted_proxies = [\"10.0.0.1/8\", \"nonsense\", 5]",
        ),
        (
            "include = []",
            "[limits]\nkeepalive_timeout = 75\nfirst_byte_timeout = \"10 sec\"\nmax_request_head = \"32k\"\nrequest_body_timeout = \"0s\"\ntls_handshake_timeout=\"ten\"\nrequest_head_timeout=\"99999d\"",
        ),
        (
            "include = []",
            "[log]\nformat = \"jsn\"\nlevel = \"inof\"\naccess = \"yes\"\nquery_values=\"true\"",
        ),
        (
            "include = []",
            "[drain]\nwindow = \"2m\"\nclose_code = 1006\nclose_timeout = \"off\"",
        ),
        (
            "include = []",
            "[tcp]\nkeepalive_idle = \"250ms\"\nkeepalive_probes = 200\nworkers = 2",
        ),
        ("include = []", "[admin]\nmode = 600"),
        ("[::]:80", "*:80"),
        ("[::]:80", "localhost:80"),
        (
            "[::]:80",
            "unix:/tmp/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sock",
        ),
        (
            "address = \"[::]:80\"",
            "address = \"[::]:80\"\nredirect_to_https = true\ncertificates = [{ chian = \"a.pem\", key = \"a.key\" }, 3]",
        ),
        (
            "address = \"[::]:80\"",
            "address = \"[::]:80\"\nclient_certificates = { ca = \"ca.pem\" }\ntls_1_3_only = true\nredirect_port = 443\nmode = \"0660\"",
        ),
        (
            "[[routes]]",
            "[listeners.other]\naddress = \"[::]:80\"\n\n[[routes]]",
        ),
        ("[listeners.public]\naddress = \"[::]:80\"\n", ""),
        ("upstream = \"chat\"", "upstream = \"chta\""),
        (
            "upstream = \"chat\"",
            "host = \"https://chat.example.com\"\npath = \"ws/*\"\nmethods = [\"get\"]\nupgrades = [\"websocket\", \"h2c\"]\nidle_timeout = \"never\"\nmax_lifetime_jitter = 10\ndial_timeout = \"3s\"",
        ),
        (
            "upstream = \"chat\"",
            "upstream = \"chat\"\nhost = \"a.example:443\"\npath = \"/ws*\"\nheaders = { x-a = \"1\", X-A = \"2\", host = \"b\", \"a b\" = \"c\" }",
        ),
        (
            "upstream = \"chat\"",
            "upstream = \"chat\"\n\n[[routes]]\nupstream = \"chat\"\npath = \"/*\"",
        ),
        (
            "upstream = \"chat\"",
            "upstream = \"chat\"\n\n[[routes]]\nupstream = \"chat\"\nmethods = [\"GET\"]",
        ),
        (
            "[upstreams.chat]",
            "[upstreams.chat]\nbalance = \"leastconn\"\nsticky = [\"client_ip\", \"cookie:a b\", \"coki:x\", \"path:0\", \"query:\"]\ncookie = { nam = \"x\" }",
        ),
        (
            "[upstreams.chat]",
            "[upstreams.chat]\nscheme = \"https\"\nmax_attempts = 0\ntls = { server_name = \"a:443\" }\non_removed = \"close\"",
        ),
        (
            "[upstreams.chat]",
            "[upstreams.chat]\nsticky = []\ntls = { ca = \"ca.pem\" }",
        ),
        (
            "  { name = \"a\", address = \"10.0.0.1:9000\" },",
            "  { name = \"a\", address = \"10.0.0.1:9000\" },\n  { name = \"a\", address = \"10.0.0.1:9000\", weight = 0 },\n { name = \"b\", address = \"http://10.0.0.1:9001/\" },\n { name = \"c\", address = \"10.0.0.2\" },\n \"10.0.0.3:9000\"",
        ),
        ("  { name = \"a\", address = \"10.0.0.1:9000\" },\n", ""),
        (
            "backends = [\n",
            "backends = [\n  { name = \"b\", address = \"10.0.0.1:9000\" }\n",
        ),
        ("]\n", "\n"),
        ("\"chat\"", "chat"),
        ("\"chat\"", "\"chat\"\nupstream = \"b\""),
        ("},\n]", "},\n\n[drain]\nwindow = \"1s\"\n"),
        ("\"chat\"", "\"\"\"chat\nmore"),
        ("[listeners.public]", "[listener.public]"),
        ("[listeners.public]", "[[listeners]]"),
        ("[[routes]]", "[routes]"),
        ("[upstreams.chat]", "[upstreams.\"a b\"]"),
    ] {
        println!(
            "------ {new}\n{}",
            std::panic::catch_unwind(|| found(old, new)).unwrap_or_default()
        );
    }
}
