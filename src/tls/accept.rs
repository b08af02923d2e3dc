//! The server's handshake under one deadline, and why it failed.
//!
//! It does not log, count or limit handshakes in flight: the caller holds the
//! permit.
//!
//! Invariant: whatever the client does, [`accept`] returns by its deadline.

use std::io;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use rustls::server::Accepted;
use rustls::{AlertDescription, CertificateError, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::facts::Facts;
use super::hello::hello;
use super::pair::{parse, system_time};
use super::server::ServerTls;
use super::{ACME_TLS_1, SEND_BUFFER};

/// The longest that a handshake keeps its turn: what is expensive has long been
/// calculated, and clients that stay away must not keep the others waiting.
const TURN: Duration = Duration::from_secs(1);

/// What rustls says if its resolver has none; a test holds it to that.
const NO_CERTIFICATE: &str = "no server certificate chain resolved";

/// Why a handshake did not finish. All but [`AcceptError::Io`] are the
/// client's doing.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("tls handshake did not finish by its deadline")]
    Timeout,
    #[error("client went away during the tls handshake")]
    Eof,
    #[error("client sent {0} to a tls port")]
    NotTls(Opening),
    #[error("client presented no certificate")]
    NoClientCertificate,
    #[error("client certificate is not accepted: {0}")]
    BadClientCertificate(CertificateError),
    /// It does not trust our certificate, or not for the name it asked for.
    #[error("client does not accept our certificate: {0:?}")]
    RefusedByClient(AlertDescription),
    /// No common version, cipher or ALPN protocol, or a breach of the protocol.
    #[error("tls handshake failed: {0}")]
    Protocol(rustls::Error),
    #[error("tls handshake failed: {0}")]
    Io(io::Error),
    /// The listener's certificates come by ACME, and this one has not come.
    #[error("there is no certificate yet for the name that the client asks for")]
    NoCertificate,
    /// Nothing is wrong: a CA has been shown what it asked for, and there is
    /// nothing more to say to it (RFC 8737 section 3).
    #[error("a CA has been shown the proof that it asked for")]
    Proven,
}

/// What came instead of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It was answered with 400.
    PlainHttp,
    Garbage,
}

impl AcceptError {
    /// The value of the metric label and of the log's `refusal`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Eof => "eof",
            Self::NotTls(_) => "not_tls",
            Self::NoClientCertificate => "no_client_certificate",
            Self::BadClientCertificate(_) => "bad_client_certificate",
            Self::RefusedByClient(_) => "refused_by_client",
            Self::Protocol(_) => "protocol",
            Self::Io(_) => "io",
            Self::NoCertificate => "no_certificate",
            Self::Proven => "proven",
        }
    }
}

/// Does the handshake of one accepted stream.
///
/// `turns` bounds the handshakes that are calculated at the same time: one is
/// taken once the whole ClientHello is there. The stream's send buffer is bounded by [`SEND_BUFFER`] when it is returned.
///
/// # Errors
/// In all of them the stream is dropped, after the alert that the protocol
/// asks for, or an HTTP answer if the client spoke plain HTTP.
pub async fn accept<S>(
    tls: ServerTls,
    mut stream: S,
    deadline: Instant,
    turns: &Semaphore,
) -> Result<(TlsStream<S>, Facts), AcceptError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let accepted = hello(&mut stream, deadline).await?;
    let (config, is_proof) = match tls.proof {
        Some(proof) if asks_for_proof(&accepted) => (proof, true),
        _ => (tls.usual, false),
    };
    let hello = StartHandshake::from_parts(accepted, stream);
    // Silence costs nothing and takes no turn: only what comes now does.
    let handshake = async {
        let turn = turns.acquire().await;
        let mut handshake = pin!(hello.into_stream(config));
        match timeout(TURN, &mut handshake).await {
            Ok(done) => done,
            Err(_) => {
                drop(turn);
                handshake.await
            }
        }
    };
    let handshake = timeout_at(deadline, handshake).await;
    let mut stream = handshake.map_err(|_| AcceptError::Timeout)??;
    if is_proof {
        // The proof has been shown, whether or not the CA waits for the end.
        let _ = timeout_at(deadline, stream.shutdown()).await;
        return Err(AcceptError::Proven);
    }
    let (_, connection) = stream.get_mut();
    let facts = Facts::of(connection);
    if facts.resumed {
        check_resumed_client(connection, SystemTime::now())?;
    }
    connection.set_buffer_limit(Some(SEND_BUFFER));
    Ok((stream, facts))
}

/// Whether it is a CA that asks, and no client that could speak HTTP.
fn asks_for_proof(accepted: &Accepted) -> bool {
    let hello = accepted.client_hello();
    let mut offered = hello.alpn().into_iter().flatten();
    offered.next() == Some(ACME_TLS_1) && offered.next().is_none()
}

