//! TLS: how connections are encrypted, and who their peers have shown themselves to be.

mod asked;
mod binding;
mod ciphers;
mod clients;
mod curves;
mod der;
mod files;
mod identity;
mod peer;
mod protocols;
mod records;
mod servers;
mod stream;
mod trust;
mod v1;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::CommonState;
use settings::{Settings, SslMode};
use thiserror::Error;

pub use self::clients::ClientTls;
pub use self::peer::PeerCertificate;
pub use self::servers::ServerTls;
pub use self::stream::{ParkedTls, TlsStream};

/// The library, for people.
pub const LIBRARY: &str = "rustls 0.23 (aws-lc-rs)";

/// The first byte of a connection that begins with TLS.
pub const HANDSHAKE: u8 = 0x16;

/// The protocol's name in the handshake.
const ALPN: &[u8] = b"postgresql";

/// TLS as it is in force; `None` is switched off.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Towards clients.
    pub clients: Option<Arc<ClientTls>>,
    /// Towards servers.
    pub servers: Option<Arc<ServerTls>>,
}

/// Why the settings can't be followed; the text stands behind `TLS setup failed: `.
#[derive(Debug, Error)]
pub enum TlsSetupError {
    /// A file can't be read.
    #[error("failed to load {what} file \"{path}\": {error}")]
    File {
        /// What it is for.
        what: &'static str,
        /// Its path.
        path: String,
        /// The system's words, or what is wrong inside.
        error: io::Error,
    },
    /// The key is another certificate's.
    #[error("private/public key mismatch")]
    Mismatch,
    /// A setting that needs another one.
    #[error("{0} needs {1}")]
    Needs(String, String),
    /// A value that can't be followed.
    #[error("invalid {0}: {1}")]
    Invalid(String, String),
    /// A suite that nobody knows.
    #[error("failed to set the TLSv1.3 cipher suites: {0}: {1}")]
    Suites(String, String),
    /// The library refuses.
    #[error("{0}")]
    Library(#[from] rustls::Error),
}

/// Why a handshake came to nothing.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The connection closed or broke.
    #[error("handshake failed: {0}")]
    Io(io::Error),
    /// The two sides did not agree, or one refused the other.
    #[error("handshake failed: {}", told(.0))]
    Tls(rustls::Error),
    /// A server that was connected to directly speaks another protocol.
    #[error("handshake failed: the server did not agree to ALPN \"postgresql\"")]
    Alpn,
}

/// In OpenSSL's words, where people look for them.
fn told(error: &rustls::Error) -> String {
    use rustls::CertificateError as Fault;
    match error {
        rustls::Error::InvalidCertificate(fault) => {
            let fault = match fault {
                Fault::UnknownIssuer => "unable to get local issuer certificate".to_owned(),
                Fault::BadSignature => "certificate signature failure".to_owned(),
                Fault::ExpiredContext { .. } => "certificate has expired".to_owned(),
                Fault::NotValidYetContext { .. } => "certificate is not yet valid".to_owned(),
                Fault::NotValidForName => "hostname mismatch".to_owned(),
                Fault::Other(error) => error.0.to_string(),
                other => other.to_string(),
            };
            format!("certificate verify failed: {fault}")
        }
        rustls::Error::NoCertificatesPresented => "peer did not return a certificate".to_owned(),
        other => other.to_string(),
    }
}

impl HandshakeError {
    /// True if the certificate is at fault, so that trying again will not help.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Tls(rustls::Error::InvalidCertificate(_)))
    }
}

impl From<HandshakeError> for io::Error {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Io(error) => error,
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// What was agreed on in a handshake.
#[derive(Debug, Clone)]
pub struct Secured {
    /// Protocol and cipher.
    pub cipher: Cipher,
    /// The certificate that the peer has shown, if it was verified.
    pub peer: Option<Arc<PeerCertificate>>,
    /// The server certificate's hash, which SCRAM may be bound to (tls-server-end-point); `None`
    /// if none is defined for it.
    pub end_point: Option<Arc<[u8]>>,
}

/// Protocol and cipher, by OpenSSL's names; prints as tables show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cipher {
    version: &'static str,
    suite: &'static str,
    /// Told of connections to servers only, as PgBouncer does.
    curve: Option<&'static str>,
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.version, self.suite)?;
        match self.curve {
            Some(curve) => write!(f, "/ECDH={curve}"),
            None => Ok(()),
        }
    }
}

impl Cipher {
    fn of(agreed: &CommonState) -> Self {
        let suite = agreed.negotiated_cipher_suite();
        Self {
            version: protocols::name(agreed.protocol_version()),
            suite: suite.map_or("-", ciphers::name),
            curve: None,
        }
    }

    fn with_curve(mut self, agreed: &CommonState) -> Self {
        let curve = agreed.negotiated_key_exchange_group();
        self.curve = curve.map(|curve| curves::name(curve.name()));
        self
    }
}

impl Tls {
    /// Reads what the settings name.
    pub fn load(settings: &Settings) -> Result<Self, TlsSetupError> {
        Self::default().renewed(settings)
    }

    /// The same after something may have changed: what would be the same is kept, and with it the
    /// sessions that can be resumed and the servers that were opened.
    pub fn renewed(&self, settings: &Settings) -> Result<Self, TlsSetupError> {
        Ok(Self {
            clients: ClientTls::load(settings, self.clients.as_ref())?,
            servers: ServerTls::load(settings, self.servers.as_ref())?,
        })
    }

    /// What the library can't do of that which was asked for.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let clients = self.clients.iter().flat_map(|tls| tls.warnings());
        let servers = self.servers.iter().flat_map(|tls| tls.warnings());
        clients.chain(servers).map(String::as_str)
    }

    /// When our certificates run out: the one that clients see, and the one that servers do.
    pub fn expiries(&self) -> [Option<SystemTime>; 2] {
        [
            self.clients.as_ref().and_then(|tls| tls.expiry()),
            self.servers.as_ref().and_then(|tls| tls.expiry()),
        ]
    }

    /// Whether servers opened under `other` are what is asked for now.
    pub fn has_same_servers(&self, other: &Self) -> bool {
        same(self.servers.as_ref(), other.servers.as_ref())
    }

    /// Whether anything is new.
    pub fn is_same(&self, other: &Self) -> bool {
        self.has_same_servers(other) && same(self.clients.as_ref(), other.clients.as_ref())
    }
}

fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

fn is_required(mode: SslMode) -> bool {
    !matches!(mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer)
}
