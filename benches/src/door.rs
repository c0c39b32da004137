//! How clients come in: what they prove, and whether over TLS.

use std::{io, sync::Arc};

use rustls::client::Resumption;
use testkit::{
    Authority, Certificate, Key, PoolerSetup, quick_scram_secret, request_tls, startup_packet,
    trusting_tls,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::session::NAME;

/// How clients come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// They are believed.
    Trust,
    /// They prove a password, of which the pooler has a verifier.
    Scram,
    /// They prove a password that the pooler has as it is.
    ScramPlain,
    /// They are believed, over TLS.
    Tls,
    /// They prove a password, over TLS.
    TlsScram,
}

/// The password of all clients. Poolers that have a verifier of it have one with a single iteration,
/// so that clients, who share the cores with them, prove it at next to no cost.
pub(crate) const PASSWORD: &str = "not a secret";

/// The certificate of all poolers, of a P-256 key.
pub(crate) struct Papers {
    certificate: Certificate,
    /// Has the files.
    _authority: Authority,
}

/// A connection, over TLS or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connections of clients to be.
#[derive(Clone)]
pub(crate) struct Way {
    door: Door,
    connector: TlsConnector,
    user: String,
    database: String,
}

impl Papers {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("bench");
        let request = authority.request("localhost").key(Key::EcPkcs8);
        let certificate = request.extension("subjectAltName = DNS:localhost").issue();
        Self {
            certificate,
            _authority: authority,
        }
    }
}

impl Door {
    /// Is what is said encrypted?
    fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::TlsScram)
    }

    /// Tells a pooler.
    pub(crate) fn furnish(self, setup: PoolerSetup, user: &str, papers: &Papers) -> PoolerSetup {
        let setup = match self {
            Self::Trust | Self::Tls => setup.user(user, "").set("auth_type", "trust"),
            Self::ScramPlain => setup.user(user, PASSWORD).set("auth_type", "scram-sha-256"),
            Self::Scram | Self::TlsScram => setup
                .user(user, &quick_scram_secret(PASSWORD))
                .set("auth_type", "scram-sha-256"),
        };
        let Certificate { cert, key } = &papers.certificate;
        match self.is_encrypted() {
            true => setup
                .set("client_tls_sslmode", "require")
                .set("client_tls_cert_file", cert.display())
                .set("client_tls_key_file", key.display()),
            false => setup,
        }
    }
}

impl Way {
    /// Each connection begins anew, as libpq's do: no TLS session is resumed.
    pub(crate) fn through(door: Door) -> Self {
        let mut config = trusting_tls();
        config.resumption = Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        Self {
            door,
            connector,
            user: NAME.to_owned(),
            database: NAME.to_owned(),
        }
    }

    /// The same to another database, as another user.
    pub(crate) fn to(&self, database: &str, user: &str) -> Self {
        Self {
            user: user.to_owned(),
            database: database.to_owned(),
            ..self.clone()
        }
    }

    /// The startup packet of those who come this way.
    pub(crate) fn hello(&self) -> Vec<u8> {
        startup_packet(&[("user", &self.user), ("database", &self.database)])
    }

    /// What a client says the startup packet to.
    pub(crate) async fn enter(&self, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        Ok(match self.door.is_encrypted() {
            true => Box::new(request_tls(&self.connector, stream).await?),
            false => Box::new(stream),
        })
    }
}
