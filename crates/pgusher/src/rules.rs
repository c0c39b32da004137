//! What files and options say about how clients log in: HBA rules, name maps, LDAP options.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auth::ldap::LdapFault;
use auth::{Hba, Ident, LdapOptions, Method, Visitor};
use settings::{AuthType, Settings, SslMode};
use thiserror::Error;

use crate::pam::{self, PamError};

/// What there is beyond `auth_type`.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Maps from outside names to users.
    pub(crate) ident: Ident,
    hba: Hba,
    ldap: Option<Arc<LdapOptions>>,
    /// What is odd about all this.
    pub(crate) warnings: Vec<String>,
}

/// Why there are no rules.
#[derive(Debug, Error)]
pub(crate) enum RulesError {
    /// Nothing says how clients log in.
    #[error("auth_type = hba needs auth_hba_file")]
    NoFile,
    /// A file can't be read.
    #[error("{key} {path}: {error}")]
    Unreadable {
        /// The setting that names it.
        key: &'static str,
        /// Its path.
        path: String,
        /// The system's words.
        error: io::Error,
    },
    /// `auth_type = ldap` with options that lead nowhere.
    #[error("auth_ldap_options: {0}")]
    Ldap(#[from] LdapFault),
    /// A method that was left out when the program was built.
    #[error("auth_type = pam: {}", PamError::NotBuiltIn)]
    NoPam,
}

impl Rules {
    /// Reads what the settings name, as far as `auth_type` needs it.
    pub(crate) fn load(settings: &Settings) -> Result<Self, RulesError> {
        match settings.auth_type {
            AuthType::Hba => Self::from_files(settings),
            AuthType::Ldap => {
                let options = settings.auth_ldap_options.as_ref();
                let options = options.map_or("", |options| options.reveal());
                Ok(Self {
                    ldap: Some(Arc::new(LdapOptions::parse(options)?)),
                    ..Self::default()
                })
            }
            AuthType::Pam if !pam::IS_BUILT_IN => Err(RulesError::NoPam),
            _ => Ok(Self::default()),
        }
    }

    /// True if both settings name the same rules: then the files are not read again.
    pub(crate) fn are_alike(one: &Settings, other: &Settings) -> bool {
        let named = |settings: &Settings| {
            (
                settings.auth_type,
                settings.auth_hba_file.clone(),
                settings.auth_ident_file.clone(),
                settings.auth_ldap_options.clone(),
            )
        };
        named(one) == named(other)
    }

    /// How this client is to prove who it is; `None` if no line is about it.
    pub(crate) fn method_for(&self, auth_type: AuthType, visitor: Visitor<'_>) -> Option<Method> {
        match auth_type {
            AuthType::Hba => self.hba.method_for(visitor).cloned(),
            AuthType::Ldap => self.ldap.clone().map(Method::Ldap),
            AuthType::Any | AuthType::Trust => Some(Method::Trust),
            AuthType::Plain => Some(Method::Password),
            AuthType::Md5 => Some(Method::Md5),
            AuthType::ScramSha256 => Some(Method::ScramSha256),
            AuthType::Cert => Some(Method::Cert { map: None }),
            AuthType::Pam => Some(Method::Pam),
        }
    }

    fn from_files(settings: &Settings) -> Result<Self, RulesError> {
        let mut rules = Self::default();
        if let Some(path) = named(&settings.auth_ident_file) {
            let text = read("auth_ident_file", path)?;
            rules.ident = Ident::parse(&text);
            rules.warn_of(path, rules.ident.findings().to_vec());
        }
        let path = named(&settings.auth_hba_file).ok_or(RulesError::NoFile)?;
        let text = read("auth_hba_file", path)?;
        rules.hba = Hba::parse(&text, &mut |name| read_beside(path, name));
        rules.warn_of(path, rules.hba.findings().to_vec());
        rules.warn_of_dead_ends(path, settings.client_tls_sslmode);
        Ok(rules)
    }

    fn warn_of(&mut self, path: &Path, skipped: Vec<impl ToString>) {
        let path = path.display();
        let lines = skipped.iter().map(ToString::to_string);
        let lines = lines.map(|finding| format!("{path}: {finding}; the line is skipped"));
        self.warnings.extend(lines);
    }

    /// Lines that let nobody in.
    fn warn_of_dead_ends(&mut self, path: &Path, tls: SslMode) {
        let path = path.display();
        let asks = matches!(tls, SslMode::VerifyCa | SslMode::VerifyFull);
        let mut certs = self
            .hba
            .methods()
            .filter(|it| matches!(it, Method::Cert { .. }));
        if !asks && certs.next().is_some() {
            self.warnings.push(format!(
                "{path}: cert: no client is asked for a certificate with client_tls_sslmode = {}",
                tls.as_str()
            ));
        }
        for method in self.hba.methods() {
            match method {
                Method::Cert { map: Some(map) } | Method::Peer { map: Some(map) }
                    if !self.ident.has(map) =>
                {
                    let warning = format!("{path}: no line of auth_ident_file is about map={map}");
                    self.warnings.push(warning);
                }
                Method::Pam if !pam::IS_BUILT_IN => {
                    let warning = format!("{path}: pam: {}", PamError::NotBuiltIn);
                    self.warnings.push(warning);
                }
                _ => {}
            }
        }
    }
}

fn named(path: &Option<PathBuf>) -> Option<&Path> {
    let path = path.as_deref();
    path.filter(|path| !path.as_os_str().is_empty())
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, RulesError> {
    fs::read(path).map_err(|error| RulesError::Unreadable {
        key,
        path: path.display().to_string(),
        error,
    })
}

/// A file that an HBA file names: relative to the directory that the HBA file is in.
fn read_beside(hba_file: &Path, name: &str) -> Result<Vec<u8>, String> {
    let directory = hba_file.parent().unwrap_or(Path::new(""));
    fs::read(directory.join(name)).map_err(|error| error.to_string())
}
