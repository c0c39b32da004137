//! What one side's settings ask for, besides files.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use settings::Settings;

use super::ciphers::{self, Suites};
use super::files::Printer;
use super::protocols::Protocols;
use super::{TlsSetupError, curves};

pub(super) struct Asked {
    pub(super) protocols: Protocols,
    suites: Suites,
    curves: Vec<&'static dyn SupportedKxGroup>,
    /// What the library can't do of it.
    pub(super) warnings: Vec<String>,
}

impl Asked {
    pub(super) fn of_clients(
        settings: &Settings,
        printer: &mut Printer,
    ) -> Result<Self, TlsSetupError> {
        let curve = &settings.client_tls_ecdhcurve;
        let params = &settings.client_tls_dheparams;
        let mut asked = Self::read(
            "client",
            &settings.client_tls_protocols,
            &settings.client_tls_ciphers,
            settings.client_tls13_ciphers.as_deref(),
            printer,
        )?;
        printer.add(curve);
        printer.add(params);
        let (curves, warning) = curves::parse(curve)?;
        asked.curves = curves;
        asked.warnings.extend(warning);
        asked.warnings.extend(curves::judge_dheparams(params)?);
        Ok(asked)
    }

    pub(super) fn of_servers(
        settings: &Settings,
        printer: &mut Printer,
    ) -> Result<Self, TlsSetupError> {
        Self::read(
            "server",
            &settings.server_tls_protocols,
            &settings.server_tls_ciphers,
            settings.server_tls13_ciphers.as_deref(),
            printer,
        )
    }

    fn read(
        side: &str,
        protocols: &str,
        ciphers: &str,
        ciphers13: Option<&str>,
        printer: &mut Printer,
    ) -> Result<Self, TlsSetupError> {
        printer.add(protocols);
        printer.add(ciphers);
        printer.add(ciphers13.unwrap_or_default());
        let key = |name: &str| format!("{side}_{name}");
        let mut warnings = Vec::new();
        let protocols = Protocols::parse(&key("tls_protocols"), protocols, &mut warnings)?;
        let lists = ciphers::Lists {
            key: key("tls_ciphers"),
            ciphers,
            key13: key("tls13_ciphers"),
            ciphers13: ciphers13.unwrap_or_default(),
        };
        let suites = Suites::parse(&lists, protocols, &mut warnings)?;
        Ok(Self {
            protocols,
            suites,
            curves: curves::all(),
            warnings,
        })
    }

    /// The library's parts that may be used.
    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        Arc::new(CryptoProvider {
            cipher_suites: self.suites.all(),
            kx_groups: self.curves.clone(),
            ..default_provider()
        })
    }
}
