//! Certificates of X.509 version 1, which `openssl x509 -req` and `openssl ca` write by default.
//!
//! They have no extensions, so nothing in them says what they may be used for: one that a peer
//! shows must be signed by a configured authority itself, and vouches for nobody else.

use std::time::{Duration, SystemTime};

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, Error};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};
use x509_parser::time::ASN1Time;

use super::der::Parts;

/// True if a certificate is of version 1, or claims to be.
pub(super) fn is_v1(leaf: &CertificateDer<'_>) -> bool {
    Parts::of(leaf).is_some_and(|parts| !parts.has_version)
}

/// Checks that one of the authorities signed it, and that both are in force.
pub(super) fn verify(
    leaf: &CertificateDer<'_>,
    authorities: &[CertificateDer<'static>],
    algorithms: &WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Result<(), Error> {
    let parts = Parts::of(leaf).ok_or(CertificateError::BadEncoding)?;
    let is_v1 = !parts.has_version
        && parts.extensions.is_empty()
        && parts.signed_signature_id == parts.signature_id;
    if !is_v1 {
        return Err(CertificateError::BadEncoding.into());
    }
    in_force(leaf, now)?;
    let mut verdict = CertificateError::UnknownIssuer.into();
    // Several may have that name: an authority that got a new key, for one.
    for authority in authorities {
        let Some(issuer) = Parts::of(authority).filter(|it| it.subject == parts.issuer) else {
            continue;
        };
        match is_signed_by(&parts, &issuer, authority, algorithms, now) {
            Ok(()) => return Ok(()),
            Err(error) => verdict = error,
        }
    }
    Err(verdict)
}

fn is_signed_by(
    leaf: &Parts<'_>,
    issuer: &Parts<'_>,
    authority: &CertificateDer<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Result<(), Error> {
    may_issue(authority)?;
    in_force(authority, now)?;
    let mut fitting = algorithms.all.iter().filter(|algorithm| {
        *algorithm.signature_alg_id() == *leaf.signature_id
            && *algorithm.public_key_alg_id() == *issuer.key_id
    });
    // Among those that do not fit is all of SHA-1.
    let Some(algorithm) = fitting.next() else {
        let error = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: leaf.signature_id.to_vec(),
            public_key_algorithm_id: issuer.key_id.to_vec(),
        };
        return Err(error.into());
    };
    algorithm
        .verify_signature(issuer.key, leaf.signed, leaf.signature)
        .map_err(|_| CertificateError::BadSignature.into())
}

/// Whether an authority may sign certificates, and any: what its constraints would mean for a
/// certificate without alternative names is not for us to find out.
fn may_issue(authority: &CertificateDer<'_>) -> Result<(), Error> {
    let authority = parse(authority)?;
    if authority.version() == X509Version::V1 {
        return Ok(());
    }
    let bad = |_| Error::from(CertificateError::BadEncoding);
    let is_ca = authority
        .basic_constraints()
        .map_err(bad)?
        .is_some_and(|constraints| constraints.value.ca);
    let signs = authority
        .key_usage()
        .map_err(bad)?
        .is_none_or(|usage| usage.value.key_cert_sign());
    let constrained = authority.name_constraints().map_err(bad)?.is_some();
    if is_ca && signs && !constrained {
        Ok(())
    } else {
        Err(CertificateError::UnknownIssuer.into())
    }
}

/// Whether a certificate is in force.
pub(super) fn in_force(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let validity = parse(certificate)?.validity().clone();
    let not_before = moment(validity.not_before);
    let not_after = moment(validity.not_after);
    let time = now;
    if now < not_before {
        Err(CertificateError::NotValidYetContext { time, not_before }.into())
    } else if now > not_after {
        Err(CertificateError::ExpiredContext { time, not_after }.into())
    } else {
        Ok(())
    }
}

/// When a certificate runs out.
pub(super) fn expiry(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let not_after = moment(parse(certificate).ok()?.validity().not_after);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
}

/// What lies before 1970 counts as its beginning.
fn moment(time: ASN1Time) -> UnixTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// Reads a certificate of any version.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::BadEncoding.into()),
    }
}
