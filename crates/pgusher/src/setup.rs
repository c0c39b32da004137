//! What was asked for, as one snapshot: the ini file and the user list.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auth::{Secret, Userlist};
use net::TcpOptions;
use settings::{AuthType, Config, ConfigError, Database};
use thiserror::Error;

/// A configuration in force. Replaced by RELOAD and SET, never changed.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) config: Arc<Config>,
    pub(crate) userlist: Arc<Userlist>,
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
}

impl Setup {
    /// Reads the ini file and what it names.
    pub(crate) fn load(path: &Path, env: &[(String, String)]) -> Result<Self, SetupError> {
        let config = Config::load(path, env.iter().cloned())?;
        Self::with(config)
    }

    /// Reads what the configuration names.
    pub(crate) fn with(config: Config) -> Result<Self, SetupError> {
        if !works(config.settings.auth_type) {
            return Err(SetupError::AuthType(config.settings.auth_type.as_str()));
        }
        let userlist = match &config.settings.auth_file {
            Some(path) if !path.as_os_str().is_empty() => read_userlist(path)?,
            _ => Userlist::parse(b""),
        };
        Ok(Self {
            config: Arc::new(config),
            userlist: Arc::new(userlist),
        })
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

/// Whether clients can log in this way today.
pub(crate) fn works(auth_type: AuthType) -> bool {
    matches!(
        auth_type,
        AuthType::Any | AuthType::Trust | AuthType::Plain | AuthType::Md5 | AuthType::ScramSha256
    )
}

fn read_userlist(path: &Path) -> Result<Userlist, SetupError> {
    let text = fs::read(path).map_err(|error| SetupError::Userlist {
        path: path.display().to_string(),
        error,
    })?;
    let userlist = Userlist::parse(&text);
    if let Some(finding) = userlist.finding() {
        tracing::warn!("{}: {finding}", path.display());
    }
    Ok(userlist)
}
