//! TLS for peers that speak the protocol in the clear: a tunnel before a client, a door before a
//! server.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::{address::Address, certificates::Certificate};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// How a client does TLS that believes every certificate.
pub fn trusting_tls() -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the library's own choice")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    config
}

/// Goes on over TLS, as PostgreSQL's clients do: asks first.
pub async fn request_tls(
    connector: &TlsConnector,
    mut stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    stream.write_all(&SSL_REQUEST).await?;
    if stream.read_u8().await? != b'S' {
        return Err(io::Error::other("the server has no TLS"));
    }
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    connector.connect(name, stream).await
}

/// Takes clients in the clear and goes on to a server over TLS, whoever that is.
pub struct TlsTunnel {
    address: Address,
    task: JoinHandle<()>,
}

impl TlsTunnel {
    /// Asks the server for TLS, as PostgreSQL's clients do.
    pub async fn to(server: &Address) -> Self {
        Self::open(server, true).await
    }

    /// Begins with TLS at once.
    pub async fn directly_to(server: &Address) -> Self {
        Self::open(server, false).await
    }

    /// Where clients come in.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    async fn open(server: &Address, asks: bool) -> Self {
        let connector = TlsConnector::from(Arc::new(trusting_tls()));
        let Address::Tcp(server) = server.clone() else {
            panic!("TLS is for TCP: {server:?}");
        };
        let (listener, address) = listen().await;
        let task = tokio::spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((mut inner, _)) = listener.accept().await {
                let connector = connector.clone();
                ways.spawn(async move {
                    let outer = TcpStream::connect(server).await?;
                    let _ = (inner.set_nodelay(true), outer.set_nodelay(true));
                    let mut outer = if asks {
                        request_tls(&connector, outer).await?
                    } else {
                        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                        connector.connect(name, outer).await?
                    };
                    copy_bidirectional(&mut inner, &mut outer).await
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for TlsTunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes clients over TLS, or in the clear, and goes on to a server in the clear.
pub struct TlsDoor {
    port: u16,
    visits: watch::Receiver<Vec<Visit>>,
    task: JoinHandle<()>,
}

/// How a client came through a [`TlsDoor`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visit {
    /// In the clear.
    Clear,
    /// Over TLS.
    Encrypted {
        /// The name that the client asked for.
        name: Option<String>,
        /// Whether it resumed an earlier session.
        resumed: bool,
    },
}

/// How a client begins.
enum Beginning {
    /// With a request for TLS, or with TLS.
    Encrypted,
    /// With anything else.
    Clear,
}

impl TlsDoor {
    /// A door with this certificate.
    pub async fn before(server: &Address, certificate: &Certificate) -> Self {
        let chain = CertificateDer::pem_file_iter(&certificate.cert).expect("a certificate");
        let chain: Result<Vec<_>, _> = chain.collect();
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the library's own choice")
            .with_no_client_auth()
            .with_single_cert(chain.expect("a certificate"), key(&certificate.key))
            .expect("a certificate of version 3");
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let Address::Tcp(server) = server.clone() else {
            panic!("TLS is for TCP: {server:?}");
        };
        let (listener, address) = listen().await;
        let Address::Tcp(here) = address else {
            unreachable!("we listen on TCP");
        };
        let (book, visits) = watch::channel(Vec::new());
        let book = Arc::new(book);
        let task = tokio::spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((mut outer, _)) = listener.accept().await {
                let (acceptor, book) = (acceptor.clone(), book.clone());
                ways.spawn(async move {
                    let _ = outer.set_nodelay(true);
                    let mut inner = TcpStream::connect(server).await?;
                    let _ = inner.set_nodelay(true);
                    match begin(&mut outer).await? {
                        Beginning::Clear => {
                            book.send_modify(|visits| visits.push(Visit::Clear));
                            copy_bidirectional(&mut outer, &mut inner).await
                        }
                        Beginning::Encrypted => {
                            let mut outer = acceptor.accept(outer).await?;
                            let (_, agreed) = outer.get_ref();
                            let visit = Visit::Encrypted {
                                name: agreed.server_name().map(str::to_owned),
                                resumed: agreed.handshake_kind() == Some(HandshakeKind::Resumed),
                            };
                            book.send_modify(|visits| visits.push(visit));
                            copy_bidirectional(&mut outer, &mut inner).await
                        }
                    }
                });
            }
        });
        Self {
            port: here.port(),
            visits,
            task,
        }
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection string for a pooler's `[databases]`, by this name of the machine.
    pub fn conn_info(&self, host: &str, database: &str) -> String {
        format!("host={host} port={} dbname={database}", self.port)
    }

    /// All who came so far, in order.
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.borrow().clone()
    }
}

impl Drop for TlsDoor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers a request for TLS, and leaves everything else to be read.
async fn begin(stream: &mut TcpStream) -> io::Result<Beginning> {
    let mut front = [0; SSL_REQUEST.len()];
    loop {
        let count = stream.peek(&mut front).await?;
        if front[0] == 0x16 {
            return Ok(Beginning::Encrypted);
        }
        if count == front.len() {
            break;
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        tokio::task::yield_now().await;
    }
    if front != SSL_REQUEST {
        return Ok(Beginning::Clear);
    }
    stream.read_exact(&mut front).await?;
    stream.write_all(b"S").await?;
    Ok(Beginning::Encrypted)
}

fn key(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).expect("a private key")
}

async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    (listener, Address::Tcp(address))
}

/// Believes every certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = default_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
