//! Whom we believe: certificates of both versions, checked against configured authorities.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    RootCertStore, SignatureScheme,
};

use super::der::Parts;
use super::{TlsSetupError, peer, v1};

/// Authorities that are believed.
pub(super) struct Trust {
    authorities: Vec<CertificateDer<'static>>,
    anchors: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// Believes these.
    pub(super) fn new(
        authorities: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsSetupError> {
        let mut anchors = RootCertStore::empty();
        for authority in &authorities {
            anchors.add(authority.clone())?;
        }
        Ok(Self {
            authorities,
            anchors: Arc::new(anchors),
            provider: provider.clone(),
        })
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }

    /// Checks a certificate; those with extensions by `chain`.
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        now: UnixTime,
        chain: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.authorities.iter().any(|authority| authority == leaf) {
            // PostgreSQL's manual makes its first certificate like this: it is its own authority.
            v1::in_force(leaf, now)
        } else if v1::is_v1(leaf) {
            v1::verify(leaf, &self.authorities, self.algorithms(), now)
        } else {
            chain()
        }
    }
}

/// Verifies servers.
pub(super) struct ServerVerifier {
    /// `None`: any server will do.
    trust: Option<Trust>,
    /// Whether the certificate must be for the server's name.
    names: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(trust: Option<Trust>, names: bool, provider: &CryptoProvider) -> Self {
        Self {
            trust,
            names,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trust) = &self.trust {
            trust.check(end_entity, now, || {
                verify_server_cert_signed_by_trust_anchor(
                    &ParsedCertificate::try_from(end_entity)?,
                    &trust.anchors,
                    intermediates,
                    now,
                    trust.algorithms().all,
                )
            })?;
        }
        if self.names {
            peer::is_for(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies clients, which must have a certificate.
pub(super) struct ClientVerifier {
    trust: Trust,
    chains: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    pub(super) fn new(trust: Trust) -> Result<Self, TlsSetupError> {
        let anchors = trust.anchors.clone();
        let chains =
            WebPkiClientVerifier::builder_with_provider(anchors, trust.provider.clone()).build();
        let chains = chains.map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { trust, chains })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.check(end_entity, now, || {
            let verified = self
                .chains
                .verify_client_cert(end_entity, intermediates, now);
            verified.map(drop)
        })?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12(message, cert, dss, self.trust.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13(message, cert, dss, self.trust.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}

/// The library's own check wants a certificate with extensions; the key alone will do.
fn verify_tls13(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let parts = Parts::of(cert).ok_or(CertificateError::BadEncoding)?;
    let key = SubjectPublicKeyInfoDer::from(parts.key_info);
    verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
}

fn verify_tls12(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let parts = Parts::of(cert).ok_or(CertificateError::BadEncoding)?;
    let mut schemes = algorithms.mapping.iter();
    let Some((_, candidates)) = schemes.find(|(scheme, _)| *scheme == dss.scheme) else {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    };
    let mut fitting = candidates
        .iter()
        .filter(|algorithm| *algorithm.public_key_alg_id() == *parts.key_id);
    let Some(algorithm) = fitting.next() else {
        return Err(CertificateError::BadSignature.into());
    };
    algorithm
        .verify_signature(parts.key, message, dss.signature())
        .map(|()| HandshakeSignatureValid::assertion())
        .map_err(|_| CertificateError::BadSignature.into())
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerVerifier(…)")
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientVerifier(…)")
    }
}
