//! Our own certificate and its key.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsSetupError;
use super::binding;
use super::der::Parts;
use super::v1;

/// A certificate, those that lead to its authority, and its key. Shown to whoever asks.
pub(super) struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// Puts certificates and key together, if they belong together.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsSetupError> {
        let key = default_provider().key_provider.load_private_key(key)?;
        // The library would look itself, but not into a certificate of version 1.
        let certified = chain.first().and_then(|leaf| Parts::of(leaf));
        let certified = certified.map(|parts| parts.key_info);
        match key.public_key() {
            Some(public) if certified != Some(public.as_ref()) => Err(TlsSetupError::Mismatch),
            _ => Ok(Self(Arc::new(CertifiedKey::new(chain, key)))),
        }
    }

    /// When the certificate, or one of those that lead to its authority, runs out.
    pub(super) fn expiry(&self) -> Option<SystemTime> {
        self.0.cert.iter().filter_map(v1::expiry).min()
    }

    /// The hash of the certificate that SCRAM may be bound to.
    pub(super) fn end_point(&self) -> Option<Arc<[u8]>> {
        binding::end_point(self.0.cert.first()?)
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}
