//! A backend that gives every request the answer that the test has set.

use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::message::Request;
use super::wire::{Transport, Wire};

pub struct Fixed {
    address: String,
    answer: Arc<Mutex<String>>,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Fixed {
    /// `answer` is a status line and headers, without the line that ends them.
    pub async fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let answer = Arc::new(Mutex::new(answer.to_owned()));
        let requests = Arc::default();
        let task = tokio::spawn(accept(listener, Arc::clone(&answer), Arc::clone(&requests)));
        Self {
            address,
            answer,
            requests,
            task,
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn set(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().expect("no panic"));
    }

    /// Request heads so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }
}

impl Drop for Fixed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    answer: Arc<Mutex<String>>,
    requests: Arc<Mutex<Vec<Request>>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("to accept");
        let (answer, requests) = (Arc::clone(&answer), Arc::clone(&requests));
        connections.spawn(async move {
            let mut wire = Wire::new(Transport::Tcp(stream));
            while wire.readable().await {
                let Some(request) = wire.next_request().await else {
                    return;
                };
                requests.lock().expect("no panic").push(request);
                let head = answer.lock().expect("no panic").clone();
                let sent = wire.try_send(format!("{head}\r\ncontent-length: 0\r\n\r\n"));
                if sent.await.is_err() {
                    return;
                }
            }
        });
    }
}
