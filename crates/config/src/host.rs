//! Where a server or a peer listens.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use crate::values::SettingValue;

/// One host of a connection string.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name to resolve.
    Name(String),
    /// An address.
    Ip(IpAddr),
    /// The place of a unix socket.
    Unix(SocketDir),
}

impl Host {
    pub(crate) const EXPECTS: &'static str =
        "a host name, an IPv4 or IPv6 address, /directory or @name (the port goes into port=)";

    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(dir) = SocketDir::parse_rooted(text) {
            return Some(Self::Unix(dir));
        }
        if let Ok(ip) = text.parse() {
            return Some(Self::Ip(ip));
        }
        // An address with a zone is left to the resolver, which knows the interfaces.
        let zoned = text
            .split_once('%')
            .is_some_and(|(ip, _)| ip.parse::<Ipv6Addr>().is_ok());
        let name = !text.is_empty() && !text.contains([':', '=', '/', '@', ' ']);
        (zoned || name).then(|| Self::Name(text.to_owned()))
    }

    /// Reads a comma list; `None` if one of them is not a host, or there is none.
    pub(crate) fn parse_list(text: &str) -> Option<Vec<Self>> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let hosts: Vec<Self> = parts.map(Self::parse).collect::<Option<_>>()?;
        (!hosts.is_empty()).then_some(hosts)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix(dir) => dir.fmt(f),
        }
    }
}

/// Where unix sockets are: the socket itself is `.s.PGSQL.<port>` in there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SocketDir {
    /// A directory.
    Directory(PathBuf),
    /// A prefix in the abstract namespace, kept without its `@`.
    Abstract(String),
}

impl SocketDir {
    /// Reads what cannot be anything but a socket's place: `/directory` or `@name`.
    fn parse_rooted(text: &str) -> Option<Self> {
        match text.as_bytes() {
            [b'/', ..] => Some(Self::Directory(PathBuf::from(text))),
            [b'@', _, ..] => Some(Self::Abstract(text[1..].to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for SocketDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

impl SettingValue for Option<SocketDir> {
    const EXPECTS: &'static str = "a directory, @name, or nothing";

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" => None,
            "@" => return None,
            // A relative one is taken from the working directory.
            dir => SocketDir::parse_rooted(dir).or(Some(SocketDir::Directory(dir.into()))),
        })
    }

    fn show(&self) -> Option<String> {
        self.as_ref().map(SocketDir::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_an_address_a_directory_or_an_abstract_name() {
        let hosts = Host::parse_list("db.internal,10.0.0.1, ::1 ,/run/postgresql,@pg").unwrap();

        assert_eq!(
            hosts,
            [
                Host::Name("db.internal".into()),
                Host::Ip("10.0.0.1".parse().unwrap()),
                Host::Ip("::1".parse().unwrap()),
                Host::Unix(SocketDir::Directory("/run/postgresql".into())),
                Host::Unix(SocketDir::Abstract("pg".into())),
            ]
        );
    }

    #[test]
    fn a_host_is_printed_as_it_was_written() {
        for written in [
            "db-1_a",
            "127.0.0.1",
            "fe80::1",
            "fe80::1%eth0",
            "/tmp",
            "@pg",
        ] {
            assert_eq!(Host::parse(written).unwrap().to_string(), written);
        }
    }

    #[test]
    fn a_port_or_a_lost_key_in_host_is_noticed() {
        for refused in ["db:5432", "port=5432", "", "@", "user@db"] {
            assert_eq!(Host::parse(refused), None, "{refused}");
        }
        assert_eq!(Host::parse_list(","), None);
    }
}