/// A ticket carries the client's certificate past the end of its validity, and
/// rustls does not look again.
fn check_resumed_client(connection: &ServerConnection, now: SystemTime) -> Result<(), AcceptError> {
    let Some(leaf) = connection.peer_certificates().and_then(<[_]>::first) else {
        return Ok(());
    };
    match parse(leaf) {
        Ok(leaf) if now <= system_time(leaf.validity().not_after) => Ok(()),
        Ok(_) => Err(AcceptError::BadClientCertificate(CertificateError::Expired)),
        Err(_) => Err(AcceptError::BadClientCertificate(
            CertificateError::BadEncoding,
        )),
    }
}

/// tokio-rustls hands rustls's errors over inside of I/O errors.
impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(tls) => Self::from_rustls(tls),
            None => match error.kind() {
                UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe => Self::Eof,
                _ => Self::Io(error),
            },
        }
    }
}

impl AcceptError {
    pub(super) fn from_rustls(error: &rustls::Error) -> Self {
        use AlertDescription as Alert;
        match error {
            rustls::Error::NoCertificatesPresented => Self::NoClientCertificate,
            rustls::Error::InvalidCertificate(reason) => Self::BadClientCertificate(reason.clone()),
            rustls::Error::AlertReceived(Alert::CloseNotify | Alert::UserCanceled) => Self::Eof,
            rustls::Error::AlertReceived(
                alert @ (Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA),
            ) => Self::RefusedByClient(*alert),
            rustls::Error::General(reason) if reason == NO_CERTIFICATE => Self::NoCertificate,
            other => Self::Protocol(other.clone()),
        }
    }
}

