//! TLS towards clients: we are the side with the certificate.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::SystemTime;

use events::Socket;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::{CommonState, ServerConfig};
use settings::{Settings, SslMode};

use super::asked::Asked;
use super::files::{Files, Print, Printer};
use super::identity::Identity;
use super::records::Session;
use super::trust::{ClientVerifier, Trust};
use super::{
    ALPN, Cipher, HandshakeError, PeerCertificate, Secured, TlsSetupError, TlsStream, is_required,
};

/// TLS towards clients.
pub struct ClientTls {
    required: bool,
    config: Arc<ServerConfig>,
    end_point: Option<Arc<[u8]>>,
    expiry: Option<SystemTime>,
    warnings: Vec<String>,
    print: Print,
}

impl ClientTls {
    pub(super) fn load(
        settings: &Settings,
        old: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, TlsSetupError> {
        let mode = settings.client_tls_sslmode;
        if mode == SslMode::Disable {
            return Ok(None);
        }
        let files = Files {
            side: "client_tls",
            ca: settings.client_tls_ca_file.as_deref(),
            cert: settings.client_tls_cert_file.as_deref(),
            key: settings.client_tls_key_file.as_deref(),
        };
        let mut printer = Printer::default();
        let Some(identity) = files.identity(&mut printer)? else {
            return Err(files.needs("sslmode", "cert_file"));
        };
        let authorities = files.authorities(&mut printer)?;
        let authorities = match (mode, authorities) {
            // The world's authorities issue certificates to anybody.
            (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
                return Err(files.needs("sslmode", "ca_file"));
            }
            (SslMode::VerifyCa | SslMode::VerifyFull, authorities) => authorities,
            _ => None,
        };
        printer.add(mode.as_str());
        let asked = Asked::of_clients(settings, &mut printer)?;
        let print = printer.print();
        if let Some(old) = old.filter(|old| old.print == print) {
            return Ok(Some(old.clone()));
        }
        Ok(Some(Arc::new(Self {
            required: is_required(mode),
            end_point: identity.end_point(),
            expiry: identity.expiry(),
            config: Arc::new(configure(&asked, identity, authorities)?),
            warnings: asked.warnings,
            print,
        })))
    }

    /// What the library can't do of that which was asked for.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// When our certificate runs out.
    pub(super) fn expiry(&self) -> Option<SystemTime> {
        self.expiry
    }

    /// Whether a client may not talk in the clear.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// The hash of our certificate that SCRAM may be bound to.
    pub(super) fn end_point(&self) -> Option<&Arc<[u8]>> {
        self.end_point.as_ref()
    }

    /// Answers the handshake of a client, which may have arrived in part.
    pub(crate) fn begin(&self, tcp: Socket, arrived: Vec<u8>) -> Result<TlsStream, HandshakeError> {
        Ok(TlsStream::new(tcp, self.session()?, arrived))
    }

    pub(super) fn session(&self) -> Result<Session, HandshakeError> {
        let session = UnbufferedServerConnection::new(self.config.clone());
        session.map(Session::Client).map_err(HandshakeError::Tls)
    }

    /// Waits until the handshake is over.
    pub(crate) async fn conclude(&self, stream: &mut TlsStream) -> Result<(), HandshakeError> {
        let secured = |agreed: &CommonState| {
            let shown = agreed.peer_certificates().and_then(|chain| chain.first());
            Ok(Secured {
                cipher: Cipher::of(agreed),
                // Nobody is asked for a certificate that will not be verified.
                peer: shown.map(|leaf| Arc::new(PeerCertificate::read(leaf))),
                end_point: self.end_point().cloned(),
            })
        };
        poll_fn(|cx| stream.poll_handshake(cx, secured)).await
    }
}

fn configure(
    asked: &Asked,
    identity: Identity,
    authorities: Option<Vec<CertificateDer<'static>>>,
) -> Result<ServerConfig, TlsSetupError> {
    let provider = asked.provider();
    let verifies = authorities.is_some();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&asked.protocols.versions())?;
    let builder = match authorities {
        Some(authorities) => {
            let trust = Trust::new(authorities, &provider)?;
            builder.with_client_cert_verifier(Arc::new(ClientVerifier::new(trust)?))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.ignore_client_order = true;
    // A session that is resumed brings back the client it began with, whatever has become of its
    // certificate: where certificates count, every handshake is a whole one.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if verifies {
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = Ticketer::new()?;
        config.send_tls13_tickets = 1;
    }
    Ok(config)
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls(…)")
    }
}
