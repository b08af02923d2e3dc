//! What the examples about the life of backends are there to show.

use super::features::Example;
use crate::kit::{Ws, eventually};

impl Example {
    pub async fn admission(self) {
        let ws = Ws::open(self.public().await, "/?room=7", "h", "").await;
        // The tunnel begins just after the client has its 101.
        self.proxy.log.wait("tunnel opened", &[]).await;
        let status = self.proxy.status().await;
        let backends = status["upstreams"][0]["backends"].as_array().cloned();
        let backends = backends.expect("backends");
        let sum = |key: &str| backends.iter().filter_map(|one| one[key].as_u64()).sum();
        let (tunnels, handshakes, queued): (u64, u64, u64) =
            (sum("tunnels"), sum("handshakes"), sum("queued"));
        assert_eq!((tunnels, handshakes, queued), (1, 0, 0), "{status}");
        drop(ws);
    }

    pub async fn auth(self) {
        let asked = self.backend.requests();
        let asked = asked.iter().find(|request| request.target == "/verify");
        let asked = asked.expect("a question");
        assert_eq!(asked.header("x-forwarded-uri"), Some("/ws/x"));
    }

    pub async fn discovery_dns(self) {
        // Nobody answers for the reader's names here.
        let refused = [("refusal", "no_backend"), ("upstream", "chat")];
        self.proxy.log.wait("request", &refused).await;
    }

    pub async fn discovery_file(self) {
        let found = self
            .proxy
            .log
            .wait("backends found", &[("upstream", "chat")])
            .await;
        assert_eq!(found.number("backends"), 1);
    }

    pub async fn ejection(self) {
        let Self { proxy, backend, .. } = self;
        backend.stop().await;
        for _ in 0..40 {
            let mut wire = proxy.connect_to("public").await;
            wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
            assert_eq!(wire.response().await.head.status, 502);
        }
        let ejected = || proxy.log.all(|event| event.message == "backend is ejected");
        eventually("one to be ejected", || !ejected().is_empty()).await;
        // A third of three.
        assert_eq!(ejected().len(), 1);
    }
}
