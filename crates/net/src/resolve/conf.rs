//! resolv.conf: which DNS servers are asked, and for what names; and the hosts file.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// The port of DNS.
const PORT: u16 = 53;

/// Servers that are asked at most, as elsewhere.
const SERVERS_MAX: usize = 3;

/// Names that the system itself knows.
const HOSTS_FILE: &str = "/etc/hosts";

/// What a resolv.conf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// The servers to ask, in this order.
    pub(super) servers: Vec<SocketAddr>,
    /// Domains that short names may be in.
    pub(super) search: Vec<String>,
    /// A name with so many dots is looked up as it stands first.
    pub(super) ndots: usize,
    /// How long each server is given.
    pub(super) timeout: Duration,
    /// How often all servers are asked.
    pub(super) attempts: u32,
}

impl ResolvConf {
    /// Reads a file.
    pub(super) async fn load(path: &Path) -> io::Result<Self> {
        let text = read(path).await.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        Ok(Self::parse(&text))
    }

    /// Takes what it understands, as every resolver does.
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(server);
                    conf.servers.extend(server);
                }
                // Of these the last one counts.
                Some("domain" | "search") => {
                    conf.search = words.map(str::to_owned).collect();
                }
                Some("options") => words.for_each(|option| conf.take_option(option)),
                _ => {}
            }
        }
        conf.servers.truncate(SERVERS_MAX);
        if conf.servers.is_empty() {
            conf.servers.push(([127, 0, 0, 1], PORT).into());
        }
        conf
    }

    fn take_option(&mut self, option: &str) {
        let Some((name, Ok(number))) = option
            .split_once(':')
            .map(|(name, number)| (name, number.parse::<u32>()))
        else {
            return;
        };
        match name {
            "ndots" => self.ndots = number.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(number.clamp(1, 30).into()),
            "attempts" => self.attempts = number.clamp(1, 5),
            _ => {}
        }
    }

    /// The full names that a name may stand for, the likeliest first.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(full) = name.strip_suffix('.') {
            return vec![full.to_owned()];
        }
        let within = |domain: &String| format!("{name}.{}", domain.trim_end_matches('.'));
        let mut candidates: Vec<String> = self.search.iter().map(within).collect();
        let place = match name.matches('.').count() >= self.ndots {
            true => 0,
            false => candidates.len(),
        };
        candidates.insert(place, name.to_owned());
        candidates
    }
}

/// A server's address, perhaps with a port: `10.0.0.1`, `10.0.0.1:5353`, `[fe80::1]:5353`.
fn server(text: &str) -> Option<SocketAddr> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    address.or_else(|_| text.parse()).ok()
}

/// The addresses of a name in the system's hosts file.
pub(super) async fn in_hosts_file(name: &str) -> Vec<IpAddr> {
    // Without one, nothing is in it.
    let text = read(Path::new(HOSTS_FILE)).await.unwrap_or_default();
    hosts(&text, name)
}

fn hosts(text: &str, wanted: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let line = line.split('#').next()?;
        let mut words = line.split_whitespace();
        let ip = words.next()?.parse().ok()?;
        words
            .any(|name| name.eq_ignore_ascii_case(wanted))
            .then_some(ip)
    };
    text.lines().filter_map(line).collect()
}

async fn read(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || std::fs::read_to_string(path));
    reading.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_which_servers_are_asked_and_how() {
        let text = "# ours\n\
            nameserver 10.0.0.1\n\
            nameserver 127.0.0.1:5353 ; another port\n\
            nameserver [::1]:5353\n\
            nameserver 10.0.0.4\n\
            nameserver nonsense\n\
            domain old.example\n\
            search app.svc svc\n\
            options ndots:5 timeout:0 attempts:9 rotate\n";
        let servers = ["10.0.0.1:53", "127.0.0.1:5353", "[::1]:5353"];
        let expected = ResolvConf {
            servers: servers.map(|server| server.parse().unwrap()).into(),
            search: vec!["app.svc".to_owned(), "svc".to_owned()],
            ndots: 5,
            timeout: Duration::from_secs(1),
            attempts: 5,
        };
        assert_eq!(ResolvConf::parse(text), expected);
    }

    #[test]
    fn an_empty_file_asks_this_machine() {
        let conf = ResolvConf::parse("");
        assert_eq!(conf.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(conf.candidates("db"), ["db"]);
    }

    #[test]
    fn short_names_are_looked_for_in_the_search_list_first() {
        let conf = ResolvConf::parse("search app.svc svc.\noptions ndots:2");
        let short = ["db.app.svc", "db.svc", "db"];
        assert_eq!(conf.candidates("db"), short);
        let long = [
            "db.example.org",
            "db.example.org.app.svc",
            "db.example.org.svc",
        ];
        assert_eq!(conf.candidates("db.example.org"), long);
        assert_eq!(conf.candidates("db.example.org."), ["db.example.org"]);
    }

    #[test]
    fn a_hosts_file_may_have_several_addresses_for_a_name() {
        let text = "127.0.0.1 localhost Box # this one\n::1 localhost\n# 10.0.0.1 localhost\nx y\n";
        let found = hosts(text, "LOCALHOST");
        assert_eq!(
            found,
            ["127.0.0.1", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        assert_eq!(hosts(text, "box").len(), 1);
        assert!(hosts(text, "this").is_empty());
    }
}
