//! Over real TLS: nothing stays in its buffers, and a peer that leaves without
//! `close_notify` has ended normally.

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;

/// A client's TLS stream and longhaul's end of it.
async fn tls() -> (
    client::TlsStream<DuplexStream>,
    server::TlsStream<DuplexStream>,
) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chain = vec![certified.cert.der().clone()];
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let accepts = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let connects = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (far, near) = duplex(4096);
    let (far, near) = tokio::join!(
        TlsConnector::from(Arc::new(connects))
            .connect(ServerName::try_from("localhost").unwrap(), far),
        TlsAcceptor::from(Arc::new(accepts)).accept(near),
    );
    (far.unwrap(), near.unwrap())
}

#[tokio::test(start_paused = true)]
async fn bytes_and_ends_pass_through_tls() {
    let registry = registry();
    let (mut client, near_client) = tls().await;
    let (mut backend, near_backend) = duplex(1000);
    let (_, task) = start(
        &registry,
        &options(Framing::Opaque),
        near_client,
        near_backend,
    );
    let sent: Vec<u8> = (0..300_000u32).map(|i| (i / 3) as u8).collect();
    let (mut seen, mut echoed) = (vec![0; sent.len()], vec![0; sent.len()]);
    let (read, write) = tokio::io::split(&mut backend);
    let (mut read, mut write) = (read, write);
    let echo = async {
        read.read_exact(&mut seen).await.unwrap();
        write.write_all(&seen).await.unwrap();
    };
    let ask = async {
        client.write_all(&sent).await.unwrap();
        client.flush().await.unwrap();
        client.read_exact(&mut echoed).await.unwrap();
    };
    tokio::join!(echo, ask);
    assert!(echoed == sent && seen == sent);
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    backend.read_to_end(&mut rest).await.unwrap();
    backend.write_all(b"late").await.unwrap();
    drop(backend);
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"late");
    let outcome = task.await.unwrap();
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Client, Cause::Eof)
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_without_close_notify_has_ended_normally() {
    let registry = registry();
    let (mut client, near_client) = tls().await;
    let (mut backend, near_backend) = duplex(1000);
    let (_, task) = start(
        &registry,
        &options(Framing::Opaque),
        near_client,
        near_backend,
    );
    client.write_all(b"last words").await.unwrap();
    client.flush().await.unwrap();
    let (bare, _) = client.into_inner();
    drop(bare);
    let mut seen = Vec::new();
    backend.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, b"last words");
    drop(backend);
    let outcome = task.await.unwrap();
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Client, Cause::TlsEof)
    );
}
