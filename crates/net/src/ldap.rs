//! Asks an LDAP server whether a user's password is right.
//!
//! All of this blocks: it is meant for threads on which nobody waits.

mod conf;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use auth::Password;
use auth::ldap::{LdapEncryption, LdapOptions, LdapScope, LdapServer, Lookup, Search};
use ldap3::{LdapConn, LdapConnSettings, LdapResult, ResultEntry, Scope, SearchOptions};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use self::conf::Conf;

/// The answer to a search that found more entries than it asked for.
const SIZE_LIMIT_EXCEEDED: u32 = 4;

/// What asking takes, beyond a user's options: certificates to trust, and patience.
#[derive(Debug)]
pub struct LdapClient {
    conf: Conf,
    /// Made when it is first needed: reading all authorities of a system takes a while.
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

/// Why a user is not let in.
#[derive(Debug, Error)]
pub enum LdapError {
    /// The server says no.
    #[error("{0}")]
    Refused(String),
    /// There is no entry for the user, or more than one.
    #[error("the search found {0} entries")]
    NotOneEntry(usize),
    /// The server could not be asked.
    #[error("{server}: {reason}")]
    NoAnswer {
        /// The server, or all of them.
        server: String,
        /// What stands against it.
        reason: String,
    },
}

impl LdapError {
    /// True if the user is to blame rather than the server.
    pub fn is_users(&self) -> bool {
        !matches!(self, Self::NoAnswer { .. })
    }
}

impl LdapClient {
    /// Reads OpenLDAP's `ldap.conf`, the file that `LDAPCONF` names, and the `LDAPTLS_…` variables.
    pub fn new(env: &[(String, String)]) -> Self {
        Self {
            conf: Conf::load(env),
            tls: OnceLock::new(),
        }
    }

    /// Returns if the password is the user's.
    pub fn check(
        &self,
        options: &LdapOptions,
        user: &str,
        password: &Password,
    ) -> Result<(), LdapError> {
        // A bind without a password is one as nobody in particular, and servers grant it.
        if password.is_empty() {
            return Err(LdapError::Refused("empty password".to_owned()));
        }
        let Ok(password) = str::from_utf8(password.as_bytes()) else {
            return Err(LdapError::Refused("the password is no text".to_owned()));
        };
        let mut server = self.connect(options)?;
        let entry = match &options.lookup {
            Lookup::Search(search) => server.find(search, user)?,
            Lookup::Name(name) => name.of(user),
        };
        // The same goes for a bind without a name.
        if entry.is_empty() {
            return Err(LdapError::NotOneEntry(0));
        }
        server.bind(&entry, password)?;
        server.leave();
        Ok(())
    }

    /// Connects to the first server that can be reached.
    fn connect(&self, options: &LdapOptions) -> Result<Server, LdapError> {
        let mut reasons = Vec::new();
        for LdapServer { host, port } in &options.servers {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.clone()
            };
            let server = format!("{host}:{port}");
            match self.connect_to(&server, options.encryption) {
                Ok(connection) => {
                    return Ok(Server {
                        connection,
                        patience: self.conf.answer_timeout,
                        name: server,
                    });
                }
                Err(reason) => reasons.push((server, reason)),
            }
        }
        let (servers, whys): (Vec<_>, Vec<_>) = reasons.into_iter().unzip();
        Err(LdapError::NoAnswer {
            server: servers.join(", "),
            reason: whys.join("; "),
        })
    }

    fn connect_to(&self, server: &str, encryption: LdapEncryption) -> Result<LdapConn, String> {
        let settings = LdapConnSettings::new().set_conn_timeout(self.conf.connect_timeout);
        let (scheme, settings) = match encryption {
            LdapEncryption::None => ("ldap", settings),
            LdapEncryption::Tls => ("ldaps", self.encrypt(settings)?),
            LdapEncryption::StartTls => ("ldap", self.encrypt(settings)?.set_starttls(true)),
        };
        LdapConn::with_settings(settings, &format!("{scheme}://{server}"))
            .map_err(|error| error.to_string())
    }

