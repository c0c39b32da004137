//! One line of an HBA file.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;

use super::{Method, ReadFile, Rule};
use crate::ldap::{LdapFault, LdapOptions};
use crate::lines::{Word, WordFault, Words};

/// What kind of connection a line is about.
#[derive(Debug)]
pub(super) enum Record {
    /// Unix sockets.
    Local,
    /// TCP, encrypted or not.
    Host(Network),
    /// TCP under TLS.
    HostSsl(Network),
    /// TCP without TLS.
    HostNoSsl(Network),
}

/// Addresses that a line is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Network {
    All,
    V4 { network: u32, mask: u32 },
    V6 { network: u128, mask: u128 },
}

/// Databases that a line is about.
#[derive(Debug, Default)]
pub(super) struct Databases {
    pub(super) all: bool,
    /// The one that is called like the user.
    pub(super) same_user: bool,
    /// Physical replication, which belongs to no database.
    pub(super) replication: bool,
    pub(super) names: HashSet<String>,
}

/// Users that a line is about.
#[derive(Debug, Default)]
pub(super) struct Users {
    pub(super) all: bool,
    pub(super) names: HashSet<String>,
}

/// What can be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// A word that can't be read.
    #[error("{0}")]
    Word(#[from] WordFault),
    /// The line ends before it says this.
    #[error("it ends without {0}")]
    Missing(&'static str),
    /// A list where one word is expected.
    #[error("one {0} is expected")]
    NotOne(&'static str),
    /// The line does not begin with a record type.
    #[error("{0:?} is no type of record: expected local, host, hostssl or hostnossl")]
    Record(String),
    /// What PostgreSQL has, and neither PgBouncer nor we.
    #[error("{0:?} is not supported")]
    Unsupported(String),
    /// A file of names that can't be read.
    #[error("@{file}: {reason}")]
    Names {
        /// The file as it is written.
        file: String,
        /// What stands against it.
        reason: String,
    },
    /// No address.
    #[error("{0:?} is no address: expected all, an address with /bits, or an address and a mask")]
    Address(String),
    /// An address without a mask, or with one that does not fit it.
    #[error("{0:?} is no mask for this address")]
    Mask(String),
    /// An address with bits that its mask hides; PgBouncer, too, never finds anybody there.
    #[error("the address has bits outside its mask: nobody has such an address")]
    OutsideMask,
    /// No such method.
    #[error("{0:?} is no method that is supported")]
    Method(String),
    /// The method does not take this option.
    #[error("option {0:?} is not supported here")]
    Option(String),
    /// An LDAP option that is wrong, or that is missing.
    #[error("{0}")]
    Ldap(#[from] LdapFault),
}

pub(super) fn parse(mut words: Words<'_>, read: &mut ReadFile<'_>) -> Result<Option<Rule>, Fault> {
    if words.is_at_end() {
        return Ok(None);
    }
    let kind = one(&mut words, "record type")?.text;
    if !["local", "host", "hostssl", "hostnossl"].contains(&kind.as_str()) {
        return Err(Fault::Record(kind));
    }
    let databases = databases(names(&mut words, "database", read)?)?;
    let users = users(names(&mut words, "user", read)?)?;
    let record = match kind.as_str() {
        "hostssl" => Record::HostSsl(network(&mut words)?),
        "hostnossl" => Record::HostNoSsl(network(&mut words)?),
        "host" => Record::Host(network(&mut words)?),
        _ => Record::Local,
    };
    Ok(Some(Rule {
        record,
        databases,
        users,
        method: method(words)?,
    }))
}

/// The next word, which is not a list.
fn one(words: &mut Words<'_>, what: &'static str) -> Result<Word, Fault> {
    let mut list = words.list()?;
    let word = list.pop().ok_or(Fault::Missing(what))?;
    if list.is_empty() {
        Ok(word)
    } else {
        Err(Fault::NotOne(what))
    }
}

/// The next list, with the contents of files in place of their `@names`.
fn names(
    words: &mut Words<'_>,
    what: &'static str,
    read: &mut ReadFile<'_>,
) -> Result<Vec<Word>, Fault> {
    let list = words.list()?;
    if list.is_empty() {
        return Err(Fault::Missing(what));
    }
    let mut names = Vec::new();
    for word in list {
        match word.after_sign('@') {
            Some(file) => names.extend(names_in(file, read)?),
            None => names.push(word),
        }
    }
    Ok(names)
}

fn names_in(file: &str, read: &mut ReadFile<'_>) -> Result<Vec<Word>, Fault> {
    let fault = |reason| Fault::Names {
        file: file.to_owned(),
        reason,
    };
    let text = read(file).map_err(fault)?;
    let mut names = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let line = Words::new(line).all();
        names.extend(line.map_err(|error| fault(error.to_string()))?);
    }
    match names.iter().find(|name| name.after_sign('@').is_some()) {
        Some(_) => Err(fault("it names another file".to_owned())),
        None => Ok(names),
    }
}

fn databases(words: Vec<Word>) -> Result<Databases, Fault> {
    let mut databases = Databases::default();
    for word in words {
        if word.is("all") {
            databases.all = true;
        } else if word.is("sameuser") {
            databases.same_user = true;
        } else if word.is("replication") {
            databases.replication = true;
        } else if word.is("samerole") || word.is("samegroup") {
            return Err(Fault::Unsupported(word.text));
        } else {
            databases.names.insert(name(word)?);
        }
    }
    Ok(databases)
}

fn users(words: Vec<Word>) -> Result<Users, Fault> {
    let mut users = Users::default();
    for word in words {
        if word.is("all") {
            users.all = true;
        } else if word.after_sign('+').is_some() {
            return Err(Fault::Unsupported(word.text));
        } else {
            users.names.insert(name(word)?);
        }
    }
    Ok(users)
}

/// A plain name; patterns, which begin with a slash, are not supported.
fn name(word: Word) -> Result<String, Fault> {
    match word.after_sign('/') {
        Some(_) => Err(Fault::Unsupported(word.text)),
        None => Ok(word.text),
    }
}

fn network(words: &mut Words<'_>) -> Result<Network, Fault> {
    let word = one(words, "address")?;
    if word.is("all") {
        return Ok(Network::All);
    }
    let text = word.text;
    if let Some((address, bits)) = text.split_once('/') {
        let address: IpAddr = address.parse().map_err(|_| Fault::Address(text.clone()))?;
        let bits = bits.parse().map_err(|_| Fault::Mask(bits.to_owned()))?;
        return with_prefix(address, bits);
    }
    let address: IpAddr = text.parse().map_err(|_| Fault::Address(text))?;
    let mask = one(words, "mask")?.text;
    match (address, mask.parse()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(mask))) => v4(address.to_bits(), mask.to_bits()),
        (IpAddr::V6(address), Ok(IpAddr::V6(mask))) => v6(address.to_bits(), mask.to_bits()),
        _ => Err(Fault::Mask(mask)),
    }
}

