//! A reverse proxy of hyper and tokio and nothing else: the floor of whoever parses heads with them.
//!
//! It deliberately has no routes, limits, deadlines, logs, metrics or header hygiene, and picks no backend. Requests go
//! over kept connections, an upgrade over one of its own whose bytes tokio copies. One thread, the allocator is the
//! C library's.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Result;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header, server};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

type Body = BoxBody<Bytes, hyper::Error>;

/// Connections to the backend that wait for a request.
type Idle = Rc<RefCell<Vec<SendRequest<Body>>>>;

/// Serves `listen` from `backend`, for ever.
///
/// # Errors
/// When it cannot listen.
pub fn run(listen: SocketAddr, backend: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(accept(listen, backend)))
}

async fn accept(listen: SocketAddr, backend: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    rustix::net::listen(&listener, 16_384)?;
    let idle = Idle::default();
    println!("ready");
    loop {
        // One that was reset before it was accepted.
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        socket.set_nodelay(true).ok();
        let idle = Rc::clone(&idle);
        let service = service_fn(move |request| answer(request, backend, Rc::clone(&idle)));
        let connection = server::conn::http1::Builder::new()
            .preserve_header_case(true)
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades();
        tokio::task::spawn_local(async move { connection.await.ok() });
    }
}

async fn answer(
    mut request: Request<Incoming>,
    backend: SocketAddr,
    idle: Idle,
) -> Result<Response<Body>> {
    let upgrades = request.headers().contains_key(header::UPGRADE);
    let client = upgrades.then(|| hyper::upgrade::on(&mut request));
    let kept = if upgrades {
        None
    } else {
        idle.borrow_mut().pop()
    };
    let mut sender = match kept {
        Some(sender) => sender,
        None => connect(backend).await?,
    };
    let request = request.map(BodyExt::boxed);
    let mut response = sender.send_request(request).await?;
    let Some(client) = client.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS)
    else {
        // The benchmark's answers come whole with their head, so it is free again.
        idle.borrow_mut().push(sender);
        return Ok(response.map(BodyExt::boxed));
    };
    let server = hyper::upgrade::on(&mut response);
    tokio::task::spawn_local(async move {
        let mut client = TokioIo::new(client.await?);
        let mut server = TokioIo::new(server.await?);
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        anyhow::Ok(())
    });
    let nothing = Empty::new().map_err(|never| match never {}).boxed();
    Ok(response.map(|_| nothing))
}

async fn connect(backend: SocketAddr) -> Result<SendRequest<Body>> {
    let socket = TcpStream::connect(backend).await?;
    socket.set_nodelay(true)?;
    let (sender, connection) = Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(socket))
        .await?;
    tokio::task::spawn_local(async move { connection.with_upgrades().await.ok() });
    Ok(sender)
}
