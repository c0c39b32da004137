//! What was asked for, as one snapshot: the ini file, and the files that it names.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auth::{Method, Secret, Userlist, Visitor};
use net::{LdapClient, TcpOptions};
use settings::{Config, ConfigError, Database, Settings, SslMode};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::rules::{Rules, RulesError};

/// A configuration in force. Replaced by RELOAD and SET, never changed.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) config: Arc<Config>,
    pub(crate) userlist: Arc<Userlist>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) ldap: Arc<LdapClient>,
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
    /// What says how clients log in can't be read, or makes no sense.
    #[error("{0}")]
    Rules(#[from] RulesError),
    /// Encryption is demanded, and there is none yet.
    #[error("{key} = {mode} demands TLS, which does not work yet")]
    Tls {
        /// The setting.
        key: &'static str,
        /// Its value.
        mode: &'static str,
    },
}

impl Setup {
    /// Reads the ini file and what it names.
    pub(crate) fn load(path: &Path, env: &[(String, String)]) -> Result<Self, SetupError> {
        let config = Config::load(path, env.iter().cloned())?;
        Self::with(config, env)
    }

    /// Reads what the configuration names.
    pub(crate) fn with(config: Config, env: &[(String, String)]) -> Result<Self, SetupError> {
        check_promises(&config.settings)?;
        let userlist = match &config.settings.auth_file {
            Some(path) if !path.as_os_str().is_empty() => read_userlist(path)?,
            _ => Userlist::parse(b""),
        };
        let rules = Rules::load(&config.settings)?;
        Ok(Self {
            config: Arc::new(config),
            userlist: Arc::new(userlist),
            rules: Arc::new(rules),
            ldap: Arc::new(LdapClient::new(env)),
        })
    }

    /// The same with settings that were SET; files are read again only if others are named now.
    pub(crate) fn with_set(&self, config: Config) -> Result<Self, SetupError> {
        check_promises(&config.settings)?;
        let rules = if Rules::are_alike(&self.config.settings, &config.settings) {
            self.rules.clone()
        } else {
            Arc::new(Rules::load(&config.settings)?)
        };
        Ok(Self {
            config: Arc::new(config),
            userlist: self.userlist.clone(),
            rules,
            ldap: self.ldap.clone(),
        })
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

/// Refuses settings that promise a safety which is not built yet: better no pooler than one that
/// lets people in, or talks in the clear, where it was told not to.
fn check_promises(settings: &Settings) -> Result<(), SetupError> {
    let modes = [
        ("client_tls_sslmode", settings.client_tls_sslmode),
        ("server_tls_sslmode", settings.server_tls_sslmode),
    ];
    for (key, mode) in modes {
        if !matches!(mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer) {
            let mode = mode.as_str();
            return Err(SetupError::Tls { key, mode });
        }
    }
    Ok(())
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
