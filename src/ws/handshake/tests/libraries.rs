//! Handshakes of WebSocket libraries.

use super::Accepted;

pub const DEFLATE: &[&str] = &["permessage-deflate"];

pub const LIBRARIES: &[Accepted] = &[
    (
        "Node ws",
        "GET / HTTP/1.1
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: wDqumtseNBJdhkihL6PW7w==
         Connection: Upgrade
         Upgrade: websocket
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
         Host: localhost:8080",
        &[],
        DEFLATE,
    ),
    (
        "Node undici",
        "GET / HTTP/1.1
         host: localhost:8080
         connection: upgrade
         upgrade: websocket
         sec-websocket-key: MNVAGvANJEoUELaKXKTKaw==
         sec-websocket-version: 13
         sec-websocket-extensions: permessage-deflate; client_max_window_bits
         accept: */*
         accept-language: *
         sec-fetch-mode: websocket
         user-agent: undici
         pragma: no-cache
         cache-control: no-cache
         accept-encoding: gzip, deflate",
        &[],
        DEFLATE,
    ),
    (
        "Bun",
        "GET / HTTP/1.1
         Host: localhost:8080
         Connection: Upgrade
         Upgrade: websocket
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
         Sec-WebSocket-Key: mOTVCmhKv6ay9hIzv3ic5Q==",
        &[],
        DEFLATE,
    ),
    (
        "Deno",
        "GET / HTTP/1.1
         host: localhost:8080
         upgrade: websocket
         connection: Upgrade
         sec-websocket-key: RoqDYxqSxGw8QvHh9ZP0fQ==
         user-agent: Deno/2.1.0
         sec-websocket-version: 13",
        &[],
        &[],
    ),
    (
        "Python websockets",
        "GET / HTTP/1.1
         Host: localhost:8765
         Upgrade: websocket
         Connection: Upgrade
         Sec-WebSocket-Key: fmTHZOOtLfhSBXX4hX2aUA==
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
         User-Agent: Python/3.12 websockets/13.1",
        &[],
        DEFLATE,
    ),
    (
        "Python websocket-client",
        "GET / HTTP/1.1
         Upgrade: websocket
         Host: localhost:8765
         Origin: http://localhost:8765
         Sec-WebSocket-Key: TXa5kXhtJtXz5gbKy7ZuKw==
         Sec-WebSocket-Version: 13
         Connection: Upgrade",
        &[],
        &[],
    ),
    (
        "Python aiohttp",
        "GET / HTTP/1.1
         Host: localhost:8765
         Upgrade: websocket
         Connection: Upgrade
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: H7lyVxMpEd0JMEAY0pAg4Q==
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
         Accept: */*
         Accept-Encoding: gzip, deflate
         User-Agent: Python/3.12 aiohttp/3.11",
        &[],
        DEFLATE,
    ),
    (
        "Go gorilla",
        "GET /ws HTTP/1.1
         Host: localhost:8080
         User-Agent: Go-http-client/1.1
         Connection: Upgrade
         Sec-WebSocket-Key: hPVCjPXKw2sRQFQ7ERkdqg==
         Sec-WebSocket-Version: 13
         Upgrade: websocket",
        &[],
        &[],
    ),
    (
        "Go coder/websocket",
        "GET /ws HTTP/1.1
         Host: localhost:8080
         User-Agent: Go-http-client/1.1
         Connection: Upgrade
         Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover
         Sec-WebSocket-Key: MhMg4ca7zbUZ7rZ4gUQFdA==
         Sec-WebSocket-Protocol: mqtt
         Sec-WebSocket-Version: 13
         Upgrade: websocket",
        &["mqtt"],
        DEFLATE,
    ),
    (
        "Rust tungstenite",
        "GET / HTTP/1.1
         Host: localhost:9000
         Connection: Upgrade
         Upgrade: websocket
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: 5oVTNdUzTqvAvN9hPKQl8w==",
        &[],
        &[],
    ),
    (
        "Java Tyrus",
        "GET /ws HTTP/1.1
         Connection: Upgrade
         Host: localhost:8025
         Origin: localhost:8025
         Sec-WebSocket-Key: tT0oPQdjxNlHcEjwMHMdVg==
         Sec-WebSocket-Version: 13
         Upgrade: websocket",
        &[],
        &[],
    ),
    (
        "Java HttpClient",
        "GET /ws HTTP/1.1
         Connection: Upgrade
         Content-Length: 0
         Host: localhost:8080
         Sec-WebSocket-Key: 4TNlnlJcCI8hmjWNFSyfiA==
         Sec-WebSocket-Version: 13
         Upgrade: websocket
         User-Agent: Java-http-client/17.0.9",
        &[],
        &[],
    ),
    (
        "Java Jetty",
        "GET /ws HTTP/1.1
         Accept-Encoding: gzip
         User-Agent: Jetty/11.0.20
         Upgrade: websocket
         Connection: Upgrade
         Sec-WebSocket-Key: c6xaoWqxZq9s8n2gJJGmzg==
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Extensions: permessage-deflate, permessage-bzip2;level=9
         Pragma: no-cache
         Cache-Control: no-cache
         Host: localhost:8080",
        &[],
        &["permessage-deflate", "permessage-bzip2"],
    ),
    (
        "Netty",
        "GET /ws HTTP/1.1
         upgrade: websocket
         connection: upgrade
         sec-websocket-key: pKYl0nFyhWT2yLfvBSeOQQ==
         host: localhost:8080
         sec-websocket-version: 13
         content-length: 0",
        &[],
        &[],
    ),
    (
        ".NET ClientWebSocket",
        "GET /hub?id=8Zz HTTP/1.1
         Host: localhost:5000
         Connection: Upgrade
         Upgrade: websocket
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Key: aOBKTUTVTOCSS7D4nA1SHQ==
         X-Requested-With: XMLHttpRequest",
        &[],
        &[],
    ),
    (
        "OkHttp",
        "GET /ws HTTP/1.1
         Upgrade: websocket
         Connection: Upgrade
         Sec-WebSocket-Key: VkFoYkTWZFz9PQlxHAuOMQ==
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Extensions: permessage-deflate
         Host: localhost:8080
         Accept-Encoding: gzip
         User-Agent: okhttp/4.12.0",
        &[],
        DEFLATE,
    ),
    (
        "Apple URLSession",
        "GET /ws HTTP/1.1
         Host: chat.example.com
         Sec-WebSocket-Key: 0pRrzS8jzN8sPq1WlYVYDw==
         Sec-WebSocket-Version: 13
         Upgrade: websocket
         Accept: */*
         Sec-WebSocket-Extensions: permessage-deflate
         User-Agent: Example/1 CFNetwork/1568 Darwin/24.0.0
         Accept-Language: en-GB,en;q=0.9
         Connection: Upgrade",
        &[],
        DEFLATE,
    ),
    (
        "Dart",
        "GET /ws HTTP/1.1
         user-agent: Dart/3.5 (dart:io)
         connection: Upgrade
         cache-control: no-cache
         accept-encoding: gzip
         sec-websocket-version: 13
         host: chat.example.com
         sec-websocket-extensions: permessage-deflate; client_max_window_bits
         sec-websocket-key: dpRFqE0TPx0EXqxUCxCSDQ==
         upgrade: websocket",
        &[],
        DEFLATE,
    ),
    (
        "Ruby faye-websocket",
        "GET /cable HTTP/1.1
         Host: localhost:3000
         Upgrade: websocket
         Connection: Upgrade
         Sec-WebSocket-Key: Q8tx6V9vyRBHKjjYbLkBIQ==
         Sec-WebSocket-Version: 13
         Sec-WebSocket-Protocol: actioncable-v1-json, actioncable-unsupported",
        &["actioncable-v1-json", "actioncable-unsupported"],
        &[],
    ),
    (
        "Erlang gun",
        "GET /ws HTTP/1.1
         connection: upgrade
         upgrade: websocket
         sec-websocket-version: 13
         sec-websocket-key: d3V1dXV1dXV1dXV1dXV1dQ==
         host: localhost:8080",
        &[],
        &[],
    ),
    (
        "Boost.Beast",
        "GET / HTTP/1.1
         Host: localhost:8080
         Upgrade: websocket
         Connection: upgrade
         Sec-WebSocket-Key: VTHH4YwEvrHYbB2Q9eCXZA==
         Sec-WebSocket-Version: 13
         User-Agent: Boost.Beast/347",
        &[],
        &[],
    ),
    (
        "libwebsockets",
        "GET /lws HTTP/1.1
         Pragma: no-cache
         Cache-Control: no-cache
         Host: localhost
         Origin: http://localhost
         Upgrade: websocket
         Connection: Upgrade
         Sec-WebSocket-Key: yhrjG1Eh3wUDmOWG4LEDfQ==
         Sec-WebSocket-Protocol: lws-minimal
         Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; client_max_window_bits
         Sec-WebSocket-Version: 13",
        &["lws-minimal"],
        DEFLATE,
    ),
];
