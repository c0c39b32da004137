//! An entry of `[databases]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::choices::{LoadBalanceHosts, PoolMode};
use crate::connstr::{Pair, PairError, each_pair};
use crate::finding::Problem;
use crate::host::Host;
use crate::ini::ReadFile;
use crate::values::{DbName, Password};

/// The database that is the console.
pub const CONSOLE_DATABASE: &str = "pgbouncer";

/// Longest name of a database, in bytes.
pub const DATABASE_NAME_LEN_MAX: usize = 63;

/// The entry that is the pattern for every database without one.
pub(crate) const TEMPLATE: &str = "*";

const PORT_DEFAULT: u16 = 5432;

/// One database as clients see it. `None` leaves a value to the wider setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// What clients ask for.
    pub name: String,
    /// What the servers call it, where that differs.
    pub dbname: Option<String>,
    /// Where its servers are; none means the unix socket in unix_socket_dir.
    pub hosts: Vec<Host>,
    /// The port of every host.
    pub port: u16,
    /// The user that every client becomes.
    pub user: Option<String>,
    /// That user's password.
    pub password: Option<Password>,
    /// Where that password is, if it is not in the file itself.
    pub password_source: Option<PasswordSource>,
    /// Who runs auth_query.
    pub auth_user: Option<String>,
    /// The query that finds a user's secret.
    pub auth_query: Option<String>,
    /// The database in which auth_query runs.
    pub auth_dbname: Option<DbName>,
    /// Server connections in each pool; 0 means no limit.
    pub pool_size: Option<u32>,
    /// Server connections kept ready.
    pub min_pool_size: Option<u32>,
    /// Server connections on top when clients wait too long.
    pub reserve_pool_size: Option<u32>,
    /// Server connections over all users, never 0.
    pub max_db_connections: Option<u32>,
    /// Client connections, never 0.
    pub max_db_client_connections: Option<u32>,
    /// Age at which an unused server is closed, never 0.
    pub server_lifetime: Option<Duration>,
    /// Longest wait for a server; 0 means forever.
    pub query_wait_timeout: Option<Duration>,
    /// When a server goes back to the pool.
    pub pool_mode: Option<PoolMode>,
    /// Which of several hosts comes next.
    pub load_balance_hosts: LoadBalanceHosts,
    /// Query that each new server runs first.
    pub connect_query: Option<String>,
    /// Startup parameter of server connections.
    pub client_encoding: Option<String>,
    /// Startup parameter of server connections.
    pub datestyle: Option<String>,
    /// Startup parameter of server connections.
    pub timezone: Option<String>,
    /// Startup parameter of server connections.
    pub application_name: Option<String>,
    /// Whether it was made from the `*` entry.
    pub auto: bool,
}

/// Where, who and what a database's servers are: those that were opened for one entry can serve
/// another that says the same of it.
#[derive(Debug, PartialEq)]
pub struct Servers<'a> {
    dbname: &'a str,
    hosts: &'a [Host],
    port: u16,
    user: Option<&'a str>,
    auth_query: Option<&'a str>,
    auth_dbname: Option<&'a DbName>,
    connect_query: Option<&'a str>,
    startup: Vec<(&'a str, &'a str)>,
}