    fn encrypt(&self, settings: LdapConnSettings) -> Result<LdapConnSettings, String> {
        if !self.conf.verifies {
            return Ok(settings.set_no_tls_verify(true));
        }
        let config = self.tls.get_or_init(|| verifying(&self.conf)).clone()?;
        Ok(settings.set_config(config))
    }
}

/// TLS with servers whose certificates our authorities vouch for.
fn verifying(conf: &Conf) -> Result<Arc<ClientConfig>, String> {
    let found = if conf.ca_file.is_none() && conf.ca_dir.is_none() {
        rustls_native_certs::load_native_certs()
    } else {
        let (file, dir) = (conf.ca_file.as_deref(), conf.ca_dir.as_deref());
        rustls_native_certs::load_certs_from_paths(file, dir)
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let why = if errors.is_empty() {
            "none was found".to_owned()
        } else {
            errors.join("; ")
        };
        return Err(format!("no authorities to trust: {why}"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A connection to a server.
struct Server {
    connection: LdapConn,
    patience: Duration,
    name: String,
}

impl Server {
    fn bind(&mut self, entry: &str, password: &str) -> Result<(), LdapError> {
        let connection = self.connection.with_timeout(self.patience);
        let answer = connection.simple_bind(entry, password);
        let answer = answer.map_err(|error| self.no_answer(error))?;
        match answer.rc {
            0 => Ok(()),
            _ => Err(LdapError::Refused(in_words(&answer))),
        }
    }

    /// The name of the one entry that is the user's.
    fn find(&mut self, search: &Search, user: &str) -> Result<String, LdapError> {
        if let Some((name, password)) = &search.bind {
            let password = str::from_utf8(password.as_bytes()).unwrap_or_default();
            // It is not the user's fault if we are not let in.
            self.bind(name, password)
                .map_err(|error| self.no_answer(error))?;
        }
        let scope = match search.scope {
            LdapScope::Base => Scope::Base,
            LdapScope::One => Scope::OneLevel,
            LdapScope::Subtree => Scope::Subtree,
        };
        let filter = search.filter_for(user);
        // "1.1" asks for no attributes; two entries are as bad as many.
        let found = self
            .connection
            .with_timeout(self.patience)
            .with_search_options(SearchOptions::new().sizelimit(2))
            .search(&search.base, scope, &filter, ["1.1"])
            .map_err(|error| self.no_answer(error))?;
        let (entries, answer) = (found.0, found.1);
        if ![0, SIZE_LIMIT_EXCEEDED].contains(&answer.rc) {
            return Err(self.no_answer(in_words(&answer)));
        }
        let mut names: Vec<_> = entries.into_iter().filter_map(name_of).collect();
        match (names.len(), names.pop()) {
            (1, Some(name)) => Ok(name),
            (count, _) => Err(LdapError::NotOneEntry(count)),
        }
    }

    /// Says goodbye; whether it is heard does not matter any more.
    fn leave(mut self) {
        let _ = self.connection.with_timeout(self.patience).unbind();
    }

    fn no_answer(&self, reason: impl ToString) -> LdapError {
        LdapError::NoAnswer {
            server: self.name.clone(),
            reason: reason.to_string(),
        }
    }
}

/// An entry's name; references to other servers have none.
fn name_of(entry: ResultEntry) -> Option<String> {
    let parts = entry.0.match_id(4)?.expect_constructed()?;
    let name = parts.into_iter().next()?.expect_primitive()?;
    String::from_utf8(name).ok()
}

/// The server's answer, for the log.
fn in_words(answer: &LdapResult) -> String {
    match answer.text.as_str() {
        "" => answer.to_string(),
        text => format!("{answer}: {text}"),
    }
}
