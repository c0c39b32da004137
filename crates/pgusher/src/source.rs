//! Where the configuration comes from, each time that it is read: a file, or in a container the
//! environment as well.

use std::path::{Path, PathBuf};

use settings::{Config, ConfigError};

/// The environment, and how much it may say.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The variables of the process.
    pub(crate) environment: Vec<(String, String)>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A file, and `PGUSHER_<KEY>` over it.
    Host,
    /// A file, and where there is none, the variables that images of PgBouncer know.
    Container,
}

/// Where inis are mounted in containers, in the order in which they are looked for.
const MOUNTED: [&str; 2] = ["/etc/pgusher/pgusher.ini", "/etc/pgbouncer/pgbouncer.ini"];

impl Source {
    pub(crate) fn host(environment: Vec<(String, String)>) -> Self {
        Self {
            environment,
            kind: Kind::Host,
        }
    }

    pub(crate) fn container(environment: Vec<(String, String)>) -> Self {
        Self {
            environment,
            kind: Kind::Container,
        }
    }

    /// Reads the configuration.
    pub(crate) fn read(&self, path: &Path) -> Result<Config, ConfigError> {
        let environment = self.environment.clone();
        match self.kind {
            Kind::Host => Config::load(path, environment),
            Kind::Container => Config::load_in_container(path, environment),
        }
    }
}

/// The ini of a container that was not told of another: one that is mounted, or where PgBouncer's
/// would be, but next to a user list that is mounted.
pub(crate) fn mounted() -> PathBuf {
    let [_, usual] = MOUNTED;
    let all = || MOUNTED.iter().map(Path::new);
    let ini = all().find(|ini| ini.exists());
    let beside_users = || all().find(|ini| ini.with_file_name("userlist.txt").exists());
    ini.or_else(beside_users)
        .unwrap_or(Path::new(usual))
        .to_owned()
}
