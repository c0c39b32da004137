//! What was asked for, as one snapshot: the ini file and the user list.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auth::{Secret, Userlist};
use net::TcpOptions;
use net::tls::{Tls, TlsSetupError};
use settings::{AuthType, Config, ConfigError, Database, Settings};
use thiserror::Error;

/// A configuration in force. Replaced by RELOAD and SET, never changed.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) config: Arc<Config>,
    pub(crate) userlist: Arc<Userlist>,
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
    /// A way to log in that is not built yet.
    #[error("auth_type = {0} does not work yet; any, trust, plain, md5 and scram-sha-256 do")]
    AuthType(&'static str),
    /// Certificates, keys or ciphers are at fault.
    #[error("TLS setup failed: {0}")]
    Tls(#[from] TlsSetupError),
}

impl Setup {
    /// Reads the ini file and what it names.
    pub(crate) fn load(path: &Path, env: &[(String, String)]) -> Result<Self, SetupError> {
        let config = Config::load(path, env.iter().cloned())?;
        let tls = Tls::load(&config.settings)?;
        Self::with(config, tls)
    }

    /// Reads what the configuration names, but for TLS.
    pub(crate) fn with(config: Config, tls: Tls) -> Result<Self, SetupError> {
        check_promises(&config.settings)?;
        let userlist = match &config.settings.auth_file {
            Some(path) if !path.as_os_str().is_empty() => read_userlist(path)?,
            _ => Userlist::parse(b""),
        };
        Ok(Self {
            config: Arc::new(config),
            userlist: Arc::new(userlist),
            tls,
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
                tracing::error!("TLS setup failed: {error}");
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
        let resting = settings::not_yet(&self.config);
        if !resting.is_empty() {
            let keys = resting.join(", ");
            warnings.push(format!("these settings do not act yet: {keys}"));
        }
        warnings
    }

    /// With what servers of a pool are logged in, as far as the files say.
    pub(crate) fn server_secret(&self, database: &Database, user: &str) -> Option<Secret> {
        match &database.password {
            Some(password) if database.user.is_some() => {
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
/// lets people in where it was told not to.
pub(crate) fn check_promises(settings: &Settings) -> Result<(), SetupError> {
    match settings.auth_type {
        AuthType::Any
        | AuthType::Trust
        | AuthType::Plain
        | AuthType::Md5
        | AuthType::ScramSha256 => {}
        other => return Err(SetupError::AuthType(other.as_str())),
    }
    Ok(())
}

fn read_userlist(path: &Path) -> Result<Userlist, SetupError> {
    let text = fs::read(path).map_err(|error| SetupError::Userlist {
        path: path.display().to_string(),
        error,
    })?;
    Ok(Userlist::parse(&text))
}
