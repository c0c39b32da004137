//! The SHOW tables: their names, and what they are drawn from.
//!
//! A new table is one file in `show/`, one variant of [`Show`] and one line in [`TOPICS`].

mod blockers;
mod clients;
mod config;
mod databases;
mod differences;
mod dns;
mod fds;
mod lists;
mod mem;
mod peers;
mod pools;
mod servers;
mod sockets;
mod state;
mod stats;
mod users;
mod version;
mod waiters;

#[cfg(test)]
mod tests;

use std::time::SystemTime;

use pool::snapshot::Snapshot;
use settings::Row;

pub use self::differences::Difference;
pub(crate) use self::version::table as version_table;
pub use self::version::{SERVER_VERSION, VERSION};
use crate::command::Privilege;
use crate::table::Table;

/// A table drawn from the pooler's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Connections that hold something.
    ActiveSockets,
    /// Who holds the servers.
    Blockers,
    /// Clients.
    Clients,
    /// Settings.
    Config,
    /// What the file says otherwise.
    ConfigDiff,
    /// Settings for those who may only look: secrets are masked.
    ConfigMasked,
    /// Databases.
    Databases,
    /// Remembered addresses of hosts.
    DnsHosts,
    /// Watched zones.
    DnsZones,
    /// Sockets by their numbers.
    Fds,
    /// Counts of things.
    Lists,
    /// What memory is used for.
    Mem,
    /// Configured peers.
    Peers,
    /// Connections to peers.
    PeerPools,
    /// Pools.
    Pools,
    /// Server connections.
    Servers,
    /// Connections.
    Sockets,
    /// Active, paused or suspended.
    State,
    /// Totals and averages of each database.
    Stats,
    /// Averages of each database.
    StatsAverages,
    /// Totals of each database.
    StatsTotals,
    /// Totals and averages of everything.
    Totals,
    /// Users.
    Users,
    /// Who waits for a server.
    Waiters,
}

/// What SHOW may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The commands there are.
    Help,
    /// Who we are.
    Version,
    /// A table.
    Table(Show),
}

/// Every topic and its name, in the lines of SHOW HELP.
const TOPICS: &[&[(&str, Topic)]] = &[
    &[
        ("HELP", Topic::Help),
        ("CONFIG", Topic::Table(Show::Config)),
        ("DATABASES", Topic::Table(Show::Databases)),
        ("POOLS", Topic::Table(Show::Pools)),
        ("CLIENTS", Topic::Table(Show::Clients)),
        ("SERVERS", Topic::Table(Show::Servers)),
        ("USERS", Topic::Table(Show::Users)),
        ("VERSION", Topic::Version),
    ],
    &[
        ("PEERS", Topic::Table(Show::Peers)),
        ("PEER_POOLS", Topic::Table(Show::PeerPools)),
    ],
    &[
        ("FDS", Topic::Table(Show::Fds)),
        ("SOCKETS", Topic::Table(Show::Sockets)),
        ("ACTIVE_SOCKETS", Topic::Table(Show::ActiveSockets)),
        ("LISTS", Topic::Table(Show::Lists)),
        ("MEM", Topic::Table(Show::Mem)),
        ("STATE", Topic::Table(Show::State)),
    ],
    &[
        ("DNS_HOSTS", Topic::Table(Show::DnsHosts)),
        ("DNS_ZONES", Topic::Table(Show::DnsZones)),
    ],
    &[
        ("STATS", Topic::Table(Show::Stats)),
        ("STATS_TOTALS", Topic::Table(Show::StatsTotals)),
        ("STATS_AVERAGES", Topic::Table(Show::StatsAverages)),
        ("TOTALS", Topic::Table(Show::Totals)),
    ],
    &[
        ("WAITERS", Topic::Table(Show::Waiters)),
        ("BLOCKERS", Topic::Table(Show::Blockers)),
        ("CONFIG_DIFF", Topic::Table(Show::ConfigDiff)),
    ],
];

impl Topic {
    /// The topic of that name, in any letter case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        TOPICS
            .iter()
            .copied()
            .flatten()
            .find(|(topic, _)| topic.eq_ignore_ascii_case(name))
            .map(|&(_, topic)| topic)
    }

    /// The SHOW lines of SHOW HELP.
    pub(crate) fn usage() -> impl Iterator<Item = String> {
        TOPICS.iter().map(|line| {
            let names: Vec<&str> = line.iter().map(|(name, _)| *name).collect();
            format!("SHOW {}", names.join("|"))
        })
    }
}

/// All that tables are drawn from.
pub struct View<'a> {
    /// The merged snapshot.
    pub snapshot: &'a Snapshot,
    /// The settings in force, in the order of SHOW CONFIG.
    pub settings: &'a [Row],
    /// What the file says otherwise; only for its table.
    pub differences: &'a [Difference],
    /// Words a time as `YYYY-MM-DD HH:MM:SS TZ`, in local time.
    pub local_time: &'a dyn Fn(SystemTime) -> String,
}

impl Show {
    /// The same table, as a session of this privilege may see it.
    pub(crate) fn seen_by(self, privilege: Privilege) -> Self {
        match (self, privilege) {
            (Self::Config, Privilege::Stats) => Self::ConfigMasked,
            (show, _) => show,
        }
    }

    /// The table without what it is drawn from, for its columns.
    pub(crate) fn header(self) -> Table {
        self.table(&View {
            snapshot: &Snapshot::default(),
            settings: &[],
            differences: &[],
            local_time: &|_| String::new(),
        })
    }

    /// Whether it tells of single clients and servers, of which there may be thousands.
    pub fn lists_connections(self) -> bool {
        matches!(
            self,
            Self::ActiveSockets
                | Self::Blockers
                | Self::Clients
                | Self::Fds
                | Self::Mem
                | Self::Servers
                | Self::Sockets
                | Self::Waiters
        )
    }

    /// Draws the table.
    pub fn table(self, view: &View<'_>) -> Table {
        match self {
            Self::ActiveSockets => sockets::active(view),
            Self::Blockers => blockers::table(view),
            Self::Clients => clients::table(view),
            Self::Config => config::table(view),
            Self::ConfigDiff => differences::table(view),
            Self::ConfigMasked => config::masked(view),
            Self::Databases => databases::table(view),
            Self::DnsHosts => dns::hosts(view),
            Self::DnsZones => dns::zones(view),
            Self::Fds => fds::table(view),
            Self::Lists => lists::table(view),
            Self::Mem => mem::table(view),
            Self::Peers => peers::table(view),
            Self::PeerPools => peers::pools(view),
            Self::Pools => pools::table(view),
            Self::Servers => servers::table(view),
            Self::Sockets => sockets::all(view),
            Self::State => state::table(view),
            Self::Stats => stats::all(view),
            Self::StatsAverages => stats::averages(view),
            Self::StatsTotals => stats::totals(view),
            Self::Totals => stats::sums(view),
            Self::Users => users::table(view),
            Self::Waiters => waiters::table(view),
        }
    }
}
