//! LDAP options, as HBA lines and `auth_ldap_options` have them: which server is asked, and what.

#[cfg(test)]
mod tests;
mod url;

use thiserror::Error;

use crate::lines::{WordFault, Words};
use crate::secret::Password;

/// Stands for the user's name in a filter.
const USERNAME: &str = "$username";

/// How a user is looked up, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct LdapOptions {
    /// Servers, to be tried in this order until one is reached.
    pub servers: Vec<LdapServer>,
    /// How the connection is encrypted.
    pub encryption: LdapEncryption,
    /// From a user's name to its entry.
    pub lookup: Lookup,
}

/// A server's name or address, and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LdapServer {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// How a connection to an LDAP server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LdapEncryption {
    /// Not at all.
    None,
    /// From the first byte (`ldaps`).
    Tls,
    /// As soon as the server has been asked to (`ldaptls=1`).
    StartTls,
}

/// From a user's name to its entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// The name is a part of the entry's.
    Name(EntryName),
    /// The server is asked which entry it is.
    Search(Search),
}

/// The name of an entry around the name of its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName {
    prefix: String,
    suffix: String,
}

/// The question which entry a user has.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Where in the tree the search begins.
    pub base: String,
    /// How far it goes from there.
    pub scope: LdapScope,
    /// As whom we ask; nobody in particular without it.
    pub bind: Option<(String, Password)>,
    /// The filter, with `$username`.
    filter: String,
}

/// How far a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LdapScope {
    /// The base alone.
    Base,
    /// The entries right below it.
    One,
    /// The base and all below.
    Subtree,
}

/// What can be wrong with LDAP options.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LdapFault {
    /// A word that can't be read.
    #[error("{0}")]
    Word(#[from] WordFault),
    /// A key that we don't know.
    #[error("{0:?} is no LDAP option")]
    Unknown(String),
    /// Not `key=value`; not shown, for it may be the rest of a password.
    #[error("expected LDAP options, key=value or key=\"value with blanks\"")]
    NotAnOption,
    /// A value that its key can't take.
    #[error("{key}: expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What would have been taken.
        expected: &'static str,
    },
    /// Nobody is there to be asked.
    #[error("ldapserver or ldapurl is missing")]
    NoServer,
    /// No way from a user's name to its entry.
    #[error("ldapbasedn, ldapprefix or ldapsuffix is missing")]
    NoLookup,
    /// Two ways at once.
    #[error("ldapprefix and ldapsuffix can't be used together with what searches need")]
    TwoLookups,
    /// Two filters at once.
    #[error("ldapsearchattribute can't be used together with ldapsearchfilter")]
    TwoFilters,
}

impl LdapOptions {
    /// Reads options in the form `key=value key="value"`.
    pub fn parse(text: &str) -> Result<Self, LdapFault> {
        Self::read(Words::new(text.as_bytes()))
    }

    pub(crate) fn read(mut words: Words<'_>) -> Result<Self, LdapFault> {
        let mut given = Given::default();
        while let Some(option) = words.option()? {
            let pair = option.text.split_once('=');
            let (key, value) = pair.ok_or(LdapFault::NotAnOption)?;
            given.take(key, value)?;
        }
        given.settle()
    }
}

impl EntryName {
    /// The name of this user's entry.
    pub fn of(&self, user: &str) -> String {
        format!("{}{user}{}", self.prefix, self.suffix)
    }
}

impl Search {
    /// The filter that finds this user. The name is the client's choice, so what would be syntax
    /// in it is escaped.
    pub fn filter_for(&self, user: &str) -> String {
        let mut name = String::with_capacity(user.len());
        for char in user.chars() {
            match char {
                '*' => name.push_str("\\2a"),
                '(' => name.push_str("\\28"),
                ')' => name.push_str("\\29"),
                '\\' => name.push_str("\\5c"),
                '\0' => name.push_str("\\00"),
                char => name.push(char),
            }
        }
        self.filter.replace(USERNAME, &name)
    }
}

/// The options as they were written.
#[derive(Default)]
struct Given {
    hosts: Vec<String>,
    port: Option<u16>,
    secure_scheme: bool,
    start_tls: bool,
    prefix: Option<String>,
    suffix: Option<String>,
    base: Option<String>,
    bind_dn: Option<String>,
    bind_password: Option<String>,
    attribute: Option<String>,
    filter: Option<String>,
    scope: Option<LdapScope>,
}

