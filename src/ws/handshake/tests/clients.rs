//! Handshakes of browsers, tools and of clients behind other proxies.

use super::Accepted;
use super::libraries::DEFLATE;

pub const BROWSERS: &[Accepted] = &[
    (
        "Chrome",
        "GET /ws HTTP/1.1
         Host: chat.example.com
         Connection: Upgrade
         Pragma: no-cache
         Cache-Control: no-cache
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36
         Upgrade: websocket
         Origin: https://chat.example.com
         Sec-WebSocket-Version: 13
         Accept-Encoding: gzip, deflate, br, zstd
         Accept-Language: en-GB,en;q=0.9
         Sec-WebSocket-Key: 8vnTdDk2JqZ2GXhH2kAqjw==
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        &[],
        DEFLATE,
    ),
    (
        "Chrome with two subprotocols",
        "GET /graphql HTTP/1.1
         Host: api.example.com
         Connection: Upgrade
         Upgrade: websocket
         Origin: https://api.example.com
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
         Sec-WebSocket-Protocol: graphql-transport-ws, graphql-ws",
        &["graphql-transport-ws", "graphql-ws"],
        DEFLATE,
    ),
    (
        "Firefox",
        "GET /ws HTTP/1.1
         Host: chat.example.com
         User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0
         Accept: */*
         Accept-Language: en-US,en;q=0.5
         Accept-Encoding: gzip, deflate, br, zstd
         Sec-WebSocket-Version: 13
         Origin: https://chat.example.com
         Sec-WebSocket-Extensions: permessage-deflate
         Sec-WebSocket-Key: M8hyL2rVn1PJZ2IgcFGtHA==
         Connection: keep-alive, Upgrade
         Sec-Fetch-Dest: empty
         Sec-Fetch-Mode: websocket
         Sec-Fetch-Site: same-origin
         Pragma: no-cache
         Cache-Control: no-cache
         Upgrade: websocket",
        &[],
        DEFLATE,
    ),
    (
        "Safari",
        "GET /ws HTTP/1.1
         Host: chat.example.com
         Origin: https://chat.example.com
         Sec-WebSocket-Key: aCPIgA2tPwEWZS7BTXMvoQ==
         Sec-WebSocket-Version: 13
         Upgrade: websocket
         Sec-WebSocket-Extensions: permessage-deflate
         Cache-Control: no-cache
         Pragma: no-cache
         Connection: Upgrade
         User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
        &[],
        DEFLATE,
    ),
    (
        "Safari before 15",
        "GET /ws HTTP/1.1
         Upgrade: websocket
         Connection: Upgrade
         Host: chat.example.com
         Sec-WebSocket-Extensions: x-webkit-deflate-frame
         Sec-WebSocket-Key: Ddb4XQEIWOITHhQ0PkCGdA==
         Sec-WebSocket-Version: 13",
        &[],
        &["x-webkit-deflate-frame"],
    ),
    (
        "Internet Explorer 11",
        "GET /ws HTTP/1.1
         Origin: http://chat.example.com
         Sec-WebSocket-Key: 8p1K4dbkW4v2ebw4hEBmVg==
         Connection: Upgrade
         Upgrade: Websocket
         Sec-WebSocket-Version: 13
         User-Agent: Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko
         Host: chat.example.com
         Cache-Control: no-cache",
        &[],
        &[],
    ),
    (
        "Phoenix LiveView, token among the subprotocols",
        "GET /live/websocket?vsn=2.0.0 HTTP/1.1
         Host: app.example.com
         Connection: Upgrade
         Upgrade: websocket
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: 6T1w7cPSq4sS4O0lDuH3cg==
         Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.U0ZNeU5UWQ",
        &["phoenix", "base64url.bearer.phx.U0ZNeU5UWQ"],
        &[],
    ),
    (
        "Kubernetes dashboard",
        "GET /api/v1/namespaces/default/pods/a/exec?command=sh HTTP/1.1
         Host: k8s.example.com
         Connection: Upgrade
         Upgrade: websocket
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: qzX8jnxTDgq1x2dHqbBzWA==
         Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.ZXlK",
        &[
            "v5.channel.k8s.io",
            "v4.channel.k8s.io",
            "base64url.bearer.authorization.k8s.io.ZXlK",
        ],
        &[],
    ),
];

pub const TOOLS: &[Accepted] = &[
    (
        "curl",
        "GET / HTTP/1.1
         Host: localhost:8080
         User-Agent: curl/8.11.0
         Accept: */*
         Upgrade: websocket
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: NDUzNDUzNDUzNDUzNDUzNA==
         Connection: Upgrade",
        &[],
        &[],
    ),
    (
        "k6",
        "GET /ws HTTP/1.1
         Host: localhost:8080
         User-Agent: k6/0.55.0 (https://k6.io/)
         Connection: Upgrade
         Sec-WebSocket-Key: tCsNpUbFcUpHvOGWeStwTw==
         Sec-WebSocket-Version: 13
         Upgrade: websocket",
        &[],
        &[],
    ),
    (
        "MQTT.js",
        "GET /mqtt HTTP/1.1
         Host: broker.example.com
         Connection: Upgrade
         Upgrade: websocket
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: HYyC6HwRjWd8WYHq1SMGYQ==
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
         Sec-WebSocket-Protocol: mqtt",
        &["mqtt"],
        DEFLATE,
    ),
    (
        "Paho Python",
        "GET /mqtt HTTP/1.1
         Host: broker.example.com:8083
         Upgrade: websocket
         Connection: Upgrade
         Origin: https://broker.example.com:8083
         Sec-WebSocket-Key: L159VM0TWUzyDxwJEIEzjw==
         Sec-Websocket-Version: 13
         Sec-Websocket-Protocol: mqtt",
        &["mqtt"],
        &[],
    ),
    (
        "Paho JavaScript, both names of MQTT",
        "GET /mqtt HTTP/1.1
         Host: broker.example.com
         Connection: Upgrade
         Upgrade: websocket
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: L159VM0TWUzyDxwJEIEzjw==
         Sec-WebSocket-Protocol: mqttv3.1
         Sec-WebSocket-Protocol: mqtt",
        &["mqttv3.1", "mqtt"],
        &[],
    ),
];

pub const BY_WAY_OF_PROXIES: &[Accepted] = &[
    (
        "behind nginx with the usual header map",
        "GET /ws HTTP/1.1
         Upgrade: websocket
         Connection: upgrade
         Host: backend
         X-Forwarded-For: 203.0.113.9
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        &[],
        &[],
    ),
    (
        "behind two proxies that both set Upgrade",
        "GET /ws HTTP/1.1
         Host: backend
         Upgrade: websocket,websocket
         Connection: Upgrade,Upgrade
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        &[],
        &[],
    ),
    (
        "repeated lines of both",
        "GET /ws HTTP/1.1
         Host: backend
         Upgrade: WebSocket
         Upgrade: websocket
         Connection: close
         Connection: UPGRADE
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        &[],
        &[],
    ),
    (
        "empty list elements and tabs",
        "GET /ws HTTP/1.1
         Host: backend
         Upgrade: ,\twebsocket ,
         Connection: , keep-alive,\t, Upgrade
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
         Sec-WebSocket-Protocol: a,, b ,
         Sec-WebSocket-Extensions: ,foo ; x=1,, bar",
        &["a", "b"],
        &["foo", "bar"],
    ),
    (
        "all lower case",
        "GET /ws HTTP/1.1
         host: backend
         upgrade: websocket
         connection: upgrade
         sec-websocket-version: 13
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        &[],
        &[],
    ),
    (
        "all upper case",
        "GET /ws HTTP/1.1
         HOST: BACKEND
         UPGRADE: WEBSOCKET
         CONNECTION: UPGRADE
         SEC-WEBSOCKET-VERSION: 13
         SEC-WEBSOCKET-KEY: dGhlIHNhbXBsZSBub25jZQ==",
        &[],
        &[],
    ),
];
