//! The `auth_hba_file`: who may log in from where, and how.
//!
//! The first line that fits decides. A line that can't be read is skipped and told of.

mod line;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use crate::ldap::LdapOptions;
use crate::lines;

pub use self::line::Fault;
use self::line::{Databases, Network, Record, Users};

/// The rules of an `auth_hba_file`, without its broken lines.
#[derive(Debug, Default)]
pub struct Hba {
    rules: Vec<Rule>,
    findings: Vec<Finding>,
}

/// A line that was skipped, and why.
pub type Finding = lines::Finding<Fault>;

/// A line of the file.
#[derive(Debug)]
struct Rule {
    record: Record,
    databases: Databases,
    users: Users,
    method: Method,
}

/// How a client is to prove who it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Not at all, if the user is known.
    Trust,
    /// It can't.
    Reject,
    /// By MD5, or by SCRAM if a verifier is stored.
    Md5,
    /// With the password in clear.
    Password,
    /// By SCRAM-SHA-256.
    ScramSha256,
    /// With a TLS certificate for the user's name, or for one that the map turns into it.
    Cert {
        /// The map, if one is to be used.
        map: Option<Arc<str>>,
    },
    /// By the account that its process runs as: the user's namesake, or one that the map turns
    /// into the user.
    Peer {
        /// The map, if one is to be used.
        map: Option<Arc<str>>,
    },
    /// With a password that an LDAP server takes.
    Ldap(Arc<LdapOptions>),
    /// With a password that the system's PAM stack takes.
    Pam,
}

/// A client at the door.
#[derive(Debug, Clone, Copy)]
pub struct Visitor<'a> {
    /// How it came here.
    pub from: Origin,
    /// The database that it asks for; physical replication asks for none.
    pub database: Option<&'a str>,
    /// Who it says it is.
    pub user: &'a str,
}

/// How a client came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Over a unix socket.
    Unix,
    /// Over TCP.
    Tcp {
        /// From this address.
        address: IpAddr,
        /// Whether its connection is encrypted.
        tls: bool,
    },
}

/// Gives the contents of a file that a line names with `@`, or the reason why it can't.
pub type ReadFile<'r> = dyn FnMut(&str) -> Result<Vec<u8>, String> + 'r;

impl Hba {
    /// Reads a file's contents.
    pub fn parse(text: &[u8], read: &mut ReadFile<'_>) -> Self {
        let (rules, findings) = lines::read(text, |words| line::parse(words, read));
        Self { rules, findings }
    }

    /// How this client is to prove who it is; `None` if no line is about it.
    pub fn method_for(&self, visitor: Visitor<'_>) -> Option<&Method> {
        let rule = self.rules.iter().find(|rule| rule.is_about(visitor))?;
        Some(&rule.method)
    }

    /// The methods that lines name, in order.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        self.rules.iter().map(|rule| &rule.method)
    }

    /// The lines that were skipped.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl Rule {
    fn is_about(&self, visitor: Visitor<'_>) -> bool {
        self.record.covers(visitor.from)
            && self.databases.contain(visitor)
            && self.users.contain(visitor.user)
    }
}

impl Record {
    fn covers(&self, from: Origin) -> bool {
        let (network, address) = match (self, from) {
            (Self::Local, Origin::Unix) => return true,
            (Self::Local, _) | (_, Origin::Unix) => return false,
            (Self::Host(network), Origin::Tcp { address, .. })
            | (Self::HostSsl(network), Origin::Tcp { address, tls: true })
            | (
                Self::HostNoSsl(network),
                Origin::Tcp {
                    address,
                    tls: false,
                },
            ) => (network, address),
            (Self::HostSsl(_) | Self::HostNoSsl(_), Origin::Tcp { .. }) => return false,
        };
        network.contains(address)
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        // A socket for both families tells IPv4 addresses as IPv6 ones.
        match (self, address.to_canonical()) {
            (Self::All, _) => true,
            (Self::V4 { network, mask }, IpAddr::V4(ip)) => ip.to_bits() & mask == network,
            (Self::V6 { network, mask }, IpAddr::V6(ip)) => ip.to_bits() & mask == network,
            (Self::V4 { .. }, IpAddr::V6(_)) | (Self::V6 { .. }, IpAddr::V4(_)) => false,
        }
    }
}

impl Databases {
    fn contain(&self, visitor: Visitor<'_>) -> bool {
        let Some(database) = visitor.database else {
            return self.replication;
        };
        self.all || (self.same_user && database == visitor.user) || self.names.contains(database)
    }
}

impl Users {
    fn contain(&self, user: &str) -> bool {
        self.all || self.names.contains(user)
    }
}