impl Given {
    fn take(&mut self, key: &str, value: &str) -> Result<(), LdapFault> {
        let text = || Some(value.to_owned());
        match key {
            "ldapserver" => {
                self.hosts = value.split_ascii_whitespace().map(str::to_owned).collect();
            }
            "ldapport" => self.port = Some(port(value)?),
            "ldapscheme" => self.secure_scheme = is_secure(value)?,
            "ldaptls" => {
                self.start_tls = match value {
                    "1" => true,
                    "0" => false,
                    _ => return Err(wrong("ldaptls", "0 or 1")),
                }
            }
            "ldapprefix" => self.prefix = text(),
            "ldapsuffix" => self.suffix = text(),
            "ldapbasedn" => self.base = text(),
            "ldapbinddn" => self.bind_dn = text(),
            "ldapbindpasswd" => self.bind_password = text(),
            "ldapsearchattribute" => self.attribute = text(),
            "ldapsearchfilter" => self.filter = text(),
            "ldapurl" => self.take_url(value)?,
            key => return Err(LdapFault::Unknown(key.to_owned())),
        }
        Ok(())
    }

    fn take_url(&mut self, text: &str) -> Result<(), LdapFault> {
        let url = url::parse(text)?;
        self.secure_scheme = url.is_secure;
        self.hosts = url.host.into_iter().collect();
        self.port = url.port.or(self.port);
        self.base = url.base;
        self.attribute = url.attribute;
        self.filter = url.filter;
        self.scope = Some(url.scope);
        Ok(())
    }

    fn settle(self) -> Result<LdapOptions, LdapFault> {
        if self.hosts.is_empty() {
            return Err(LdapFault::NoServer);
        }
        if !self.hosts.iter().all(|host| is_host(host)) {
            return Err(wrong("ldapserver", "names or addresses, parted by blanks"));
        }
        let encryption = match (self.secure_scheme, self.start_tls) {
            (true, _) => LdapEncryption::Tls,
            (false, true) => LdapEncryption::StartTls,
            (false, false) => LdapEncryption::None,
        };
        let usual_port = if self.secure_scheme { 636 } else { 389 };
        let port = self.port.unwrap_or(usual_port);
        let hosts = self.hosts.clone().into_iter();
        Ok(LdapOptions {
            servers: hosts.map(|host| LdapServer { host, port }).collect(),
            encryption,
            lookup: self.lookup()?,
        })
    }

    fn lookup(self) -> Result<Lookup, LdapFault> {
        let searches = self.base.is_some()
            || self.bind_dn.is_some()
            || self.bind_password.is_some()
            || self.attribute.is_some()
            || self.filter.is_some();
        if self.prefix.is_some() || self.suffix.is_some() {
            if searches {
                return Err(LdapFault::TwoLookups);
            }
            return Ok(Lookup::Name(EntryName {
                prefix: self.prefix.unwrap_or_default(),
                suffix: self.suffix.unwrap_or_default(),
            }));
        }
        let base = self.base.ok_or(LdapFault::NoLookup)?;
        let filter = match (self.attribute, self.filter) {
            (Some(_), Some(_)) => return Err(LdapFault::TwoFilters),
            (None, Some(filter)) if filter.starts_with('(') => filter,
            (None, Some(filter)) => format!("({filter})"),
            (Some(attribute), None) => format!("({attribute}={USERNAME})"),
            (None, None) => format!("(uid={USERNAME})"),
        };
        let password = Password::new(self.bind_password.unwrap_or_default());
        Ok(Lookup::Search(Search {
            base,
            scope: self.scope.unwrap_or(LdapScope::Subtree),
            bind: self.bind_dn.map(|name| (name, password)),
            filter,
        }))
    }
}

fn wrong(key: &'static str, expected: &'static str) -> LdapFault {
    LdapFault::Value { key, expected }
}

fn port(text: &str) -> Result<u16, LdapFault> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or(wrong("ldapport", "a number from 1 to 65535"))
}

fn is_secure(scheme: &str) -> Result<bool, LdapFault> {
    match scheme {
        "ldaps" => Ok(true),
        "ldap" => Ok(false),
        _ => Err(wrong("ldapscheme", "ldap or ldaps")),
    }
}

/// A name, or an address, and nothing that would mean something else within an URL.
fn is_host(text: &str) -> bool {
    let in_names = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    !text.is_empty() && text.bytes().all(in_names)
}
