//! Whom a verifier believes, and how its judgement is told.

use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use super::*;
use crate::tls::trust::{ClientVerifier, ServerVerifier, Trust};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn der(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&certificate.cert).unwrap()
}

fn now() -> UnixTime {
    UnixTime::now()
}

pub(super) fn in_days(days: u32) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs()) + DAY * days)
}

pub(super) fn days_ago(days: u32) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs()) - DAY * days)
}

/// Whom a verifier believes, and how the judgement is told.
pub(super) struct Judge {
    authorities: Vec<CertificateDer<'static>>,
    /// When; else it is now.
    at: Option<UnixTime>,
    name: ServerName<'static>,
}

impl Judge {
    pub(super) fn trusting(authorities: &[&Authority]) -> Self {
        let certificates = authorities
            .iter()
            .map(|authority| der(authority.certificate()));
        Self::believing(certificates.collect())
    }

    pub(super) fn believing(authorities: Vec<CertificateDer<'static>>) -> Self {
        Self {
            authorities,
            at: None,
            name: localhost(),
        }
    }

    pub(super) fn at(self, at: UnixTime) -> Self {
        let at = Some(at);
        Self { at, ..self }
    }

    pub(super) fn named(self, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Self { name, ..self }
    }

    /// As a server's certificate with verify-full and with verify-ca, and as a client's.
    pub(super) fn says(&self, chain: &[CertificateDer<'static>]) -> [String; 3] {
        let provider = Arc::new(default_provider());
        let trust = || Trust::new(self.authorities.clone(), &provider).unwrap();
        let (leaf, rest) = chain.split_first().unwrap();
        let at = self.at.unwrap_or_else(now);
        let server = |names: bool| {
            let verifier = ServerVerifier::new(Some(trust()), names, &provider);
            let verdict = verifier.verify_server_cert(leaf, rest, &self.name, &[], at);
            told(verdict.map(drop))
        };
        let verifier = ClientVerifier::new(trust()).unwrap();
        let client = told(verifier.verify_client_cert(leaf, rest, at).map(drop));
        [server(true), server(false), client]
    }

    #[track_caller]
    pub(super) fn believes(&self, certificate: &Certificate) {
        assert_eq!(self.says(&[der(certificate)]), ["yes", "yes", "yes"]);
    }

    #[track_caller]
    pub(super) fn refuses(&self, certificate: &CertificateDer<'static>, why: &str) {
        for verdict in self.says(std::slice::from_ref(certificate)) {
            assert!(verdict.contains(why), "{verdict:?} is not {why:?}");
        }
    }
}

fn told(verdict: Result<(), rustls::Error>) -> String {
    match verdict {
        Ok(()) => "yes".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// A certificate of version 3 for localhost.
pub(super) fn v3(authority: &Authority) -> Certificate {
    let request = authority.request("someone");
    request.extension("subjectAltName = DNS:localhost").issue()
}
