//! TLS on a socket of a random life: its far end is a rustls session that is
//! worked by hand, its near end what a tunnel in tokio gets.

use std::io::{self, ErrorKind, Read, Write};
use std::pin::pin;
use std::rc::Rc;
use std::sync::LazyLock;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::ground::FarSocket;
use super::rig::Near;
use super::*;

/// A far end with TLS.
pub(super) struct Sealed {
    session: ClientConnection,
    socket: Box<FarSocket>,
    broken: bool,
    /// It has said that it sends no more.
    ends: bool,
}

static CONFIGS: LazyLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = LazyLock::new(|| {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chain = vec![certified.cert.der().clone()];
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let connects = ClientConfig::builder().with_root_certificates(roots);
    let accepts = ServerConfig::builder().with_no_client_auth();
    (
        connects.with_no_client_auth().into(),
        accepts.with_single_cert(chain, key).unwrap().into(),
    )
});

/// Has both ends of a socket shake hands.
pub(super) fn seal(far: FarSocket, near: Near, runtime: &Rc<Runtime>) -> (FarSocket, Near) {
    let (connects, accepts) = &*CONFIGS;
    let name = ServerName::try_from("localhost").unwrap();
    let mut far = Sealed {
        session: ClientConnection::new(Arc::clone(connects), name).unwrap(),
        socket: Box::new(far),
        broken: false,
        ends: false,
    };
    let accepted = runtime.block_on(async {
        let acceptor = TlsAcceptor::from(Arc::clone(accepts));
        let mut accept = pin!(acceptor.accept(near.into_tokio()));
        loop {
            far.pump(true);
            tokio::select! {
                biased;
                accepted = &mut accept => break accepted.unwrap(),
                () = tokio::task::yield_now() => {}
            }
        }
    });
    let near = Near::Tls(Box::new(accepted.into()), Rc::clone(runtime));
    (FarSocket::Tls(Box::new(far)), near)
}

impl Sealed {
    pub(super) fn socket(&self) -> &FarSocket {
        &self.socket
    }

    /// Whether the socket has yet to take what the session has made.
    pub(super) fn is_flushing(&self) -> bool {
        self.session.wants_write() && !self.broken
    }

    /// Moves records between session and socket; says whether it moved any.
    pub(super) fn pump(&mut self, reads: bool) -> bool {
        let mut moved = false;
        while self.is_flushing() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => moved = true,
                Err(error) => {
                    self.broken |= error.kind() != ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        while reads && self.session.wants_read() && !self.broken {
            match self.session.read_tls(&mut self.socket) {
                Ok(read) => {
                    self.broken |= self.session.process_new_packets().is_err();
                    if read == 0 {
                        break;
                    }
                    moved = true;
                }
                Err(error) => {
                    self.broken |= error.kind() != ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        moved
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pump(true);
        match self.session.reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.broken => {
                Err(ErrorKind::ConnectionReset.into())
            }
            read => read,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pump(false);
        if self.broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.is_flushing() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = self.session.writer().write(bytes);
        self.pump(false);
        written
    }

    /// Ends the stream once all is written; says whether it has.
    pub(super) fn end(&mut self) -> bool {
        if !self.ends {
            self.session.send_close_notify();
            self.ends = true;
        }
        self.pump(false);
        !self.is_flushing() && self.socket.end()
    }
}
