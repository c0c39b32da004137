//! What was asked for, as one snapshot: the ini file, and the files that it names.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auth::{Method, Secret, Userlist, Visitor};
use net::tls::{Tls, TlsSetupError};
use net::{LdapClient, TcpOptions};
use settings::{Config, ConfigError, Database};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::rules::{Rules, RulesError};
use crate::source::Source;

/// A configuration in force. Replaced by RELOAD and SET, never changed.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) config: Arc<Config>,
    pub(crate) userlist: Arc<Userlist>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) ldap: Arc<LdapClient>,
    pub(crate) tls: Tls,
}

/// Why there is no setup.
#[derive(Debug, Error)]
pub(crate) enum SetupError {
    /// The ini file is at fault.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The user list can't be read.
    #[error("auth_file {path}: {error}")]
    Userlist {
        /// Its path.
        path: String,
        /// The system's words.
        error: io::Error,
    },
    /// What the environment says of users makes no sense.
    #[error("environment: users and passwords: {0}")]
    Users(auth::userlist::Finding),
    /// What says how clients log in can't be read, or makes no sense.
    #[error("{0}")]
    Rules(#[from] RulesError),
    /// Certificates, keys or ciphers are at fault.
    #[error("TLS setup failed: {0}")]
    Tls(#[from] TlsSetupError),
}

impl Setup {
    /// Reads the ini file and what it names.
    pub(crate) fn load(path: &Path, source: &Source) -> Result<Self, SetupError> {
        let config = source.read(path)?;
        let tls = Tls::load(&config.settings)?;
        Self::with(config, &source.environment, tls)
    }

    /// Reads what the configuration names, but for TLS.
    pub(crate) fn with(
        config: Config,
        env: &[(String, String)],
        tls: Tls,
    ) -> Result<Self, SetupError> {
        let userlist = users_of(&config)?;
        let rules = Rules::load(&config.settings)?;
        Ok(Self {
            config: Arc::new(config),
            userlist: Arc::new(userlist),
            rules: Arc::new(rules),
            ldap: Arc::new(LdapClient::new(env)),
            tls,
        })
    }

    /// The same with settings that were SET; files are read again only if others are named now,
    /// and those of TLS by `renew_tls` alone.
    pub(crate) fn with_set(&self, config: Config) -> Result<Self, SetupError> {
        let userlist = if self.config.settings.auth_file == config.settings.auth_file {
            self.userlist.clone()
        } else {
            Arc::new(users_of(&config)?)
        };
        let rules = if Rules::are_alike(&self.config.settings, &config.settings) {
            self.rules.clone()
        } else {
            Arc::new(Rules::load(&config.settings)?)
        };
        Ok(Self {
            config: Arc::new(config),
            userlist,
            rules,
            ldap: self.ldap.clone(),
            tls: self.tls.clone(),
        })
    }

    /// Reads the files of TLS again. False if the settings can't be followed: then TLS stays as it
    /// is, and the log says why.
    pub(crate) fn renew_tls(&mut self) -> bool {
        match self.tls.renewed(&self.config.settings) {
            Ok(tls) => {
                if !tls.is_same(&self.tls) {
                    tls.warnings()
                        .for_each(|warning| tracing::warn!("{warning}"));
                }
                self.tls = tls;
                true
            }
            Err(error) => {
                tracing::error!(name: "tls_setup_failed", "TLS setup failed: {error}");
                false
            }
        }
    }

    /// What is odd about it, to be told when it comes into force.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let warnings = self.config.warnings.iter();
        let mut warnings: Vec<_> = warnings.map(ToString::to_string).collect();
        if let (Some(finding), Some(path)) =
            (self.userlist.finding(), &self.config.settings.auth_file)
        {
            warnings.push(format!("{}: {finding}", path.display()));
        }
        warnings.extend(self.secret_files().filter_map(open_to_all));
        warnings.extend_from_slice(&self.rules.warnings);
        let resting = settings::not_yet(&self.config);
        if !resting.is_empty() {
            let keys = resting.join(", ");
            warnings.push(format!("these settings do not act yet: {keys}"));
        }
        warnings
    }

    /// The files that hold secrets.
    fn secret_files(&self) -> impl Iterator<Item = &Path> {
        let config = &self.config;
        let databases = config.databases.values().chain(&config.auto_database);
        let userlist = config.settings.auth_file.as_deref();
        let userlist = userlist.filter(|path| !path.as_os_str().is_empty());
        let passwords = databases.filter_map(|database| database.password_file());
        userlist.into_iter().chain(passwords)
    }

    /// How this client is to prove who it is; `None` if nothing is said about it.
    pub(crate) fn method_for(&self, visitor: Visitor<'_>) -> Option<Method> {
        let auth_type = self.config.settings.auth_type;
        self.rules.method_for(auth_type, visitor)
    }

    /// With what servers of a pool are logged in, as far as the files say.
    pub(crate) fn server_secret(&self, database: &Database, user: &str) -> Option<Secret> {
        match &database.password {
            Some(password) if database.user.as_deref() == Some(user) => {
                Some(Secret::parse(password.reveal().as_bytes()))
            }
            _ => self.userlist.get(user).cloned(),
        }
    }

    /// The `tcp_*` settings.
    pub(crate) fn tcp_options(&self) -> TcpOptions {
        let settings = &self.config.settings;
        TcpOptions {
            keepalive: settings.tcp_keepalive,
            keepalive_count: settings.tcp_keepcnt,
            keepalive_idle: Duration::from_secs(settings.tcp_keepidle.into()),
            keepalive_interval: Duration::from_secs(settings.tcp_keepintvl.into()),
            socket_buffer: settings.tcp_socket_buffer as usize,
            user_timeout: settings.tcp_user_timeout.0,
        }
    }
}

/// Everybody whom files and the environment name.
fn users_of(config: &Config) -> Result<Userlist, SetupError> {
    let mut userlist = match &config.settings.auth_file {
        Some(path) if !path.as_os_str().is_empty() => read_userlist(path)?,
        _ => Userlist::parse(b""),
    };
    if let Some(lines) = &config.userlist {
        let of_environment = Userlist::parse(lines.reveal().as_bytes());
        if let Some(finding) = of_environment.finding() {
            return Err(SetupError::Users(finding));
        }
        userlist.add_missing(of_environment);
    }
    Ok(userlist)
}

fn read_userlist(path: &Path) -> Result<Userlist, SetupError> {
    let text = fs::read(path).map_err(|error| SetupError::Userlist {
        path: path.display().to_string(),
        error,
    })?;
    Ok(Userlist::parse(&Zeroizing::new(text)))
}

/// A word of warning, if everybody may read a file of secrets.
fn open_to_all(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let path = path.display();
    (mode & 0o004 != 0)
        .then(|| format!("{path} holds secrets and everybody may read it ({mode:04o})"))
}