fn with_prefix(address: IpAddr, bits: u32) -> Result<Network, Fault> {
    let hidden = |all: u32| {
        all.checked_sub(bits)
            .ok_or_else(|| Fault::Mask(bits.to_string()))
    };
    // A shift by all bits leaves none: everything is hidden.
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(hidden(u32::BITS)?).unwrap_or(0);
            v4(address.to_bits(), mask)
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(hidden(u128::BITS)?).unwrap_or(0);
            v6(address.to_bits(), mask)
        }
    }
}

fn v4(network: u32, mask: u32) -> Result<Network, Fault> {
    match network & !mask {
        0 => Ok(Network::V4 { network, mask }),
        _ => Err(Fault::OutsideMask),
    }
}

fn v6(network: u128, mask: u128) -> Result<Network, Fault> {
    match network & !mask {
        0 => Ok(Network::V6 { network, mask }),
        _ => Err(Fault::OutsideMask),
    }
}

fn method(mut words: Words<'_>) -> Result<Method, Fault> {
    let name = one(&mut words, "method")?.text;
    let method = match name.as_str() {
        "trust" => Method::Trust,
        "reject" => Method::Reject,
        "md5" => Method::Md5,
        "password" => Method::Password,
        "scram-sha-256" => Method::ScramSha256,
        "pam" => Method::Pam,
        "cert" => {
            let map = map(words)?;
            return Ok(Method::Cert { map });
        }
        "peer" => {
            let map = map(words)?;
            return Ok(Method::Peer { map });
        }
        "ldap" => return Ok(Method::Ldap(Arc::new(LdapOptions::read(words)?))),
        _ => return Err(Fault::Method(name)),
    };
    // What an option would have forbidden must not be allowed for want of understanding it.
    match words.option()? {
        Some(option) => Err(Fault::Option(key(&option).to_owned())),
        None => Ok(method),
    }
}

/// The option `map=name`, the only one there may be.
fn map(mut words: Words<'_>) -> Result<Option<Arc<str>>, Fault> {
    let mut map = None;
    while let Some(option) = words.option()? {
        match option.text.split_once('=') {
            Some(("map", name)) if !name.is_empty() => map = Some(name.into()),
            _ => return Err(Fault::Option(key(&option).to_owned())),
        }
    }
    Ok(map)
}

/// An option without its value, which may be a secret.
fn key(option: &Word) -> &str {
    option
        .text
        .split_once('=')
        .map_or(&option.text, |(key, _)| key)
}
