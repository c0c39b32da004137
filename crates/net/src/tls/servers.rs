//! TLS towards servers: they are the side with the certificate, and we may have one, too.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::SystemTime;

use events::Socket;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, CommonState};
use settings::{Settings, SslMode, TlsNegotiation};

use super::asked::Asked;
use super::files::{Files, Print, Printer};
use super::identity::Identity;
use super::records::Session;
use super::trust::{ServerVerifier, Trust};
use super::{
    ALPN, Cipher, HandshakeError, Secured, TlsSetupError, TlsStream, binding, is_required,
};

/// TLS towards servers.
pub struct ServerTls {
    required: bool,
    direct: bool,
    names: bool,
    expiry: Option<SystemTime>,
    config: Arc<ClientConfig>,
    warnings: Vec<String>,
    print: Print,
}

impl ServerTls {
    pub(super) fn load(
        settings: &Settings,
        old: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, TlsSetupError> {
        let mode = settings.server_tls_sslmode;
        if mode == SslMode::Disable {
            return Ok(None);
        }
        let files = Files {
            side: "server_tls",
            ca: settings.server_tls_ca_file.as_deref(),
            cert: settings.server_tls_cert_file.as_deref(),
            key: settings.server_tls_key_file.as_deref(),
        };
        let mut printer = Printer::default();
        let identity = files.identity(&mut printer)?;
        let authorities = match (mode, files.authorities(&mut printer)?) {
            (SslMode::VerifyCa | SslMode::VerifyFull, None) => Some(files.world(&mut printer)?),
            (SslMode::VerifyCa | SslMode::VerifyFull, authorities) => authorities,
            _ => None,
        };
        let names = mode == SslMode::VerifyFull;
        let direct = settings.server_tls_negotiation == TlsNegotiation::Direct;
        if direct && !is_required(mode) {
            // A server that has no TLS could not say so.
            let (key, other) = ("server_tls_negotiation", "server_tls_sslmode = require");
            return Err(TlsSetupError::Needs(key.to_owned(), other.to_owned()));
        }
        printer.add(mode.as_str());
        printer.add(settings.server_tls_negotiation.as_str());
        let asked = Asked::of_servers(settings, &mut printer)?;
        let print = printer.print();
        if let Some(old) = old.filter(|old| old.print == print) {
            return Ok(Some(old.clone()));
        }
        Ok(Some(Arc::new(Self {
            required: is_required(mode),
            direct,
            names,
            expiry: identity.as_ref().and_then(Identity::expiry),
            config: Arc::new(configure(&asked, identity, authorities, names)?),
            warnings: asked.warnings,
            print,
        })))
    }

    /// What the library can't do of that which was asked for.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// When our certificate runs out, if we have one.
    pub(super) fn expiry(&self) -> Option<SystemTime> {
        self.expiry
    }

    /// Whether a server may not be talked to in the clear.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Whether the handshake begins without asking the server for it.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Whether a server's certificate must be for its name.
    pub(crate) fn checks_names(&self) -> bool {
        self.names
    }

    /// Opens a handshake with the server of that name.
    pub(crate) fn begin(
        &self,
        tcp: Socket,
        name: ServerName<'static>,
    ) -> Result<TlsStream, HandshakeError> {
        Ok(TlsStream::new(tcp, self.session(name)?, Vec::new()))
    }

    pub(super) fn session(&self, name: ServerName<'static>) -> Result<Session, HandshakeError> {
        let session = UnbufferedClientConnection::new(self.config.clone(), name);
        session.map(Session::Server).map_err(HandshakeError::Tls)
    }

    /// Waits until the handshake is over.
    pub(crate) async fn conclude(&self, stream: &mut TlsStream) -> Result<(), HandshakeError> {
        let secured = |agreed: &CommonState| {
            // Without asking, only this tells that it is PostgreSQL's protocol.
            if self.direct && agreed.alpn_protocol() != Some(ALPN) {
                return Err(HandshakeError::Alpn);
            }
            let shown = agreed.peer_certificates().and_then(|chain| chain.first());
            Ok(Secured {
                cipher: Cipher::of(agreed).with_curve(agreed),
                peer: None,
                end_point: shown.and_then(|leaf| binding::end_point(leaf)),
            })
        };
        poll_fn(|cx| stream.poll_handshake(cx, secured)).await
    }
}

fn configure(
    asked: &Asked,
    identity: Option<Identity>,
    authorities: Option<Vec<CertificateDer<'static>>>,
    names: bool,
) -> Result<ClientConfig, TlsSetupError> {
    let provider = asked.provider();
    let verifies = authorities.is_some();
    let trust = authorities.map(|them| Trust::new(them, &provider));
    let verifier = ServerVerifier::new(trust.transpose()?, names, &provider);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&asked.protocols.versions())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    if verifies {
        // A resumed session would bring back a certificate that has perhaps run out.
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(…)")
    }
}