impl Database {
    /// Where, who and what its servers are.
    pub fn servers(&self) -> Servers<'_> {
        Servers {
            dbname: self.dbname(),
            hosts: &self.hosts,
            port: self.port,
            user: self.user.as_deref(),
            auth_query: self.auth_query.as_deref(),
            auth_dbname: self.auth_dbname.as_ref(),
            connect_query: self.connect_query.as_deref(),
            startup: self.startup_parameters().collect(),
        }
    }

    /// A database about which the configuration says nothing but its name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            dbname: None,
            hosts: Vec::new(),
            port: PORT_DEFAULT,
            user: None,
            password: None,
            password_source: None,
            auth_user: None,
            auth_query: None,
            auth_dbname: None,
            pool_size: None,
            min_pool_size: None,
            reserve_pool_size: None,
            max_db_connections: None,
            max_db_client_connections: None,
            server_lifetime: None,
            query_wait_timeout: None,
            pool_mode: None,
            load_balance_hosts: LoadBalanceHosts::RoundRobin,
            connect_query: None,
            client_encoding: None,
            datestyle: None,
            timezone: None,
            application_name: None,
            auto: false,
        }
    }

    /// This entry, being the `*` one, for the database `name`.
    pub fn for_auto(&self, name: &str) -> Self {
        let name = name.to_owned();
        let auto = true;
        Self {
            name,
            auto,
            ..self.clone()
        }
    }

    /// What the servers call it.
    pub fn dbname(&self) -> &str {
        self.dbname.as_deref().unwrap_or(&self.name)
    }

    /// The file that its password is in, if it is in one of its own.
    pub fn password_file(&self) -> Option<&Path> {
        match &self.password_source {
            Some(PasswordSource::File(path)) => Some(path),
            _ => None,
        }
    }

    /// The user whose pool serves a client who logged in as `login`.
    pub fn pool_user<'a>(&'a self, login: &'a str) -> &'a str {
        self.user.as_deref().unwrap_or(login)
    }

    /// The startup parameters that its server connections send.
    pub fn startup_parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        [
            ("client_encoding", &self.client_encoding),
            ("datestyle", &self.datestyle),
            ("timezone", &self.timezone),
            ("application_name", &self.application_name),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, PairError> {
        let mut database = Self::new(name);
        each_pair(text, |pair| database.apply(pair))?;
        if database.password.is_some() && database.password_source.is_some() {
            return Err(PairError::new("password", Problem::Syntax(ONE_PASSWORD)));
        }
        Ok(database)
    }

    fn apply(&mut self, pair: &Pair) -> Result<(), PairError> {
        match pair.key.as_str() {
            "dbname" => self.dbname = pair.text(),
            "host" => {
                let hosts = Host::parse_list(&pair.value);
                self.hosts = hosts.ok_or_else(|| pair.refused(Host::EXPECTS))?;
            }
            "port" => self.port = pair.port()?,
            "user" => self.user = pair.text(),
            "password" => self.password = Some(Password::new(&pair.value)),
            "password_file" => self.keep_password_in(pair, PasswordSource::file)?,
            "password_env" => self.keep_password_in(pair, PasswordSource::Environment)?,
            "auth_user" => self.auth_user = pair.text(),
            "auth_query" => self.auth_query = pair.text(),
            "auth_dbname" => self.auth_dbname = pair.choice::<Option<DbName>>()?.flatten(),
            "pool_size" => self.pool_size = pair.size()?,
            "min_pool_size" => self.min_pool_size = pair.size()?,
            "reserve_pool_size" | "reserve_pool" => self.reserve_pool_size = pair.size()?,
            "max_db_connections" => self.max_db_connections = pair.limit()?,
            "max_db_client_connections" => self.max_db_client_connections = pair.limit()?,
            "server_lifetime" => self.server_lifetime = pair.timeout()?,
            "query_wait_timeout" => self.query_wait_timeout = pair.seconds()?,
            "pool_mode" => self.pool_mode = pair.choice()?,
            "load_balance_hosts" => {
                let default = LoadBalanceHosts::RoundRobin;
                self.load_balance_hosts = pair.choice()?.unwrap_or(default);
            }
            "connect_query" => self.connect_query = pair.text(),
            "client_encoding" => self.client_encoding = pair.text(),
            "datestyle" => self.datestyle = pair.text(),
            "timezone" => self.timezone = pair.text(),
            "application_name" => self.application_name = pair.text(),
            unknown => return Err(PairError::unknown(unknown, KEYS)),
        }
        Ok(())
    }

    fn keep_password_in(
        &mut self,
        pair: &Pair,
        place: fn(String) -> PasswordSource,
    ) -> Result<(), PairError> {
        if self.password_source.is_some() {
            return Err(PairError::new(&pair.key, Problem::Syntax(ONE_PASSWORD)));
        }
        self.password_source = Some(place(pair.value.clone()));
        Ok(())
    }
}

const ONE_PASSWORD: &str = "one of password, password_file and password_env";

/// Where a password is that the ini file does not hold. Only pgusher has this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// `password_file`: this file is the password, but for a line end.
    File(PathBuf),
    /// `password_env`: this environment variable.
    Environment(String),
}

impl PasswordSource {
    fn file(path: String) -> Self {
        Self::File(path.into())
    }

    /// The key that names it.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::File(_) => "password_file",
            Self::Environment(_) => "password_env",
        }
    }

    /// Fetches the password.
    pub(crate) fn fetch(
        &self,
        environment: &[(String, String)],
        read: ReadFile,
    ) -> Result<Password, Problem> {
        let text = match self {
            Self::File(path) => Zeroizing::new(read(path).map_err(|error| {
                let reason = format!("{}: {error}", path.display());
                Problem::Unreadable { reason }
            })?),
            Self::Environment(name) => {
                let mut found = environment.iter().filter(|(known, _)| known == name);
                let (_, value) = found
                    .next()
                    .ok_or_else(|| Problem::NoVariable(name.clone()))?;
                Zeroizing::new(value.clone())
            }
        };
        let line = text.strip_suffix('\n').unwrap_or(&text);
        match line.strip_suffix('\r').unwrap_or(line) {
            "" => Err(Problem::Syntax("a password there, and there is none")),
            // What could not be read was marked so.
            text if text.contains(char::REPLACEMENT_CHARACTER) => {
                Err(Problem::Syntax("a password in UTF-8"))
            }
            password => Ok(Password::new(password)),
        }
    }
}

/// Every key that [`Database::apply`] knows.
pub(crate) const KEYS: &[&str] = &[
    "dbname",
    "host",
    "port",
    "user",
    "password",
    "password_file",
    "password_env",
    "auth_user",
    "auth_query",
    "auth_dbname",
    "pool_size",
    "min_pool_size",
    "reserve_pool_size",
    "reserve_pool",
    "max_db_connections",
    "max_db_client_connections",
    "server_lifetime",
    "query_wait_timeout",
    "pool_mode",
    "load_balance_hosts",
    "connect_query",
    "client_encoding",
    "datestyle",
    "timezone",
    "application_name",
];

#[cfg(test)]
mod tests;