impl std::fmt::Display for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PlainHttp => "plain http",
            Self::Garbage => "something else than tls",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::str;
    use std::sync::Arc;

    use rustls::ServerConfig;
    use tokio::io::{AsyncReadExt, duplex};

    use super::super::hello::LINGER_BYTES;
    use super::*;
    use crate::tls::tests::certificates::Ca;
    use crate::tls::tests::handshakes::{Clients, Servers, handshake};

    static TURNS: Semaphore = Semaphore::const_new(64);

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn config() -> Arc<ServerConfig> {
        let ca = Ca::new("ca");
        Servers::of(&ca.issue(&["a.test"])).config()
    }

    #[test]
    fn a_handshake_may_move_between_threads() {
        fn assert_send<T: Send>(_: &T) {}
        let (server, _client) = duplex(1);
        assert_send(&accept(config().into(), server, Instant::now(), &TURNS));
    }

    /// Sends `bytes`, then nothing; returns the verdict and what was answered.
    async fn send(bytes: &[u8]) -> (AcceptError, Vec<u8>) {
        let (server, mut client) = duplex(1024);
        let accepting = accept(config().into(), server, Instant::now() + TIMEOUT, &TURNS);
        let sending = async move {
            let mut answer = Vec::new();
            let _ = client.write_all(bytes).await;
            let _ = client.read_to_end(&mut answer).await;
            answer
        };
        let (verdict, answer) = tokio::join!(accepting, sending);
        (verdict.map(|(_, facts)| facts).unwrap_err(), answer)
    }

    /// A whole ClientHello, as rustls sends it.
    fn client_hello() -> Vec<u8> {
        let config = Clients::trusting(&Ca::new("ca")).config();
        let name = "a.test".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config, name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        hello
    }

    #[tokio::test(start_paused = true)]
    async fn plain_http_is_told_that_this_port_speaks_https() {
        for request in [
            "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "G",
        ] {
            let (verdict, answer) = send(request.as_bytes()).await;
            assert_eq!(verdict.label(), "not_tls");
            let answer = str::from_utf8(&answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
            assert!(body.contains("https"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_to_plain_http_is_bounded_too() {
        // A client that takes nothing, and one that never stops sending.
        let (server, mut client) = duplex(1);
        let start = Instant::now();
        let accepting = accept(config().into(), server, start + TIMEOUT, &TURNS);
        let (verdict, ()) = tokio::join!(accepting, async {
            client.write_all(b"G").await.unwrap();
        });
        assert_eq!(verdict.unwrap_err().label(), "not_tls");
        assert_eq!(start.elapsed(), TIMEOUT);

        let (server, mut client) = duplex(1024);
        let accepting = accept(config().into(), server, Instant::now() + TIMEOUT, &TURNS);
        let sent = async {
            let mut sent = 0;
            while client.write_all(&[b'G'; 1024]).await.is_ok() {
                sent += 1024;
            }
            sent
        };
        let (verdict, sent) = tokio::join!(accepting, sent);
        assert_eq!(verdict.unwrap_err().label(), "not_tls");
        assert!(sent <= LINGER_BYTES + 8192, "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn garbage_gets_no_answer() {
        for garbage in [&b"\x00\x01\x02"[..], b"\x80\x2e\x01", b"ssh", b"\n"] {
            let (verdict, answer) = send(garbage).await;
            assert!(matches!(verdict, AcceptError::NotTls(Opening::Garbage)));
            assert_eq!(answer, b"");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn garbage_in_a_record_is_a_breach_of_the_protocol() {
        for garbage in [
            &b"\x16\x03\x01\x00\x04\x01\xff\xff\xff\xff\xff\xff"[..],
            b"\x16\xff\xff\xff\xff\xff",
            b"\x16\x03\x01\x00\x00\x16\x03\x01\x00\x00",
        ] {
            let (verdict, _) = send(garbage).await;
            assert_eq!(verdict.label(), "protocol", "{garbage:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_meets_the_deadline_at_every_byte() {
        let hello = client_hello();
        for length in [0, 1, 4, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()] {
            let start = Instant::now();
            let (server, mut client) = duplex(64 * 1024);
            client.write_all(&hello[..length]).await.unwrap();
            let verdict = accept(config().into(), server, start + TIMEOUT, &TURNS).await;
            assert_eq!(verdict.unwrap_err().label(), "timeout", "at {length}");
            assert_eq!(start.elapsed(), TIMEOUT);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_away_is_an_eof_at_every_byte() {
        let hello = client_hello();
        for length in [0, 1, 5, hello.len() / 2, hello.len()] {
            let (server, mut client) = duplex(64 * 1024);
            client.write_all(&hello[..length]).await.unwrap();
            drop(client);
            let verdict = accept(config().into(), server, Instant::now() + TIMEOUT, &TURNS).await;
            assert_eq!(verdict.unwrap_err().label(), "eof", "at {length}");
        }
    }

    #[tokio::test]
    async fn a_hello_in_small_pieces_is_still_a_hello() {
        let ca = Ca::new("ca");
        let client = Clients::trusting(&ca);
        // Below six bytes two rustls peers of TLS 1.3 wait for each other, each
        // with an unsent ChangeCipherSpec; no real socket is that small.
        for (client, piece) in [(client.clone().only_tls_1_2(), 1), (client, 6)] {
            let server = Servers::of(&ca.issue(&["a.test"])).config();
            let connector = tokio_rustls::TlsConnector::from(client.config());
            let (server_side, client_side) = duplex(piece);
            let accepting = async {
                let deadline = Instant::now() + TIMEOUT;
                let (mut stream, _) = accept(server.into(), server_side, deadline, &TURNS)
                    .await
                    .unwrap();
                stream.write_all(b"x").await.unwrap();
                stream.flush().await.unwrap();
            };
            let connecting = async {
                let name = "a.test".try_into().unwrap();
                let mut stream = connector.connect(name, client_side).await.unwrap();
                // Reading takes the tickets, for which the server's side waits.
                assert_eq!(stream.read_u8().await.unwrap(), b'x');
            };
            tokio::join!(accepting, connecting);
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_trust_us_is_told_apart() {
        let server = Servers::of(&Ca::new("ca").issue(&["a.test"])).config();
        let client = Clients::trusting(&Ca::new("other")).config();
        let (accepted, _) = handshake(server, client, "a.test").await;
        assert_eq!(accepted.unwrap_err().label(), "refused_by_client");
    }

    #[tokio::test]
    async fn a_resumed_client_certificate_must_still_be_valid() {
        let ca = Ca::new("ca");
        let dir = tempfile::tempdir().unwrap();
        let server = Servers::of(&ca.issue(&["a.test"])).asking(&ca.write(dir.path(), "ca"), true);
        let client = Clients::trusting(&ca).with(&ca.issue_for_years(&["b.test"], 2020, 2900));
        let (accepted, _) = handshake(server.config(), client.config(), "a.test").await;
        let (stream, _) = accepted.unwrap();
        let at = |years: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(years * 31_556_952);
        let connection = stream.get_ref().1;
        assert!(check_resumed_client(connection, at(900)).is_ok());
        let late = check_resumed_client(connection, at(931)).unwrap_err();
        assert_eq!(late.label(), "bad_client_certificate");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_owed_a_bounded_amount() {
        let ca = Ca::new("ca");
        let server = Servers::of(&ca.issue(&["a.test"])).config();
        let client = Clients::trusting(&ca).config();
        let (accepted, connected) = handshake(server, client, "a.test").await;
        let (mut stream, _) = accepted.unwrap();
        let _silent = connected.unwrap();
        let taken = io::Write::write(&mut stream.get_mut().1.writer(), &[0; 1 << 20]).unwrap();
        assert!(taken <= SEND_BUFFER, "{taken}");
    }
}
